"""One visual language: palette, markers, and a blank figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

# Okabe and Ito's palette, told apart by the colour-blind, black left to text.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PANELS = 12
"""Panels of one figure at most: more can't be read."""

mpl.rcParams.update({"font.size": 9, "axes.grid": True, "grid.alpha": 0.25, "savefig.dpi": 150})


def look(name: str, names: Sequence[str]) -> tuple[str, str]:
    """Colour and marker of one name by its place among ``names``."""
    place = names.index(name)
    return PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]


def panels(
    count: int, *, width: float = 3.2, height: float = 2.7, columns: int = 3, projection: str = ""
) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels in rows."""
    columns = min(columns, max(count, 1))
    rows = math.ceil(max(count, 1) / columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    keys = {"projection": projection} if projection else {}
    return figure, [figure.add_subplot(rows, columns, i + 1, **keys) for i in range(count)]


def log_x(axes: Axes) -> None:
    """A logarithmic abscissa whose labels have room in a narrow panel."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=8))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def whole_x(axes: Axes) -> None:
    """Ticks at whole numbers only: epochs, ranks."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def legend_below(figure: Figure, axes: Axes, columns: int = 3) -> None:
    """One legend for all panels, outside them, without doubles."""
    entries = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if entries:
        figure.legend(
            entries.values(), entries.keys(), loc="outside lower center", ncols=columns, fontsize=8
        )
