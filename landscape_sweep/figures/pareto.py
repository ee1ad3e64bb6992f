"""What a search found: the Pareto front of several objectives, the best so far of one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landscape_sweep.figures.bars import METRICS
from landscape_sweep.figures.style import (
    PALETTE,
    PANELS,
    is_wide,
    legend_above,
    log_x,
    log_y,
    panels,
    whole_x,
)

BEST, OTHER = PALETTE[1], PALETTE[6]

CROWDED = 0.05
"""Points closer than this share of a panel, both ways, have no room for a text each."""


def pareto_front(trials: pd.DataFrame, objectives: Mapping[str, str]) -> Figure:
    """Every completed trial, in a panel for each two objectives; the front is marked.

    The front is that of all objectives together: only where there are two does a line part what
    some trial beats from what none does.

    Args:
        trials: ``number, state, on_front`` and a column an objective, one row a trial.
        objectives: metric and ``maximize`` or ``minimize``; two or more.
    """
    done = _percent(trials[trials["state"] == "COMPLETE"], objectives)
    on_front = done["on_front"].astype(bool)
    pairs = list(itertools.combinations(objectives, 2))
    figure, every = panels(
        min(len(pairs), PANELS), width=4.6 if len(pairs) == 1 else 3.6, height=3.9
    )
    for axes, (x, y) in zip(every, pairs, strict=False):
        rest, best = done[~on_front], done[on_front].sort_values([x, y])
        axes.scatter(rest[x], rest[y], s=14, color=OTHER, label=f"{len(rest)} others")
        axes.scatter(
            best[x], best[y], s=28, marker="D", color=BEST, label=f"{len(best)} on the front"
        )
        if len(pairs) == 1:
            # With x at least (at most) a value, the best y is that of the next front point.
            where = "steps-pre" if objectives[x] == "maximize" else "steps-post"
            axes.plot(best[x], best[y], color=BEST, linewidth=0.8, drawstyle=where)
        axes.set(xlabel=_label(x, objectives), ylabel=_label(y, objectives))
        if is_wide(done[x]):
            log_x(axes)
        if is_wide(done[y]):
            log_y(axes)
        _number(axes, best[[x, y]].to_numpy(float), best["number"].to_list())
        legend_above(axes)
    left_out = f" ({PANELS} of {len(pairs)} pairs)" * (len(pairs) > PANELS)
    figure.suptitle(f"Pareto front over {_counted(trials)}{left_out}")
    return figure


def search_history(trials: pd.DataFrame, objectives: Mapping[str, str]) -> Figure:
    """The one objective of every trial, and the best up to it.

    Args:
        trials: as for ``pareto_front``; what a pruned trial last reported is drawn hollow.
        objectives: metric and ``maximize`` or ``minimize``; one.
    """
    ((metric, direction),) = objectives.items()
    values = _percent(trials, objectives)
    done, pruned = (values[values["state"] == state] for state in ("COMPLETE", "PRUNED"))
    best = done[metric].cummax() if direction == "maximize" else done[metric].cummin()
    figure, (axes,) = panels(1, width=4.6, height=3.9)
    axes.scatter(done["number"], done[metric], s=14, color=OTHER, label=f"{len(done)} trials")
    if len(pruned):
        axes.scatter(
            *(pruned["number"], pruned[metric]),
            s=14,
            facecolors="white",
            edgecolors=OTHER,
            label=f"{len(pruned)} pruned, at their last epoch",
        )
    axes.plot(done["number"], best, color=BEST, drawstyle="steps-post", label="best so far")
    axes.set(xlabel="trial", ylabel=_label(metric, objectives))
    whole_x(axes)
    if is_wide(done[metric]):
        log_y(axes)
    legend_above(axes)
    figure.suptitle(f"Search over {_counted(trials)}")
    return figure


def _number(axes: Axes, points: NDArray[np.float64], numbers: Sequence[int]) -> None:
    """Write its number at each point; those that lie together share one text, at the last."""
    axes.autoscale_view()  # until then places are those of an empty panel
    places = axes.transAxes.inverted().transform(axes.transData.transform(points))
    texts: dict[int, str] = {}
    for at, number in enumerate(numbers):
        near = at > 0 and bool((np.abs(places[at] - places[at - 1]) < CROWDED).all())
        before = f"{texts.pop(at - 1)}, " if near else ""
        texts[at] = f"{before}{number}"
    for at, text in texts.items():
        place, offset = tuple(points[at]), (4, 4)
        axes.annotate(text, place, xytext=offset, textcoords="offset points", fontsize=7)


def _percent(trials: pd.DataFrame, objectives: Mapping[str, str]) -> pd.DataFrame:
    """Accuracies as they are read."""
    return trials.assign(**{m: 100 * trials[m] for m in objectives if m.endswith("accuracy")})


def _label(metric: str, objectives: Mapping[str, str]) -> str:
    unit = " (%)" * metric.endswith("accuracy")
    better = {"maximize": "higher", "minimize": "lower"}[objectives[metric]]
    return f"{METRICS.get(metric, metric + unit)}\n{better} is better"


def _counted(trials: pd.DataFrame) -> str:
    """How many trials there are, and how many have no place in the figure."""
    counts = trials["state"].value_counts()
    others = {"PRUNED": "pruned", "FAIL": "failed or diverged", "RUNNING": "unfinished"}
    lost = ", ".join(f"{counts[state]} {word}" for state, word in others.items() if state in counts)
    return f"n = {counts.get('COMPLETE', 0)} trials" + f"\n({lost})" * bool(lost)
