"""Stationarity, equipartition and stability on simulated tables whose truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from landscape_sweep.claims import evaluate
from landscape_sweep.claims.verdict import Verdict

RATES, BATCHES, SEEDS = (0.005, 0.01, 0.02), (5, 10, 20, 40), (0, 1, 2)


def sweep(
    *,
    slope: float = 0.0,
    noise_slope: float = 1.0,
    plain_ratio: float = 1.0,
    edge: float = 1.0,
    bound: float = -0.5,
    loss: str = "mse",
    seed: int = 0,
) -> pd.DataFrame:
    """12 configurations × 3 seeds without weight decay and 12 × 3 with it.

    Weights vary as λ^slope and noise as λ^noise_slope, in each run up to its own estimation error;
    batch sharpness is ``edge`` · 2/η, and ‖H‖_F = √B/η · B^(−½ − bound).
    """
    rng = np.random.default_rng(seed)
    rows = []
    for decay, batch, lr, run_seed in itertools.product((0.0, 0.1), BATCHES, RATES, SEEDS):
        of_config = np.random.default_rng([seed, batch, round(1e4 * lr)]).normal(scale=0.03)
        rows.append(
            {
                "outcome": "completed",
                "model.name": "mlp",
                "loss": loss,
                "seed": run_seed,
                "batch_size": batch,
                "optimizer.lr": lr,
                "optimizer.momentum": 0.0,
                "optimizer.weight_decay": decay,
                "train/loss": 1e-3,
                "stationarity/fdr_ratio": (1.0 if decay else plain_ratio) + 0.01 * rng.normal(),
                "stationarity/loss_drift": 0.0,
                "stationarity/variance_slope": slope + of_config + 0.03 * rng.normal(),
                "stationarity/noise_slope": noise_slope + of_config + 0.03 * rng.normal(),
                "stationarity/variance_ratio": float(np.exp(of_config + 0.1 * rng.normal())),
                "stationarity/batch_sharpness": edge * 2 / lr * np.exp(0.05 * rng.normal()),
                "stationarity/frobenius": batch**-bound / lr * np.exp(0.02 * rng.normal()),
            }
        )
    return pd.DataFrame(rows)


def judged(runs: pd.DataFrame) -> dict[str, Verdict]:
    """Verdicts by the first words of their statements, where they rest on runs."""
    found = evaluate(runs)
    words = {
        "literal SGD at": "rest",
        "corrected With weight decay": "rest with decay",
        "literal The stationary": "Gibbs",
        "corrected Weights vary more": "inverse",
        "corrected In shuffled": "epochs",
        "literal SGD's noise": "isotropic",
        "corrected Where SGD is": "proportional",
        "corrected Weights vary as": "quadratic",
        "corrected SGD ends": "edge",
        "corrected One constant c": "norm",
    }
    return {
        name: v
        for v in found
        for start, name in words.items()
        if v.claim == "theorem_1" and f"{v.form} {v.statement}".startswith(start)
    }


def decisions(runs: pd.DataFrame) -> dict[str, str]:
    return {name: v.verdict for name, v in judged(runs).items()}


def test_where_eq_7_holds_it_is_supported() -> None:
    """Isotropic noise: slopes −1 and 0, in a world that is stationary with and without decay."""
    found = decisions(sweep(slope=-1.0, noise_slope=0.0))
    assert found["rest"] == found["rest with decay"] == "SUPPORTED"
    assert found["Gibbs"] == found["isotropic"] == found["quadratic"] == "SUPPORTED"
    assert found["inverse"] == found["proportional"] == "REFUTED"


def test_noise_that_follows_curvature_refutes_eq_7() -> None:
    found = decisions(sweep(slope=0.2, noise_slope=1.0))
    assert found["Gibbs"] == found["isotropic"] == "REFUTED"
    assert found["inverse"] == found["proportional"] == "SUPPORTED"


def test_equipartition_is_asked_only_where_sgd_is_stationary() -> None:
    """Without decay weights still drift, and as they do their variance falsely looks like −1."""
    runs = sweep(slope=0.2, plain_ratio=0.3)
    drifting = runs["optimizer.weight_decay"] == 0
    runs.loc[drifting, "stationarity/variance_slope"] = -1.0
    found = judged(runs)
    assert found["rest"].verdict == "REFUTED"
    assert found["rest"].estimate == pytest.approx(0.3, abs=0.02)
    assert found["rest with decay"].verdict == "SUPPORTED"
    assert found["Gibbs"].configs == 12
    assert found["Gibbs"].estimate == pytest.approx(0.2, abs=0.05)
    assert "12 of 24 configurations that are stationary" in found["Gibbs"].reason


def test_a_sweep_that_never_rests_says_nothing_of_equipartition() -> None:
    runs = sweep(plain_ratio=0.3)
    found = judged(runs[runs["optimizer.weight_decay"] == 0])
    assert found["Gibbs"].verdict == "INCONCLUSIVE"
    assert "stationary run" in found["Gibbs"].reason
    assert "stationary_noise" in found["Gibbs"].settled_by


def test_shuffled_epochs_are_judged_apart() -> None:
    drawn = sweep(slope=-1.0).assign(**{"probe.stationarity.replacement": "True"})
    shuffled = sweep(slope=0.5).assign(**{"probe.stationarity.replacement": "False"})
    drawn["label"], shuffled["label"] = "drawn", "shuffled"
    found = judged(pd.concat([drawn, shuffled], ignore_index=True))
    assert found["Gibbs"].verdict == "SUPPORTED"
    assert found["Gibbs"].estimate == pytest.approx(-1.0, abs=0.05)
    assert found["epochs"].verdict == "SUPPORTED"
    assert found["epochs"].estimate == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("edge", "verdict"), [(1.0, "SUPPORTED"), (0.4, "REFUTED")])
def test_edge_of_stochastic_stability(edge: float, verdict: str) -> None:
    assert decisions(sweep(edge=edge))["edge"] == verdict


def test_momentum_is_left_out_of_the_edge() -> None:
    runs = sweep(edge=0.4).assign(**{"optimizer.momentum": 0.9})
    assert judged(runs)["edge"].configs == 0


def test_the_norm_of_stable_minima() -> None:
    """‖H‖_F falling faster than √B/η keeps any bound of that shape; rising faster breaks it."""
    assert judged(sweep(bound=0.5))["norm"].estimate == 0
    broken = judged(sweep(bound=-1.0))["norm"]
    assert broken.estimate == pytest.approx(1)
    assert broken.verdict == "REFUTED"
    assert judged(sweep(loss="cross_entropy"))["norm"].configs == 0
