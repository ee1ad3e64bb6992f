"""Correlations across runs, with intervals that respect which runs belong together."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

GEOMETRY = ("hessian/", "sharpness/", "noise/", "surface/", "connectivity/", "measure/")
BOOKKEEPING = (
    *("hessian/trace_se", "hessian/converged", "hessian/products", "hessian/product_error"),
    *("hessian/eigenvalue", "noise/trace_se"),  # the last value of the former is the last rank
)
OUTCOMES = ("test/accuracy", "test/loss", "gap/loss", "gap/accuracy")
RESAMPLES = 1000
FEWEST_CONFIGS = 6
"""Configurations that an interval needs: fewer have too few resamples to tell anything."""

Floats = NDArray[np.float64]


def correlations(runs: pd.DataFrame) -> pd.DataFrame:
    """Pearson and Spearman of every landscape metric of completed runs with loss, accuracy, gap.

    One row for each architecture, metric and outcome, and one over all architectures, marked
    ``(pooled)``: that one is descriptive only, for two clusters alone can correlate (Simpson).

    Returns:
        ``model metric outcome runs configs pearson spearman low high simpson``: the interval is
        95%, of Spearman, bootstrapped by configuration (``label``), since runs that differ only
        in seed are not independent. Coefficients are NaN for fewer than three runs or a
        constant; so is the interval for fewer than six configurations. ``simpson`` tells where
        pooling turns the sign that every architecture agrees on.
    """
    runs = runs[runs["outcome"] == "completed"] if len(runs) else runs
    metrics = [
        name
        for name in runs.columns
        if str(name).startswith(GEOMETRY) and name not in BOOKKEEPING and _varies(runs[name])
    ]
    groups = [*runs.groupby("model.name"), ("(pooled)", runs)] if len(runs) else []
    rows = [
        {"model": model, "metric": metric, "outcome": outcome, **_row(group, metric, outcome)}
        for model, group in groups
        for metric in metrics
        for outcome in OUTCOMES
        if outcome in runs
    ]
    table = pd.DataFrame(
        rows,
        columns=[
            *("model", "metric", "outcome", "runs", "configs"),
            *("pearson", "spearman", "low", "high"),
        ],
    )
    within = table[table["model"] != "(pooled)"].groupby(["metric", "outcome"])["spearman"]
    signs = within.agg(lambda rho: np.sign(rho).iloc[0] if _agree(rho) else np.nan)
    pooled = [
        signs.get((m, o), np.nan) for m, o in zip(table["metric"], table["outcome"], strict=True)
    ]
    table["simpson"] = (table["model"] == "(pooled)") & (np.sign(table["spearman"]) * pooled < 0)
    return table


def _varies(column: pd.Series) -> bool:
    return bool(column.dropna().nunique() > 1)


def _agree(rho: pd.Series) -> bool:
    return bool(rho.notna().all() and np.sign(rho).nunique() == 1)


def _row(group: pd.DataFrame, metric: str, outcome: str) -> dict[str, float]:
    points = group[["label", metric, outcome]].dropna()
    found = {
        "runs": len(points),
        "configs": points["label"].nunique(),
        **dict.fromkeys(("pearson", "spearman", "low", "high"), np.nan),
    }
    x, y = points[metric].to_numpy(float), points[outcome].to_numpy(float)
    if len(points) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return found
    found["pearson"] = float(stats.pearsonr(x, y).statistic)
    found["spearman"] = float(stats.spearmanr(x, y).statistic)
    if found["configs"] >= FEWEST_CONFIGS:
        clusters = points["label"].astype("category").cat.codes.to_numpy()
        found["low"], found["high"] = clustered_interval(x, y, clusters)
    return found


def clustered_interval(
    x: Floats, y: Floats, clusters: NDArray[np.integer], *, seed: int = 0
) -> tuple[float, float]:
    """95% percentile interval of Spearman's ρ, whole clusters resampled with replacement."""
    names, codes = np.unique(clusters, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES
    )
    weights = drawn[:, codes].astype(float)  # (resamples, runs): how often each run is drawn
    a, b = _weighted_ranks(x, weights), _weighted_ranks(y, weights)
    total = weights.sum(1, keepdims=True)
    a = a - (weights * a).sum(1, keepdims=True) / total
    b = b - (weights * b).sum(1, keepdims=True) / total
    scale = np.sqrt((weights * a**2).sum(1) * (weights * b**2).sum(1))
    # A resample of one cluster over and over may be constant: its ρ is left out.
    varies = scale > 1e-9
    if not varies.any():
        return np.nan, np.nan
    rho = (weights * a * b).sum(1)[varies] / scale[varies]
    low, high = np.quantile(rho, [0.025, 0.975])
    return float(low), float(high)


def _weighted_ranks(values: Floats, weights: Floats) -> Floats:
    """(resamples, runs) mid-ranks when run i is there ``weights[:, i]`` times, up to a constant."""
    distinct, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(distinct)))
    count = np.add.reduceat(weights[:, order], starts, axis=1)
    ranks: Floats = (np.cumsum(count, axis=1) - count / 2)[:, place]
    return ranks
