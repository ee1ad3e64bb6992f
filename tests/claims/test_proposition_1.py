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
