"""What a search over several objectives found."""

from __future__ import annotations

import itertools

import pandas as pd
from matplotlib.figure import Figure

from landscape_sweep.figures.style import PANELS, panels

KEYS = ("number", "state", "on_front")
"""Columns of the trials' table that are no objectives."""


def pareto_front(trials: pd.DataFrame) -> Figure:
    """Every complete trial, a panel for each two objectives; those on the front are marked.

    Args:
        trials: ``number, state, on_front`` and a column an objective, one row a trial. One
            objective alone is drawn over the trials.
    """
    objectives = [str(column) for column in trials.columns if column not in KEYS]
    done = trials[trials["state"] == "COMPLETE"]
    front = done["on_front"].astype(bool)
    pairs = list(itertools.combinations(objectives, 2)) or [("number", objectives[0])]
    figure, every = panels(min(len(pairs), PANELS), width=4.2, height=3.4)
    for axes, (x, y) in zip(every, pairs, strict=False):
        rest, best = done[~front], done[front].sort_values([x, y])
        axes.scatter(rest[x], rest[y], s=16, color="#999999", label=f"{len(rest)} others")
        axes.plot(
            best[x],
            best[y],
            "D--" if len(pairs) == 1 and x != "number" else "D",
            color="#D55E00",
            markersize=6,
            linewidth=0.8,
            label=f"{len(best)} on the front",
        )
        for number, a, b in zip(best["number"], best[x], best[y], strict=True):
            axes.annotate(
                str(number),
                (a, b),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=7,
            )
        axes.set(xlabel="trial" if x == "number" else x, ylabel=y)
        axes.legend(fontsize=7)
    lost = len(trials) - len(done)
    figure.suptitle(
        f"Search: {len(done)} complete trials" + f", {lost} failed or unfinished" * bool(lost)
    )
    return figure
