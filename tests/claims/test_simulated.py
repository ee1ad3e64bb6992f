"""Simulated sweeps with known truth: false decisions, coverage and power of the intervals.

Five hundred sweeps a scenario; a cell of hyper-parameters carries 80% of the variance (ICC), seeds
the rest, half of it shared by all cells; 15% of the runs are missing where it says so.
"""

from __future__ import annotations

import numpy as np
import pytest

from landscape_sweep.claims.verdict import Region, decide
from landscape_sweep.statistics import Floats, jackknife, slope, spearman

SWEEPS = 500


def cells(
    rng: np.random.Generator, configs: int, seeds: int, rho: float, missing: float
) -> tuple[Floats, Floats]:
    """Means over seeds of two correlated quantities."""
    cov = [[1, rho], [rho, 1]]
    runs = np.sqrt(0.8) * rng.multivariate_normal([0, 0], cov, size=(configs, 1))
    runs = runs + np.sqrt(0.1) * rng.normal(size=(configs, seeds, 2))
    runs = runs + np.sqrt(0.1) * rng.normal(size=(1, seeds, 2))
    gone = rng.random((configs, seeds)) < missing
    gone[:, 0] = False
    runs[gone] = np.nan
    x, y = np.nanmean(runs, axis=1).T
    return x, y


@pytest.mark.parametrize(
    ("configs", "seeds", "rho", "missing"),
    [(12, 3, 0.0, 0.0), (12, 5, 0.0, 0.15), (20, 3, 0.4, 0.0), (20, 5, 0.9, 0.15)],
)
def test_rank_correlation(configs: int, seeds: int, rho: float, missing: float) -> None:
    rng = np.random.default_rng(0)
    truth = spearman(*cells(rng, 20_000, seeds, rho, missing))
    region = Region(0.0, 1.0)
    covered, decided = 0, 0
    for _ in range(SWEEPS):
        low, high = jackknife(spearman, *cells(rng, configs, seeds, rho, missing)).interval()
        covered += low <= truth <= high
        decided += decide((low, high), region) != "INCONCLUSIVE"
    print(
        f"\n{configs} configurations × {seeds} seeds, true ρ {truth:+.2f}: "
        f"coverage {covered / SWEEPS:.1%}, decided {decided / SWEEPS:.1%}"
    )
    assert 0.92 <= covered / SWEEPS <= 0.98
    if rho == 0:
        assert decided / SWEEPS <= 0.05
    if rho == 0.9:
        assert decided / SWEEPS >= 0.95


@pytest.mark.parametrize(("configs", "slope_of_b"), [(12, 0.0), (12, 0.16), (20, 0.5)])
def test_slope(configs: int, slope_of_b: float) -> None:
    """log tr = −0.6 log η + b log B + noise of cells, 3 to 5 batch sizes × 4 rates."""
    rng = np.random.default_rng(1)
    X = np.array([(i % 4, i // 4) for i in range(configs)], float)
    covered, decided = 0, 0
    for _ in range(SWEEPS):
        y = X @ [-0.6, slope_of_b] + rng.normal(scale=0.3, size=configs)
        low, high = slope(y, X, [0, 1]).interval()
        covered += low <= slope_of_b <= high
        decided += decide((low, high), Region(low=0.0)) != "INCONCLUSIVE"
    print(
        f"\n{configs} configurations, true slope {slope_of_b}: coverage {covered / SWEEPS:.1%}, "
        f"decided {decided / SWEEPS:.1%}"
    )
    assert 0.92 <= covered / SWEEPS <= 0.98
    if slope_of_b == 0:
        assert decided / SWEEPS <= 0.05
    if slope_of_b == 0.5:
        assert decided / SWEEPS >= 0.95
