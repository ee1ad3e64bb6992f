"""Whatever table comes in, verdicts come out: small, ragged, constant, diverged, full of text."""

from __future__ import annotations

import json
import math
import tempfile
import warnings
from pathlib import Path

import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from landscape_sweep.claims import evaluate, write_claims

NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-300, 1e300]),
    st.integers(-3, 1000),
    st.none(),
    st.text(max_size=3),
)
COLUMNS = {
    "model.name": st.sampled_from(["cnn", "resnet", "mlp", None, 3]),
    "model.norm": st.sampled_from(["batch", "layer", "none", None]),
    "model.skip": st.sampled_from([True, False, None, "true"]),
    "batch_size": st.sampled_from([8, 32, 128, None]),
    "optimizer.lr": st.sampled_from([0.01, 0.1, None, "text"]),
    "optimizer.momentum": st.sampled_from([0.0, 0.9, 1.0, None]),
    "stop.train_loss": st.sampled_from([0.1, 0.01, None]),
    "fork_step": st.sampled_from([0, 40, None]),
    "data.label_noise": st.sampled_from([0.0, 1.0, None]),
    "data.loaded": st.sampled_from(["cifar10", "digits", "mine", None]),
    "probe.surface.directions": st.sampled_from(["filter", "random", None]),
    "loss": st.sampled_from(["mse", "cross_entropy", None]),
    "label": st.sampled_from(["a", "b", "c", None]),
    "seed": st.sampled_from([0, 1, 2, None]),
    "outcome": st.sampled_from(["completed", "completed", "diverged", "failed", None]),
    **dict.fromkeys(
        (
            *("hessian/trace", "hessian/lambda_max", "hessian/lambda_min", "sharpness/sam"),
            *("sharpness/adaptive", "test/accuracy", "gap/accuracy", "gap/loss", "train/loss"),
            *("train/initial_loss", "train/lr_sum", "train/steps", "train/steps_to_loss"),
            *("noise/trace", "noise/trajectory_trace", "measure/parameters", "measure/norm"),
            *("measure/train_images", "early/lambda_max", "early/loss", "early/test_accuracy"),
            *("stationarity/fdr_ratio", "stationarity/variance_slope", "surface/half_width"),
            *("pac_bayes/bound", "pac_bayes/test_error", "connectivity/naive/barrier"),
            *("connectivity/aligned_reset/excess", "connectivity/naive/accuracy_drop"),
            *("conditioning/log_kappa_plus", "conditioning/kappa_plus", "conditioning/log_rhs"),
            *("conditioning/layers", "rank/ggn", "rank/ggn_mse", "rank/hessian"),
            *("rank/samples", "rank/classes", "rank/effective", "measure/test_images"),
            *("test/loss_se", "pac_bayes/chance", "early/trace", "early/noise_scale"),
            "early/sharpness",
        ),
        NUMBERS,
    ),
}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Up to twenty runs of any of the columns, one kind of trouble a column."""
    rows = draw(st.integers(0, 20))
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), unique=True, max_size=len(COLUMNS)))
    whole = draw(st.booleans())  # half of the tables have a plain number wherever one belongs
    columns = {}
    for name in sorted(COLUMNS) if whole else names:
        values = COLUMNS[name]
        if whole and values is NUMBERS:
            values = st.floats(-2, 2)
        constant = draw(st.booleans()) and draw(st.booleans())
        columns[name] = (
            [draw(values)] * rows
            if constant
            else draw(st.lists(values, min_size=rows, max_size=rows))
        )
    return pd.DataFrame(columns)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables())
def test_any_table_gets_verdicts(table: pd.DataFrame) -> None:
    verdicts = evaluate(table)
    for verdict in verdicts:
        assert verdict.verdict in ("SUPPORTED", "REFUTED", "INCONCLUSIVE")
        low, high = verdict.interval
        assert math.isnan(low) == math.isnan(high) == math.isnan(verdict.estimate)
        assert math.isnan(low) or low <= verdict.estimate <= high
        assert verdict.reason
        assert bool(verdict.settled_by) == (verdict.verdict == "INCONCLUSIVE")
        if verdict.verdict != "INCONCLUSIVE" and verdict.form != "analytic":
            assert verdict.configs >= 12
            assert verdict.seeds >= 3
    with tempfile.TemporaryDirectory() as folder:
        write_claims(verdicts, Path(folder, "claims.json"))
        assert len(json.loads(Path(folder, "claims.json").read_text())) == len(verdicts)


def test_a_configuration_without_its_learning_rate_is_left_out() -> None:
    """η is adjusted for where it is told; found by the property above as a LinAlgError."""
    rates = [0.01, 0.03, 0.1, None] * 4
    table = pd.DataFrame(
        {
            "label": [f"c{i}" for i in range(16)],
            "optimizer.lr": rates,
            "sharpness/sam": [float(i * 7 % 16) for i in range(16)],
            "test/accuracy": [float(i * 5 % 16) / 16 for i in range(16)],
        }
    )
    found = [v for v in evaluate(table) if (v.claim, v.form) == ("conjecture_1.1", "corrected")]
    assert len(found) == 1
    assert math.isfinite(found[0].estimate)


def test_many_metrics_raise_no_warning() -> None:
    """A run of every probe has more than a hundred."""
    table = pd.DataFrame({f"dynamics/{i}": [0.0, 1.0] for i in range(150)} | {"seed": [0, 1]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluate(table)
