"""The loss on a plane, as contours and in three dimensions."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from landscape_sweep.figures.style import PALETTE, PANELS, headline, panels

WIDE = 10.0
"""Losses whose largest is above this many times the smallest are shown on a logarithmic scale."""

LEVELS = 12

TITLE = 34
"""Characters of a title that a panel has room for."""


def _grid(surface: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ma.MaskedArray[Any, Any]]:
    """Axes and losses by (beta, alpha); what is not finite is masked, not replaced."""
    table = surface.pivot(index="beta", columns="alpha", values="loss")
    return (
        table.columns.to_numpy(),
        table.index.to_numpy(),
        np.ma.masked_invalid(table.to_numpy()),
    )


def _is_wide(surfaces: pd.DataFrame) -> bool:
    """Whether all panels show log10 of the loss."""
    loss = surfaces["loss"][np.isfinite(surfaces["loss"])]
    return bool(len(loss)) and bool(loss.min() > 0) and bool(loss.max() > WIDE * loss.min())


def contours(
    surfaces: pd.DataFrame, titles: pd.Series, marks: pd.DataFrame | None = None
) -> Figure:
    """Contours of the loss, a panel a run, each with its own colour scale.

    The trained network is the cross. Contour lines are labelled with the loss itself; colours are
    log10 of it where the losses of the figure span more than a decade. Where the loss is not
    finite there is a hole.

    Args:
        surfaces: ``run_id, alpha, beta, loss``, and ``alpha_label, beta_label`` where the axes
            have names; distances in parameter space.
        titles: panel title by ``run_id``.
        marks: ``run_id, name, alpha, beta``: weights that a plane was laid through. Epochs are
            joined to a path, networks are named.
    """
    chosen = list(surfaces.groupby("run_id", sort=False))[:PANELS]
    wide = _is_wide(surfaces)
    figure, every = panels(len(chosen), width=3.9, height=3.4)
    for axes, (run_id, surface) in zip(every, chosen, strict=True):
        alpha, beta, loss = _grid(surface)
        shown = np.ma.log10(loss) if wide else loss
        axes.set_facecolor("white")
        filled = axes.contourf(alpha, beta, shown, levels=LEVELS, cmap="cividis")
        lines = axes.contour(
            alpha,
            beta,
            shown,
            levels=list(filled.levels)[1::2],
            colors="white",
            linewidths=0.6,
            linestyles="solid",  # a logarithm below 0 is no negative loss
        )
        axes.clabel(lines, fontsize=6, fmt=lambda v: f"{10**v if wide else v:.3g}")
        # In the panel's own frame, so that it is as high as a panel of equal scales.
        bar = figure.colorbar(filled, cax=axes.inset_axes((1.04, 0, 0.05, 1)), label="loss")
        if wide:
            bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{10**v:.3g}"))
        if marks is not None:
            _draw_marks(axes, marks[marks["run_id"] == run_id])
        axes.plot(0, 0, "X", color="white", markeredgecolor="black", markersize=8, zorder=5)
        axes.set_title(textwrap.fill(titles[run_id], TITLE), fontsize=9)
        axes.set_xlabel(_label(surface, "alpha"), fontsize=8)
        axes.set_ylabel(_label(surface, "beta", 30), fontsize=8)
        axes.set(xlim=(alpha[0], alpha[-1]), ylim=(beta[0], beta[-1]))
        axes.set_aspect("equal" if np.ptp(beta) > np.ptp(alpha) / 3 else "auto")
        axes.grid(visible=False)
    headline(figure, _heading("Loss contours", surfaces, wide))
    return figure


def _draw_marks(axes: Axes, marks: pd.DataFrame) -> None:
    """Epochs as a path from the first to the last, other weights as named points."""
    if marks.empty:
        return
    if marks["name"].str.startswith("epoch").all():
        axes.plot(
            marks["alpha"], marks["beta"], "o-", color=PALETTE[1], markersize=3.5, linewidth=1.2
        )
        named = marks.iloc[[0]]
    else:
        axes.plot(marks["alpha"], marks["beta"], "o", color=PALETTE[1], markersize=5)
        named = marks
    for row in named.itertuples():
        axes.annotate(
            str(row.name),
            (float(row.alpha), float(row.beta)),  # type: ignore[arg-type]
            xytext=(0, -11),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            zorder=6,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "lw": 0},
        )


def surfaces_3d(surfaces: pd.DataFrame, titles: pd.Series) -> Figure:
    """The same planes in three dimensions; the trained network is the point.

    Args:
        surfaces, titles: as for ``contours``.
    """
    chosen = list(surfaces.groupby("run_id", sort=False))[:PANELS]
    wide = _is_wide(surfaces)
    figure, every = panels(len(chosen), width=4.2, height=3.8, projection="3d")
    for axes, (run_id, surface) in zip(every, chosen, strict=True):
        alpha, beta, loss = _grid(surface)
        x, y = np.meshgrid(alpha, beta)
        shown = np.ma.log10(loss).filled(np.nan) if wide else loss.filled(np.nan)
        low, high = np.nanmin(shown), np.nanmax(shown)
        axes.plot_surface(  # type: ignore[attr-defined]
            x, y, shown, cmap="cividis", linewidth=0, vmin=low, vmax=high, rstride=1, cstride=1
        )
        middle = shown[np.argmin(np.abs(beta)), np.argmin(np.abs(alpha))]
        axes.plot([0], [0], [middle], "o", color=PALETTE[1], markersize=5, zorder=10)
        axes.set_title(textwrap.fill(titles[run_id], TITLE), fontsize=9)
        for axis in (axes.xaxis, axes.yaxis, axes.zaxis):  # type: ignore[attr-defined]
            axis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(_label(surface, "alpha", 30), fontsize=7, labelpad=6)
        axes.set_ylabel(_label(surface, "beta", 30), fontsize=7, labelpad=6)
        axes.set_zlabel("loss", fontsize=7)  # type: ignore[attr-defined]
        if wide:
            axes.zaxis.set_major_formatter(  # type: ignore[attr-defined]
                FuncFormatter(lambda v, _: f"{10**v:.3g}")
            )
        axes.tick_params(labelsize=6, pad=0)
        axes.set_box_aspect(None, zoom=0.82)  # type: ignore[call-arg]
    headline(figure, _heading("Loss surfaces", surfaces, wide))
    return figure


def _label(surface: pd.DataFrame, axis: str, width: int = 40) -> str:
    """``distance along …`` over what is said of it; d1 and d2 where the plane has no names."""
    names = surface.get(f"{axis}_label")
    name = {"alpha": "d1", "beta": "d2"}[axis] if names is None else str(names.iloc[0])
    what, bracket, said = f"distance along {name}".partition(" (")
    return textwrap.fill(what, width) + (f"\n({said}" if bracket else "")


def _heading(text: str, surfaces: pd.DataFrame, wide: bool) -> str:
    scale = "logarithmic" if wide else "linear"
    total = surfaces["run_id"].nunique()
    more = "" if total <= PANELS else f" (first {PANELS} of {total} runs)"
    return f"{text} over the probe's training images: {scale}, each panel's own range{more}"
