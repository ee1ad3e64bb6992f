"""The tables of a report as people read them, and what their columns mean."""

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
    "noise/scale": "noise scale",
    "seconds": "seconds",
}

WORDS = ("configuration", "outcome", "model", "metric", "path", "images")
"""Columns of text, in any of the tables here; the others are numbers."""

JOINED = ("connectivity/naive/barrier", "connectivity/aligned_reset/barrier")
"""Metrics of pairs of runs that the MLflow UI compares too."""

MEANINGS = {
    "configuration": "Everything that was varied but the seed: model, batch size (bs), learning "
    "rate (lr) and whatever else the sweep varies.",
    "outcome": "completed; diverged (the loss became infinite); failed (an error, given below); "
    "pruned (ended early by a search); interrupted.",
    "test acc %": "Share of test images classified rightly by the final weights.",
    "test loss, train loss": "Mean loss over clean test and training images, in nats a image for "
    "cross-entropy.",
    "gap": "Test loss minus training loss.",
    "sharpness": "How much the loss rises one step of length ρ = 0.05 up the gradient "
    "(framework, eq. 3), in units of the loss.",
    "λ max": "Largest eigenvalue of the Hessian: curvature in the steepest direction, in loss "
    "over squared parameter. It scales with the weights: compare within an architecture.",
    "trace": "Sum of all eigenvalues of the Hessian, same unit.",
    "converged": "How many of the top eigenvalues are certified by their residual.",
    "noise scale": "tr Σ / ‖G‖²: the batch size at which a gradient is as much noise as signal.",
    "barrier": "Highest loss on the line between two trained networks, above the lower end "
    "(eq. 4).",
    "ρ": "Spearman's rank correlation over configurations, each the mean of its seeds; in "
    "brackets its 95% confidence interval.",
    "SUPPORTED, REFUTED, INCONCLUSIVE": "The whole 95% interval lies where the claim is true; "
    "none of it does; it lies across the border, or there are too few configurations or seeds.",
}
"""A legend for the tables and figures."""


def varied(runs: pd.DataFrame) -> list[str]:
    """Configuration keys that differ between the runs."""
    told = ("name", "label", "outcome", "reason", "command", "seconds")
    return [
        str(key)
        for key in runs.columns
        if "/" not in str(key)
        and not str(key).startswith(("sweep.", "run_id"))
        and key not in told
        and runs[key].astype(str).nunique() > 1
    ]


def compared(runs: pd.DataFrame) -> list[str]:
    """Keys and metrics worth comparing between runs: what varies, then what was measured."""
    metrics = [name for name in (*COLUMNS, *JOINED) if "/" in name and name in runs]
    return [*varied(runs), *(name for name in metrics if name != "hessian/converged")]


def readable(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a run, numbers as short texts, accuracy in percent; a dash where nothing is known.

    A measure that no run has gets no column.
    """
    table = runs.reindex(columns=list(COLUMNS)).dropna(axis=1, how="all")
    if "test/accuracy" in table:
        table["test/accuracy"] = 100 * pd.to_numeric(table["test/accuracy"])
    return table.map(_short).rename(columns=COLUMNS)


def readable_correlations(found: pd.DataFrame) -> pd.DataFrame:
    """The table of ``statistics.correlations`` with signed short texts; a dash where unknown."""
    table = found.copy()
    for column in ("pearson", "spearman", "low", "high"):
        table[column] = table[column].map(lambda v: f"{v:+.2f}" if v == v else "–")
    return table


def readable_barriers(barriers: pd.DataFrame) -> pd.DataFrame:
    """A row for each configuration, path and set of images: mean and interval of each measure."""
    if barriers.empty:
        return pd.DataFrame()
    rows = []
    of = ["label", "mode", "split", "pairs"]
    for (label, mode, split, pairs), group in barriers.groupby(of, sort=False):
        row: dict[str, object] = {"configuration": label, "path": mode, "images": split}
        for _, found in group.iterrows():
            in_points = str(found["measure"]).startswith("accuracy")
            numbers = [(100 if in_points else 1) * found[k] for k in ("mean", "low", "high")]
            row[str(found["measure"]).replace("_", " ")] = _short(numbers[0])
            interval = f"{_short(numbers[1])} to {_short(numbers[2])}"
            row[f"{found['measure']} 95%".replace("_", " ")] = (
                "–" if math.isnan(numbers[1]) else interval
            )
        rows.append({**row, "pairs": _short(pairs)})
    return pd.DataFrame(rows).fillna("–")


def _short(value: object) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, int | float) or math.isnan(value):
        return "–"
    return f"{int(value)}" if float(value).is_integer() and abs(value) < 1e6 else f"{value:.4g}"
