"""The loss along single lines, with the parabola of the Hessian over it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from landscape_sweep.figures.style import PALETTE, headline, legend_below, panels


def profiles(points: pd.DataFrame, curvature: pd.DataFrame) -> Figure:
    """A panel a direction: the measured loss, and L + t dᵀ∇L + ½t² dᵀHd from exact products.

    Args:
        points: ``direction, distance, loss, quadratic``, as in ``profile/profile.csv``.
        curvature: ``direction, step, second_difference, product, chosen``, as in
            ``profile/curvature.csv``.
    """
    every = list(points.groupby("direction", sort=False))
    figure, panel = panels(len(every), width=3.4, height=3.0)
    for axes, (direction, line) in zip(panel, every, strict=True):
        axes.plot(
            line["distance"],
            line["quadratic"],
            "--",
            color=PALETTE[1],
            label="quadratic from the exact gradient and vᵀHv",
        )
        axes.plot(
            line["distance"],
            line["loss"],
            "o-",
            color=PALETTE[0],
            markersize=3,
            label="loss (gaps: not finite)",
        )
        axes.axvline(0, color="0.6", linewidth=0.7)
        steps = curvature[curvature["direction"] == direction]
        best = steps[steps["chosen"].astype(bool)].iloc[0]
        product, seen = float(best["product"]), float(best["second_difference"])
        off = abs(seen - product) / max(abs(product), np.finfo(float).tiny)
        axes.set_title(
            f"{str(direction).replace('_', ' ')}\nvᵀHv = {product:.4g}, profile {seen:.4g} "
            f"({off:.2%} apart)",
            fontsize=8,
        )
        axes.set(xlabel="distance in parameter space", ylabel="loss")
    headline(figure, "Loss along lines through the trained network")
    if panel:
        legend_below(figure, panel[0], columns=2)
    return figure
