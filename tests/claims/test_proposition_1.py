"""The form of κ⁺'s growth with depth, and where it cannot be told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from landscape_sweep.claims import evaluate
from landscape_sweep.claims.verdict import Verdict


def verdict_on_growth(log_kappa: Callable[[float], float]) -> Verdict:
    """Of plain networks of depth 2 to 59 with three seeds, whose log κ⁺ is a function of depth."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "run_id": f"{depth}-{seed}",
            "label": f"mlp depth={depth}",
            "outcome": "completed",
            "model.name": "mlp",
            "model.depth": depth,
            "model.skip": False,
            "seed": seed,
            "stop.train_loss": 0.1,
            "train/loss": 0.09,
            "conditioning/layers": depth,
            "conditioning/log_kappa_plus": log_kappa(depth) + 0.05 * rng.standard_normal(),
        }
        for depth in range(2, 60, 3)
        for seed in range(3)
    ]
    (found,) = [
        verdict
        for verdict in evaluate(pd.DataFrame(rows))
        if verdict.claim == "proposition_1" and "exponentially" in verdict.statement
    ]
    return found


@pytest.mark.parametrize(
    ("log_kappa", "sign", "never"),
    [
        (lambda depth: 0.25 * depth, 1, "REFUTED"),
        (lambda depth: 4 * np.log(depth), -1, "SUPPORTED"),
    ],
)
def test_exponential_growth_leans_away_from_a_power(
    log_kappa: Callable[[float], float], sign: int, never: str
) -> None:
    """The difference of two R² is decided by few ends: its sign is known, its interval is wide."""
    found = verdict_on_growth(log_kappa)
    assert sign * found.estimate > 0.05
    assert found.verdict != never


def test_growth_into_the_probes_limit_is_not_judged() -> None:
    found = verdict_on_growth(lambda depth: min(2.5 * depth, np.log(0.99e8)))
    assert found.verdict == "INCONCLUSIVE"
    assert "not resolved" in found.reason


def test_a_kappa_that_is_not_resolved_does_not_break_eq_11() -> None:
    """Twelve configurations of κ⁺ = e¹⁰ under e²⁰ break it; twelve at the limit may be above."""
    rows = [
        {
            "label": f"width {width}",
            "model.name": "mlp",
            "model.width": width,
            "seed": seed,
            "conditioning/log_kappa_plus": 10.0 if width < 12 else np.log(0.99e8),
            "conditioning/log_rhs": 20.0,
        }
        for width in range(24)
        for seed in range(3)
    ]
    (found,) = [
        v for v in evaluate(pd.DataFrame(rows)) if (v.claim, v.primary) == ("proposition_1", True)
    ]
    assert found.estimate == pytest.approx(0.5)
    assert found.verdict == "REFUTED"
    assert "12 more are below it and not counted" in found.reason


def test_networks_with_a_remedy_do_not_break_eq_11_for_plain_ones() -> None:
    """Plain networks are not resolved; all others are below the right side of eq. 11."""
    rows = [
        {
            "label": f"width {width} {norm}",
            "model.name": "mlp",
            "model.width": width,
            "model.norm": norm,
            "seed": seed,
            "conditioning/log_kappa_plus": 10.0 if norm == "batch" else np.log(0.99e8),
            "conditioning/log_rhs": 20.0,
        }
        for width in range(80)
        for norm in ("none", "batch")
        for seed in range(3)
    ]
    plain, others = [
        v
        for v in evaluate(pd.DataFrame(rows))
        if v.claim == "proposition_1" and v.form == "literal" and v.region[1] == 0.05
    ]
    assert (plain.primary, plain.configs, plain.verdict) == (True, 80, "INCONCLUSIVE")
    assert plain.interval[1] < 0.05
    assert "κ⁺ of 80 of 80 configurations is not resolved" in plain.reason
    assert plain.settled_by == "experiment=depth_conditioning"  # and not more of the same
    assert (others.primary, others.estimate, others.verdict) == (False, 1.0, "REFUTED")


def test_what_grows_beyond_the_limit_is_not_said_to_stay() -> None:
    rows = [
        {
            "label": f"depth {depth} {width}",
            "model.name": "mlp",
            "model.depth": depth,
            "model.width": width,
            "model.skip": True,
            "seed": seed,
            "stop.train_loss": 0.1,
            "train/loss": 0.09,
            "conditioning/layers": depth,
            "conditioning/log_kappa_plus": np.log(0.99e8) - 1e-3 * ((depth * width + seed) % 7),
        }
        for depth in (2, 4, 8, 16)
        for width in range(5)
        for seed in range(3)
    ]
    (found,) = [v for v in evaluate(pd.DataFrame(rows)) if "does not grow" in v.statement]
    assert found.verdict == "INCONCLUSIVE"
    assert "100% of the runs is not resolved" in found.reason


def test_networks_are_compared_at_the_loss_that_all_came_down_to() -> None:
    """κ⁺ = L² e^{−1 with BatchNorm}; the deepest network without it learnt nothing, and is flat."""
    rows = [
        {
            "label": f"depth {depth} {width} {norm}",
            "model.name": "mlp",
            "model.depth": depth,
            "model.width": width,
            "model.norm": norm,
            "model.skip": False,
            "seed": seed,
            "stop.train_loss": 0.1,
            "train/loss": 2.3 if (stuck := depth == 16 and norm == "none") else 0.09,
            "conditioning/layers": depth,
            "conditioning/kappa_plus": 1.0
            if stuck
            else depth**2 * np.exp(noise - (norm == "batch")),
            "conditioning/log_kappa_plus": 0.0
            if stuck
            else 2 * np.log(depth) + noise - (norm == "batch"),
        }
        for depth in (2, 3, 4, 8, 16)
        for width in range(4)
        for norm in ("none", "batch")
        for seed in range(3)
        for noise in [1e-3 * ((depth * width + 5 * seed) % 7)]
    ]
    found = [v for v in evaluate(pd.DataFrame(rows)) if v.claim == "proposition_1" and v.configs]
    grows = {v.architecture: v for v in found if "grows with depth" in v.statement}
    assert {name: v.configs for name, v in grows.items()} == {
        "mlp norm=none": 16,
        "mlp norm=batch": 20,
    }
    (lowers,) = [v for v in found if v.statement.startswith("Batch normalisation lowers")]
    assert (lowers.architecture, lowers.configs) == ("mlp", 16)
    assert lowers.estimate == pytest.approx(np.exp(-1))
    for verdict in (*grows.values(), lowers):
        assert verdict.verdict == "SUPPORTED"
        assert "stopped at training loss 0.1; those that stayed above it" in verdict.reason
    assert all(v.estimate == pytest.approx(2, abs=0.01) for v in grows.values())
