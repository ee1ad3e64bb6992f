"""Geometry against generalisation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from landscape_sweep.figures.style import (
    at_one_loss,
    headline,
    legend_above,
    log_x,
    look,
    panels,
    seeds_each,
)

GEOMETRY = {
    "sharpness/sam": "sharpness $S_{0.05}$ (loss)",
    "hessian/lambda_max": "largest eigenvalue (loss / squared parameter)",
    "hessian/trace": "Hessian trace (loss / squared parameter)",
}
OUTCOMES = {"test/accuracy": "test accuracy (%)", "gap/loss": "test loss − train loss (nats)"}
FEWEST = 6
"""Configurations that a band around a fit needs."""


def geometry_against_generalisation(runs: pd.DataFrame, correlations: pd.DataFrame) -> Figure:
    """A large point a configuration, small ones its runs; colour and marker tell the model.

    Lines are least squares through the configurations' means, with a 95% band where there are
    at least six.

    Args:
        runs: one row a completed run; drawn are those ``at_one_loss``.
        correlations: ``model metric outcome configs spearman low high``: ρ of the configurations'
            means of the same runs, within each model, written into the legends.
    """
    runs, where = at_one_loss(runs)
    pairs = [(x, y) for y in OUTCOMES if y in runs for x in GEOMETRY if x in runs]
    figure, every = panels(len(pairs), width=3.6, height=3.3)
    models = sorted(runs["model.name"].unique())
    keys = ["model", "metric", "outcome"]
    told = {tuple(row[keys]): row for _, row in correlations.iterrows()}
    for axes, (x, y) in zip(every, pairs, strict=True):
        logarithmic = bool((runs[x].dropna() > 0).all())
        for model, group in runs.groupby("model.name"):
            points = group[["label", x, y]].dropna()
            if y == "test/accuracy":
                points[y] *= 100
            means = points.groupby("label").mean()
            colour, marker = look(str(model), models)
            axes.scatter(points[x], points[y], s=6, color=colour, alpha=0.35, linewidths=0)
            axes.scatter(
                means[x],
                means[y],
                s=30,
                color=colour,
                marker=marker,
                edgecolors="white",
                linewidths=0.5,
                label=f"{model}: {_rho(told.get((model, x, y)))}, n = {len(means)}",
            )
            _fit(axes, means[x].to_numpy(float), means[y].to_numpy(float), colour, logarithmic)
        axes.set(xlabel=GEOMETRY[x], ylabel=OUTCOMES[y])
        if logarithmic:
            log_x(axes)
        legend_above(axes)
    headline(
        figure,
        f"Geometry against generalisation, {where}: Spearman's ρ over n configurations "
        f"[95% interval], {seeds_each(runs)}",
    )
    return figure


def _rho(row: pd.Series | None) -> str:
    if row is None or math.isnan(row["spearman"]):
        return "ρ unknown"
    text = f"ρ = {row['spearman']:+.2f}"
    known = not math.isnan(row["low"])
    return (text + f" [{row['low']:+.2f}, {row['high']:+.2f}]" * known).replace("-", "−")


def _fit(
    axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], colour: str, logarithmic: bool
) -> None:
    """The line of least squares, on log x where the axis is, with its pointwise 95% band."""
    t = np.log(x) if logarithmic else x
    if len(t) < 3 or np.ptp(t) == 0:
        return
    line = stats.linregress(t, y)
    grid = np.linspace(t.min(), t.max(), 50)
    middle = line.intercept + line.slope * grid
    at = np.exp(grid) if logarithmic else grid
    axes.plot(at, middle, color=colour, linewidth=1)
    if len(t) >= FEWEST:
        left = y - line.intercept - line.slope * t
        spread = np.sqrt((left @ left) / (len(t) - 2))
        around = np.sqrt(1 / len(t) + (grid - t.mean()) ** 2 / ((t - t.mean()) ** 2).sum())
        half = stats.t.ppf(0.975, len(t) - 2) * spread * around
        axes.fill_between(at, middle - half, middle + half, color=colour, alpha=0.12, linewidth=0)
