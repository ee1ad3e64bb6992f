"""The table of runs as people read it."""

from __future__ import annotations

import math

import pandas as pd

COLUMNS = {
    "label": "configuration",
    "seed": "seed",
    "outcome": "outcome",
    "test/accuracy": "test acc %",
    "test/loss": "test loss",
    "train/loss": "train loss",
    "gap/loss": "gap",
    "sharpness/sam": "sharpness",
    "hessian/lambda_max": "λ max",
    "hessian/trace": "trace",
    "hessian/converged": "converged",
    "seconds": "seconds",
}


def readable(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run, numbers as short texts, accuracy in percent; a dash where nothing is known."""
    table = runs.reindex(columns=list(COLUMNS)).copy()
    table["test/accuracy"] = 100 * pd.to_numeric(table["test/accuracy"])
    return table.map(_short).rename(columns=COLUMNS)


def readable_correlations(found: pd.DataFrame) -> pd.DataFrame:
    """The table of ``statistics.correlations`` with signed short texts; a dash where unknown."""
    table = found.copy()
    for column in ("pearson", "spearman", "low", "high"):
        table[column] = table[column].map(lambda v: f"{v:+.2f}" if v == v else "–")
    return table


def _short(value: object) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, int | float) or math.isnan(value):
        return "–"
    return f"{int(value)}" if float(value).is_integer() and abs(value) < 1e6 else f"{value:.4g}"
