"""Metrics side by side, one bar a configuration."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy import stats

from landscape_sweep.figures.style import architectures, headline, look, panels, seeds_each

METRICS = {
    "sharpness/sam": "sharpness $S_{0.05}$ (loss)",
    "hessian/lambda_max": "largest eigenvalue (loss / squared parameter)",
    "hessian/trace": "Hessian trace (loss / squared parameter)",
    "test/accuracy": "test accuracy (%)",
}
ROWS = 30
"""Configurations shown at most."""


def metric_bars(runs: pd.DataFrame) -> Figure:
    """Means over seeds with Student's 95% interval where there are several; points are runs."""
    labels = list(dict.fromkeys(runs["label"]))
    shown = runs[runs["label"].isin(labels[:ROWS])]
    shown = shown.assign(**{"test/accuracy": 100 * shown["test/accuracy"]})
    metrics = [metric for metric in METRICS if metric in shown]
    height = max(2.4, 1.2 + 0.22 * shown["label"].nunique())
    figure, every = panels(len(metrics), width=4.6, height=height, columns=2)
    models = architectures(shown)
    names = list(dict.fromkeys(models))
    palette = {label: look(m, names)[0] for label, m in zip(shown["label"], models, strict=True)}
    for number, (axes, metric) in enumerate(zip(every, metrics, strict=True)):
        keys = {"data": shown, "x": metric, "y": "label", "hue": "label", "legend": False}
        sns.barplot(**keys, palette=palette, errorbar=student, ax=axes, alpha=0.8)
        sns.stripplot(data=shown, x=metric, y="label", color="black", size=3, ax=axes, jitter=False)
        axes.set(xlabel=METRICS[metric], ylabel="")
        axes.tick_params(axis="y", labelsize=7)
        if number % 2:  # the names stand at the left column alone
            axes.tick_params(axis="y", labelleft=False)
    more = f" ({ROWS} of {len(labels)} configurations)" if len(labels) > ROWS else ""
    headline(
        figure,
        f"Metrics by configuration: mean and 95% interval over {seeds_each(runs)}; "
        f"a point a run{more}",
    )
    return figure


def student(values: pd.Series) -> tuple[float, float]:
    """95% interval of the mean by Student's t; the value itself where there is only one."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, mean
    half = float(stats.t.ppf(0.975, count - 1) * stats.sem(values))
    return mean - half, mean + half
