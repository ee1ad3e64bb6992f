"""Geometry against generalisation, and noise against flatness."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from landscape_sweep.figures.style import log_x, look, panels

GEOMETRY = {
    "sharpness/sam": "sharpness $S_ρ$",
    "hessian/lambda_max": "largest eigenvalue",
    "hessian/trace": "Hessian trace",
}
OUTCOMES = {"test/accuracy": "test accuracy (0 to 1)", "gap/loss": "test loss − train loss"}


def geometry_against_generalisation(runs: pd.DataFrame) -> Figure:
    """One point a run; colour and marker tell the architecture; ρ is Spearman's, within each."""
    pairs = [(x, y) for y in OUTCOMES if y in runs for x in GEOMETRY if x in runs]
    figure, every = panels(len(pairs), height=3.0)
    models = sorted(runs["model.name"].unique())
    for axes, (x, y) in zip(every, pairs, strict=True):
        for model, group in runs.groupby("model.name"):
            points = group[[x, y]].dropna()
            colour, marker = look(str(model), models)
            if len(points) > 2 and points.nunique().min() > 1:
                rho = f"ρ = {stats.spearmanr(points[x], points[y]).statistic:+.2f}"
            else:
                rho = "ρ unknown"
            axes.scatter(
                points[x],
                points[y],
                color=colour,
                marker=marker,
                label=f"{model}: {rho}, n = {len(points)}",
            )
        axes.set(xlabel=GEOMETRY[x], ylabel=OUTCOMES[y])
        if (runs[x].dropna() > 0).all():
            log_x(axes)
        axes.legend(fontsize=6.5, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    figure.suptitle("Geometry against generalisation (one point a run)")
    return figure


def noise_against_flatness(runs: pd.DataFrame) -> Figure:
    """Trace and λmax against η/B on logarithmic axes, with the slope within each architecture."""
    metrics = [m for m in ("hessian/trace", "hessian/lambda_max") if m in runs]
    figure, every = panels(len(metrics), width=4.2, height=3.4, columns=2)
    models = sorted(runs["model.name"].unique())
    noise = (runs["optimizer.lr"] / runs["batch_size"]).rename("noise")
    for axes, metric in zip(every, metrics, strict=True):
        for model, group in runs.groupby("model.name"):
            colour, marker = look(str(model), models)
            points = pd.concat([noise, group[metric]], axis=1, join="inner").dropna()
            points = points[points[metric] > 0]
            text = f"{model}, n = {len(points)}"
            if points["noise"].nunique() > 1:
                logs = np.log(points)
                slope, offset = np.polyfit(logs["noise"], logs[metric], 1)
                ends = np.array([points["noise"].min(), points["noise"].max()])
                axes.plot(ends, np.exp(offset) * ends**slope, color=colour)
                text += f", slope {slope:+.2f}"
            axes.scatter(points["noise"], points[metric], color=colour, marker=marker, label=text)
        axes.set(xlabel="η / B", ylabel=GEOMETRY[metric], yscale="log")
        log_x(axes)
        axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    figure.suptitle("Noise against flatness, at the end of training (losses differ)")
    return figure
