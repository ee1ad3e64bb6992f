"""Correlations across runs, with intervals that respect which runs belong together."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

GEOMETRY = ("hessian/", "sharpness/", "noise/", "surface/", "connectivity/", "measure/")
BOOKKEEPING = ("hessian/trace_se", "hessian/converged", "hessian/products", "noise/trace_se")
OUTCOMES = ("test/accuracy", "test/loss", "gap/loss", "gap/accuracy")
RESAMPLES = 1000

Floats = NDArray[np.float64]


def correlations(runs: pd.DataFrame) -> pd.DataFrame:
    """Pearson and Spearman of every landscape metric with accuracy, loss and gap.

    One row for each architecture, metric and outcome, and one over all architectures, marked
    ``(pooled)``: that one is descriptive only, for two clusters alone can correlate (Simpson).

    Returns:
        ``model metric outcome runs configs pearson spearman low high simpson``: the interval is
        95%, of Spearman, bootstrapped by configuration (``label``), since runs that differ only
        in seed are not independent. Coefficients are NaN for fewer than three runs or a
        constant; so is the interval for fewer than three configurations. ``simpson`` tells where
        pooling turns the sign that every architecture agrees on.
    """
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
    if found["configs"] >= 3:
        clusters = points["label"].astype("category").cat.codes.to_numpy()
        found["low"], found["high"] = clustered_interval(x, y, clusters)
    return found


def clustered_interval(
    x: Floats, y: Floats, clusters: NDArray[np.integer], *, seed: int = 0
) -> tuple[float, float]:
    """95% percentile interval of Spearman's ρ, whole clusters resampled with replacement."""
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(clusters == c) for c in np.unique(clusters)]
    drawn = np.empty(RESAMPLES)
    with warnings.catch_warnings():
        # A resample of one cluster over and over may be constant: its ρ is NaN and left out.
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        for i in range(RESAMPLES):
            chosen = generator.integers(len(members), size=len(members))
            index = np.concatenate([members[c] for c in chosen])
            drawn[i] = _spearman(x[index], y[index])
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _spearman(x: Floats, y: Floats) -> float:
    """Spearman's ρ without SciPy's p-value, which costs ten times as much."""
    a, b = stats.rankdata(x), stats.rankdata(y)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else np.nan
