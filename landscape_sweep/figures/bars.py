"""Metrics side by side, one bar a configuration."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy import stats

from landscape_sweep.figures.style import (
    architectures,
    headline,
    is_wide,
    log_x,
    look,
    panels,
    seeds_each,
)

METRICS = {
    "sharpness/sam": "sharpness $S_{0.05}$ (loss)",
    "hessian/lambda_max": "largest eigenvalue (loss / squared parameter)",
    "hessian/trace": "Hessian trace (loss / squared parameter)",
    "test/accuracy": "test accuracy (%)",
}
ROWS = 30
"""Configurations shown at most."""


ROOM = 1.5
"""How far an axis reaches, in times the largest run, for intervals that reach farther."""


def metric_bars(runs: pd.DataFrame) -> Figure:
    """Means over seeds with Student's 95% interval where there are several; points are runs.

    What is positive and has no upper end (curvature, sharpness) is averaged by its logarithm, as
    its interval then is positive too: the bar is the geometric mean. Where such values are wide
    apart, the axis is logarithmic. An interval that leaves the panel has no cap there.
    """
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
        values = shown[metric].dropna()
        positive = metric != "test/accuracy" and bool((values > 0).all())
        wide = positive and is_wide(values)
        sns.barplot(
            data=shown,
            x=metric,
            y="label",
            hue="label",
            palette=palette,
            estimator=geometric_mean if positive else "mean",
            errorbar=student_of_logarithms if positive else student,
            capsize=0.3,
            err_kws={"linewidth": 1.2, "color": "0.25"},
            alpha=0.7,
            legend=False,
            ax=axes,
        )
        sns.stripplot(data=shown, x=metric, y="label", color="black", size=3, ax=axes, jitter=False)
        most = 100.0 if metric == "test/accuracy" else ROOM * float(values.max())
        if wide:
            axes.set(xscale="log", xlim=(values.min() / ROOM**2, values.max() * ROOM**2))
            log_x(axes)
        elif values.min() >= 0 and most > 0:
            axes.set_xlim(0, min(axes.get_xlim()[1], most))
        mean = "geometric mean" if positive else "mean"
        axes.set(xlabel=f"{METRICS[metric]}\n{mean}", ylabel="")
        axes.tick_params(axis="y", labelsize=7)
        if number % 2:  # the names stand at the left column alone
            axes.tick_params(axis="y", labelleft=False)
    more = f" ({ROWS} of {len(labels)} configurations)" if len(labels) > ROWS else ""
    headline(
        figure,
        f"Metrics by configuration: {seeds_each(runs, 'mean and 95% interval over')}; "
        f"a point a run{more}",
    )
    return figure


def geometric_mean(values: pd.Series) -> float:
    """exp of the mean logarithm."""
    return float(np.exp(np.mean(np.log(values))))


def student(values: pd.Series) -> tuple[float, float]:
    """95% interval of the mean by Student's t; the value itself where there is only one."""
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, mean
    half = float(stats.t.ppf(0.975, count - 1) * stats.sem(values))
    return mean - half, mean + half


def student_of_logarithms(values: pd.Series) -> tuple[float, float]:
    """95% interval of the geometric mean by Student's t of the logarithms."""
    low, high = np.exp(student(np.log(values)))
    return float(low), float(high)
