"""Noise against flatness: how curvature follows learning rate and batch size (theorem 1)."""

from __future__ import annotations

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from landscape_sweep.figures.style import (
    architectures,
    at_one_loss,
    headline,
    intensity,
    legend_above,
    log_x,
    log_y,
    look,
    panels,
    seeds_each,
)

METRICS = {
    "hessian/trace": "Hessian trace (loss / squared parameter)",
    "hessian/lambda_max": "largest eigenvalue (loss / squared parameter)",
}
LABEL = "η / B (learning rate over batch size)"


def noise_against_flatness(runs: pd.DataFrame) -> Figure:
    """Trace and λmax against η/B, on logarithmic axes, with the slopes in η and in B.

    Points are configurations, the means of their seeds. Lines join a batch size, so that a law
    in η/B alone would put them onto one another; slopes are those of
    log tr = a + b_η log η + b_B log B within an architecture. Their intervals are the verdict's
    business (``claims``), which leaves out a configuration at a time.

    Args:
        runs: one row a completed run; drawn are those ``at_one_loss``.
    """
    runs, where = at_one_loss(runs)
    metrics = [m for m in METRICS if m in runs]
    figure, every = panels(len(metrics), width=4.8, height=3.9, columns=2)
    kind = architectures(runs)
    names = list(dict.fromkeys(kind))
    for axes, metric in zip(every, metrics, strict=True):
        for name, group in runs.groupby(kind, sort=False):
            colour, marker = look(str(name), names)
            points = group.assign(noise=intensity(group))
            points = points[points[metric] > 0]
            keys = ["noise", "optimizer.lr", "batch_size", metric]
            means = points.groupby("label", sort=False)[keys].mean()
            for size, batch in means.groupby("batch_size"):
                line = batch.groupby("noise")[metric].mean()
                axes.plot(line.index, line, color=colour, linewidth=0.7, alpha=0.6)
                axes.annotate(
                    f"B = {size:g}",
                    (line.index[0], line.iloc[0]),
                    xytext=(6, 3),
                    textcoords="offset points",
                    color=colour,
                    fontsize=7,
                )
            axes.scatter(
                means["noise"],
                means[metric],
                s=12 + 6 * np.log2(means["batch_size"]),
                color=colour,
                marker=marker,
                edgecolors="white",
                linewidths=0.5,
                label=f"{name}: {_said(means, metric)}",
            )
        axes.set(xlabel=LABEL, ylabel=fill(METRICS[metric], 28))
        log_x(axes)
        log_y(axes)
        legend_above(axes)
    headline(
        figure,
        f"Noise against flatness, {where}; n configurations, {seeds_each(runs, 'means of')}; "
        "larger points, larger batches",
    )
    return figure


def _said(means: pd.DataFrame, metric: str) -> str:
    found = [
        f"$b_{sign}$ = {value:+.2f}".replace("-", "−")
        for sign, value in slopes(means, metric).items()
    ]
    return ", ".join([*found, f"n = {len(means)}"])


def slopes(means: pd.DataFrame, metric: str) -> dict[str, float]:
    """Exponents b_η and b_B of a power law by least squares, where both are determined.

    Args:
        means: ``optimizer.lr, batch_size`` and ``metric``, positive, one row a configuration.
    """
    keys = {"η": "optimizer.lr", "B": "batch_size"}
    varied = {sign: key for sign, key in keys.items() if means[key].nunique() > 1}
    design = np.column_stack([np.ones(len(means)), *(np.log(means[k]) for k in varied.values())])
    if len(means) <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        return {}
    coefficients = np.linalg.lstsq(design, np.log(means[metric].to_numpy(float)), rcond=None)[0]
    return dict(zip(varied, map(float, coefficients[1:]), strict=True))
