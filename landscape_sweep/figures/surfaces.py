"""The loss on a plane, as contours and in three dimensions."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from landscape_sweep.figures.style import PANELS, panels


def _grid(surface: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Axes and values; what is not finite is masked, not replaced."""
    table = surface.pivot(index="beta", columns="alpha", values="loss")
    return (
        table.columns.to_numpy(),
        table.index.to_numpy(),
        np.ma.masked_invalid(table.to_numpy()),
    )


def contours(surfaces: pd.DataFrame, titles: pd.Series) -> Figure:
    """Contours of log10 loss, a panel a run; the cross is the trained network.

    Args:
        surfaces: ``run_id, alpha, beta, loss``; distances in parameter space.
        titles: panel title by ``run_id``.
    """
    chosen = list(surfaces.groupby("run_id", sort=False))[:PANELS]
    figure, every = panels(len(chosen))
    for axes, (run_id, surface) in zip(every, chosen, strict=True):
        alpha, beta, loss = _grid(surface)
        filled = axes.contourf(alpha, beta, np.log10(loss), levels=14, cmap="cividis")
        axes.plot(0, 0, "x", color="white")
        figure.colorbar(filled, ax=axes, label="log10 loss")
        axes.set(title=titles[run_id], xlabel="distance along d1", ylabel="distance along d2")
        axes.set_aspect("equal")
        axes.grid(visible=False)
    figure.suptitle(_heading("Loss contours on a random plane", surfaces))
    return figure


def surfaces_3d(surfaces: pd.DataFrame, titles: pd.Series) -> Figure:
    """The same planes in three dimensions; arguments as for ``contours``."""
    chosen = list(surfaces.groupby("run_id", sort=False))[:PANELS]
    figure, every = panels(len(chosen), height=3.0, projection="3d")
    for axes, (run_id, surface) in zip(every, chosen, strict=True):
        alpha, beta, loss = _grid(surface)
        x, y = np.meshgrid(alpha, beta)
        axes.plot_surface(x, y, np.log10(loss), cmap="cividis", linewidth=0)  # type: ignore[attr-defined]
        axes.set(title=titles[run_id], xlabel="d1", ylabel="d2")
        axes.set_zlabel("log10 loss")  # type: ignore[attr-defined]
        axes.tick_params(labelsize=6)
    figure.suptitle(_heading("Loss surfaces on a random plane", surfaces))
    return figure


def _heading(text: str, surfaces: pd.DataFrame) -> str:
    total = surfaces["run_id"].nunique()
    return text if total <= PANELS else f"{text} (first {PANELS} of {total} runs)"
