"""The points behind a verdict, as a small plot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landscape_sweep.figures.style import look, panels

Floats = NDArray[np.float64]


def evidence(
    x: Floats,
    y: Floats,
    group: NDArray[np.str_],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    lines: Sequence[tuple[str, Floats, Floats]] = (),
) -> Figure:
    """A point a configuration, a colour and marker a group; lines are a bound or a fit.

    Args:
        x, y: (points,) coordinates.
        group: (points,) names.
        x_label, y_label: what is on the axes.
        log_x, log_y: whether an axis is logarithmic.
        lines: label and corners of each line.
    """
    figure, (axes,) = panels(1, width=3.6, height=2.7)
    names = list(dict.fromkeys(str(name) for name in group))
    for name in names:
        mine = np.asarray(group) == name
        colour, marker = look(name, names)
        axes.scatter(
            x[mine],
            y[mine],
            s=18,
            color=colour,
            marker=marker,
            edgecolors="white",
            linewidths=0.4,
            label=name or None,
        )
    for number, (label, a, b) in enumerate(lines):
        axes.plot(a, b, ("-", "--", ":", "-.")[number % 4], color="black", lw=1, label=label)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="outside upper center", ncols=2, fontsize=7)
    return figure
