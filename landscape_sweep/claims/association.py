"""Correlations across configurations within one architecture, as several claims ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from landscape_sweep.claims import table
from landscape_sweep.claims.question import Measured, NotMeasurableError, Question, answer
from landscape_sweep.claims.verdict import Evidence, Verdict, listed, number
from landscape_sweep.statistics import Floats, jackknife, partial_spearman, spearman

CONTROLS = ("optimizer.lr", "batch_size", table.IMAGES, "data.label_noise")


def correlated(
    question: Question,
    runs: pd.DataFrame,
    x: str,
    y: str,
    statistic: Callable[[Floats, Floats], float],
    note: str = "",
) -> Iterator[Verdict]:
    """A verdict on ``statistic`` of ``x`` and ``y`` over the configurations' means.

    ``note`` is a sentence on which runs these are, for the reason.
    """
    note = " ".join(filter(None, (note, simpson(runs, x, y))))

    def measure(rows: pd.DataFrame) -> Measured:
        points = table.means(rows, (x, y))
        estimate = jackknife(statistic, points[x].to_numpy(), points[y].to_numpy())
        return Measured(estimate, note, scatter(points, x, y))

    return answer(question, runs, measure)


def partially_correlated(
    question: Question,
    runs: pd.DataFrame,
    x: str,
    y: str,
    given: tuple[str, ...] = CONTROLS,
    note: str = "",
) -> Iterator[Verdict]:
    """A verdict on Spearman's ρ of ``x`` and ``y`` given other columns, where they vary.

    Ranks do not change under the logarithm: given η and B is given log η and log B. ``note`` is as
    above.
    """
    note = " ".join(filter(None, (note, simpson(runs, x, y))))

    def measure(rows: pd.DataFrame) -> Measured:
        controls = [c for c in given if c in rows and rows[c].nunique() > 1]
        points = table.means(rows, tuple(dict.fromkeys((x, y, *controls)))).dropna()
        if len(points) < len(controls) + 4:
            adjusting = f" to adjust for {listed(controls)}" if controls else ""
            raise NotMeasurableError(f"there are too few configurations{adjusting}")
        estimate = jackknife(
            partial_spearman,
            *(points[x].to_numpy(), points[y].to_numpy(), points[controls].to_numpy()),
            controls=len(controls),
        )
        return Measured(estimate, note, scatter(points, x, y))

    return answer(question, runs, measure)


def simpson(runs: pd.DataFrame, x: str, y: str) -> str:
    """A warning where pooling the architectures turns the sign that each of them has."""
    if table.missing(runs, (x, y)):
        return ""
    points = table.means(table.whole(runs, (x, y)), (x, y))
    within = [
        rho
        for _, group in points.groupby(table.ARCHITECTURE)
        if len(group) > 2 and not np.isnan(rho := spearman(*group[[x, y]].to_numpy().T))
    ]
    pooled = spearman(*points[[x, y]].to_numpy().T)
    if len(within) < 2 or len(set(np.sign(within))) > 1 or pooled * within[0] >= 0:
        return ""
    each = listed([number(rho) for rho in within])
    return (
        f"Warning: pooling the architectures would turn the sign (Spearman {number(pooled)} "
        f"pooled, {each} within each): the pooled number says nothing (Simpson's paradox)."
    )


def scatter(points: pd.DataFrame, x: str, y: str) -> Evidence:
    """The configurations' means, as they are plotted."""
    return Evidence(
        x=points[x].to_numpy(float),
        y=points[y].to_numpy(float),
        group=points[table.ARCHITECTURE].to_numpy(str),
        x_label=x,
        y_label=y,
        log_x=bool((points[x] > 0).all()),
    )
