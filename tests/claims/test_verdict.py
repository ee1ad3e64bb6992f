"""The rule of decision, the corrections for many tests, and what is written."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from landscape_sweep.claims import evaluate, table, write_claims
from landscape_sweep.claims.association import partially_correlated
from landscape_sweep.claims.question import Question, p_of_decision
from landscape_sweep.claims.verdict import Region, decide, listed, shortage
from landscape_sweep.statistics import Estimate, Proportion, Unanimous


@pytest.mark.parametrize(
    ("interval", "region", "verdict"),
    [
        ((0.1, 0.3), (0.0, math.inf), "SUPPORTED"),
        ((-0.3, -0.1), (0.0, math.inf), "REFUTED"),
        ((-0.1, 0.1), (0.0, math.inf), "INCONCLUSIVE"),
        ((-0.85, -0.75), (-0.9, -0.7), "SUPPORTED"),
        ((-0.95, -0.75), (-0.9, -0.7), "INCONCLUSIVE"),
        ((-0.99, -0.91), (-0.9, -0.7), "REFUTED"),
        ((1.0, 1.0), (1.0, 1.0), "SUPPORTED"),
        ((math.nan, 1.0), (0.0, 1.0), "INCONCLUSIVE"),
    ],
)
def test_the_rule(interval: tuple[float, float], region: tuple[float, float], verdict: str) -> None:
    assert decide(interval, region) == verdict


def test_too_little_data_is_said() -> None:
    assert "11 configurations" in shortage(11, 5, 0.0)
    assert "3 seeds a configuration and not 2" in shortage(12, 2, 0.0)
    assert "21%" in shortage(12, 3, 0.21)
    assert shortage(12, 3, 0.2) == ""


@pytest.mark.parametrize(
    "estimate",
    [
        Estimate(0.3, 0.2, 11),
        Estimate(-0.5, 0.3, 9, "fisher"),
        Proportion(3, 40),
        Proportion(0, 80),
        Unanimous(-1.0, 9),
    ],
)
@pytest.mark.parametrize("region", [Region(0, math.inf), Region(-0.2, 0.05), Region(0.4, 1)])
def test_p_is_the_smallest_alpha_that_decides(
    estimate: Estimate | Proportion | Unanimous, region: Region
) -> None:
    p = p_of_decision(estimate, region)
    if p > 1e-12:
        assert decide(estimate.interval(1 - 0.999 * p), region) == "INCONCLUSIVE"
    assert decide(estimate.interval(1 - max(1.001 * p, 1e-12)), region) != "INCONCLUSIVE"


def test_no_runs_are_answered_with_what_to_run() -> None:
    verdicts = evaluate(pd.DataFrame())
    measured = [v for v in verdicts if v.form != "analytic"]
    assert measured
    for verdict in measured:
        assert verdict.verdict == "INCONCLUSIVE"
        assert verdict.reason
        assert verdict.settled_by.startswith("experiment=")


def test_names_in_a_sentence() -> None:
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == [
        "a",
        "a and b",
        "a, b and c",
    ]


def test_claims_are_written_whole_and_without_nan(tmp_path: Path) -> None:
    write_claims(evaluate(pd.DataFrame({"outcome": ["completed"]})), tmp_path / "claims.json")

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    read = json.loads((tmp_path / "claims.json").read_text(), parse_constant=refuse)
    assert {
        "claim",
        "form",
        "verdict",
        "estimate",
        "interval",
        "configs",
        "seeds",
        "reason",
    } <= set(read[0])
    assert [file.name for file in tmp_path.iterdir()] == ["claims.json"]
    assert np.all([v["estimate"] is None for v in read if v["form"] != "analytic"])


def test_forks_are_not_networks_that_were_trained_apart() -> None:
    """Barriers between forks are low, and say nothing about independently trained networks."""
    barriers = {None: 2.0, 0: 1.0, 200: 0.01}
    runs = pd.DataFrame(
        [
            {
                **{"model.name": "resnet", "label": f"{width} {fork}", "seed": seed},
                **{"fork_step": fork, "outcome": "completed"},
                "connectivity/naive/barrier": height + 1e-3 * seed + 1e-3 * width,
            }
            for width in range(12)
            for fork, height in barriers.items()
            for seed in range(3)
        ]
    )
    for claim in ("conjecture_1.4", "finding_7.3"):
        (verdict,) = [v for v in evaluate(runs) if v.claim == claim and v.form == "literal"][:1]
        assert (verdict.verdict, verdict.configs) == ("REFUTED", 12)
        assert verdict.estimate == pytest.approx(2.0065)


def pairs_of_networks(cnn_loss: float, **stop: float) -> pd.DataFrame:
    """Twelve cells × three seeds of either network; the CNN's λ_max is four times the ResNet's."""
    return pd.DataFrame(
        [
            {
                "model.name": model,
                "batch_size": batch,
                "optimizer.lr": lr,
                "seed": seed,
                "train/initial_loss": 2.3,
                "train/loss": cnn_loss if model == "cnn" else 0.1,
                "hessian/lambda_max": (4 if model == "cnn" else 1) * (10 + batch + seed) / lr,
                "hessian/trace": 10.0 * batch / lr + seed,
                "sharpness/adaptive": (4 if model == "cnn" else 1) * (10 + batch + seed) / lr,
                **stop,
            }
            for model in ("cnn", "resnet")
            for batch in (1, 2, 4)
            for lr in (0.1, 0.2, 0.4, 0.8)
            for seed in range(3)
        ]
    )


@pytest.mark.parametrize(
    ("cnn_loss", "stop", "verdict", "reason", "settled_by"),
    [
        (0.1, {"stop.train_loss": 0.1}, "SUPPORTED", "stopped at training loss 0.1", ""),
        (
            *(0.3, {}, "INCONCLUSIVE", "were not stopped at one training loss"),
            "experiment=architecture",  # twelve configurations are enough, at equal losses
        ),
        (
            *(2.0, {"stop.train_loss": 0.1}, "INCONCLUSIVE", "No run came down to the training"),
            "experiment=architecture: 12 configurations × 3 seeds",
        ),
    ],
)
def test_networks_are_compared_at_equal_losses_alone(
    cnn_loss: float, stop: dict[str, float], verdict: str, reason: str, settled_by: str
) -> None:
    """Curvature under cross-entropy follows the loss: what reached a lower one looks flatter."""
    found = [
        v
        for v in evaluate(pairs_of_networks(cnn_loss, **stop))
        if v.claim == "conjecture_1.2" and "CNNs" in v.statement
    ]
    assert [v.form for v in found] == ["literal", "corrected"]
    for v in found:
        assert v.verdict == verdict
        assert reason in v.reason
        assert v.settled_by == settled_by


@pytest.mark.parametrize(("effect", "verdict"), [(0.0, "INCONCLUSIVE"), (1.0, "SUPPORTED")])
def test_early_curvature_is_compared_at_equal_batch_size(effect: float, verdict: str) -> None:
    """Small batches go further in an epoch, to more curvature, and take more steps: no evidence."""
    rng = np.random.default_rng(0)
    rows = []
    for lr, batch, decay, seed in itertools.product(
        (0.1, 0.2, 0.4), (10, 20, 40), (0.0, 0.1), range(8)
    ):
        early = rng.normal()
        rows.append(
            {
                "model.name": "cnn",
                **{"optimizer.lr": lr, "batch_size": batch, "optimizer.weight_decay": decay},
                "seed": seed,
                "early/lambda_max": np.exp(early) * 1000 / batch**2,
                "train/steps_to_loss": 4000 / batch + effect * early + 0.5 * rng.normal(),
                "train/steps": 1000,
            }
        )
    (found,) = [
        v
        for v in evaluate(pd.DataFrame(rows))
        if (v.claim, v.form) == ("conjecture_1.3", "corrected")
    ]
    assert found.verdict == verdict
    assert found.estimate == pytest.approx(0.0 if not effect else 0.7, abs=0.15)


def test_what_more_images_do_to_sharpness_and_accuracy_says_nothing_of_either() -> None:
    """Both follow n, and at equal n neither the other."""
    rng = np.random.default_rng(0)
    rows = []
    for n, lr, width in itertools.product((100, 1000, 10_000), (0.1, 0.2), range(6)):
        own = rng.normal(size=2)
        for seed in range(3):
            rows.append(
                {
                    "model.name": "cnn",
                    **{"optimizer.lr": lr, "data.train_size": n, "model.width": width},
                    "seed": seed,
                    "sharpness/sam": np.exp(-np.log(n) + own[0] + 0.1 * rng.normal()),
                    "test/accuracy": 0.1 * np.log(n) + 0.1 * own[1] + 0.01 * rng.normal(),
                }
            )
    found = {
        v.form: v
        for v in evaluate(pd.DataFrame(rows))
        if v.claim == "conjecture_1.1" and v.form != "analytic"
    }
    assert found["literal"].estimate < -0.4
    assert abs(found["corrected"].estimate) < 0.3
    assert found["corrected"].verdict == "INCONCLUSIVE"


def test_the_slope_at_matched_loss_is_not_decided_at_others() -> None:
    runs = pairs_of_networks(0.3)
    runs["train/loss"] = 0.3 + 0.02 * ((7 * runs["batch_size"] + 30 * runs["optimizer.lr"]) % 5)
    slopes = [
        v
        for v in evaluate(runs)
        if v.claim == "theorem_1" and "at matched training loss" in v.statement
    ]
    assert len(slopes) == 4
    assert {v.verdict for v in slopes} == {"INCONCLUSIVE"}
    assert all(np.isfinite(v.estimate) for v in slopes)


def test_random_labels_that_follow_the_seed_make_no_configurations() -> None:
    runs = pd.DataFrame(
        list(itertools.product(range(12), range(3))), columns=["model.width", "seed"]
    )
    for own, configs in ((runs["seed"], 12), (runs["seed"] % 2, 24)):
        prepared = table.prepared(runs.assign(**{"data.seed": own}))
        assert prepared[table.CONFIGURATION].nunique() == configs


def test_measures_that_order_runs_alike_are_one_test() -> None:
    runs = pairs_of_networks(0.3)
    runs["gap/loss"] = runs["hessian/trace"] ** -0.5
    runs["sharpness/second_order"] = 0.5 * 0.05**2 * runs["hessian/lambda_max"]
    asked = [v.quantity for v in evaluate(runs) if v.claim == "research_question_3"]
    assert sorted(set(asked)) == [
        "Ψ of hessian/lambda_max and the gap in loss",  # sharpness/adaptive is λ_max here
        "Ψ of hessian/trace and the gap in loss",
    ]


def test_flatness_and_accuracy_are_compared_among_runs_of_one_kind() -> None:
    """Runs that were stopped early are flat and test worse, which says nothing of minima."""
    flat = [
        {
            "label": f"{kind}{c}",
            "seed": seed,
            "optimizer.lr": 0.01 * (1 + c % 4),
            "batch_size": 10 * (1 + c // 4),
            "stop.train_loss": goal,
            "train/loss": 0.1 if goal else 2.0,
            "sharpness/sam": scale * (1 + c),
            "test/accuracy": accuracy - 0.01 * c + 0.002 * (c * 7 % 12),
        }
        for kind, goal, scale, accuracy in (("whole", 0.1, 0.05, 0.6), ("short", None, 1e-3, 0.3))
        for c in range(12)
        for seed in range(3)
    ]
    whole = [run for run in flat if run["stop.train_loss"]]
    for claim in ("conjecture_1.1", "finding_7.2"):
        both, alone = (
            next(v for v in evaluate(pd.DataFrame(runs)) if (v.claim, v.form) == (claim, "literal"))
            for runs in (flat, whole)
        )
        assert both.estimate == pytest.approx(alone.estimate)
        assert both.estimate < -0.8
        assert "stopped at training loss 0.1" in both.reason


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([0.1, 0.1, 0.1], "There are too few configurations."),
        ([0.1, 0.2, 0.3], "There are too few configurations to adjust for optimizer.lr."),
    ],
)
def test_too_few_configurations_name_the_controls_that_vary(
    rates: list[float], expected: str
) -> None:
    runs = pd.DataFrame(
        {
            "model.name": "cnn",
            "label": ["a", "b", "c"],
            "seed": 0,
            "outcome": "completed",
            "optimizer.lr": rates,
            "x": [1.0, 2.0, 3.0],
            "y": [1.0, 3.0, 2.0],
        }
    )
    question = Question(
        claim="a", form="literal", statement="", quantity="", region=Region(0.0, 1.0)
    )
    (verdict,) = partially_correlated(question, table.prepared(runs), "x", "y")
    assert verdict.reason == expected
