"""The points behind a verdict, as a small plot."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landscape_sweep.figures import style

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
    # Fixed margins: a layout that measures every text would take most of a report's time.
    figure = Figure(figsize=(3.6, 2.9))
    names = list(dict.fromkeys(str(name) for name in group))
    told = len(names) > 1 or len(lines) > 0
    axes = figure.add_axes((0.2, 0.2, 0.76, 0.58 if told else 0.74))
    for name in names:
        mine = np.asarray(group) == name
        colour, marker = style.look(name, names)
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
    axes.set_xlabel(textwrap.fill(x_label, 48, break_long_words=False), fontsize=8)
    axes.set_ylabel(textwrap.fill(y_label, 32, break_long_words=False), fontsize=8)
    axes.tick_params(labelsize=7)
    if log_x:
        style.log_x(axes)
    if log_y:
        style.log_y(axes)
    if told:
        figure.legend(loc="upper center", ncols=2, fontsize=7, borderaxespad=0.2)
    return figure
