"""Metrics side by side, one bar a configuration."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from landscape_sweep.figures.style import look, panels

METRICS = {
    "sharpness/sam": "sharpness $S_ρ$ (loss)",
    "hessian/lambda_max": "largest eigenvalue",
    "hessian/trace": "Hessian trace",
    "test/accuracy": "test accuracy (0 to 1)",
}


def metric_bars(runs: pd.DataFrame) -> Figure:
    """Means over seeds with a bootstrap 95% interval where there are several; points are runs."""
    metrics = [metric for metric in METRICS if metric in runs]
    height = 1.2 + 0.28 * runs["label"].nunique()
    figure, every = panels(len(metrics), width=4.6, height=max(height, 2.4), columns=2)
    models = sorted(runs["model.name"].unique())
    colours = {
        label: look(model, models)[0]
        for label, model in zip(runs["label"], runs["model.name"], strict=True)
    }
    for axes, metric in zip(every, metrics, strict=True):
        keys = {"data": runs, "x": metric, "y": "label", "hue": "label", "legend": False}
        sns.barplot(**keys, palette=colours, errorbar=("ci", 95), seed=0, ax=axes, alpha=0.8)
        sns.stripplot(data=runs, x=metric, y="label", color="black", size=3, ax=axes, jitter=False)
        axes.set(xlabel=METRICS[metric], ylabel="")
    seeds = runs.groupby("label")["seed"].nunique()
    count = " to ".join(str(n) for n in sorted({seeds.min(), seeds.max()}))
    figure.suptitle(f"Metrics by configuration (seeds each: {count})")
    return figure
