"""Conjecture 1.4, mode connectivity: "well-trained models have low-barrier connections".

Flaw. Eq. 4 counts a difference between the ends as a barrier. Two networks that compute the
same function with their units in another order are separated by one. Straight lines between
independently trained networks go over high barriers (Frankle et al. 2020).

Corrected: the rise above the line between the ends, after units are matched and BatchNorm
statistics re-estimated (Ainsworth et al. 2023; Jordan et al. 2023), or along a curve (Garipov
et al. 2018).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from landscape_sweep.claims import counterexamples, table
from landscape_sweep.claims.question import Measured, Question, answer, computed
from landscape_sweep.claims.verdict import Evidence, Region, Verdict

CLAIM = "conjecture_1.4"
EXPERIMENT = "connectivity"
LOW = Region(high=0.05)
BEST = ("connectivity/aligned_reset/excess", "connectivity/aligned/excess")
"""What decides the corrected form: the first of these that was measured."""


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Eq. 4 on straight lines, the rise above the ends in every mode, and the analytic cases."""
    naive = Question(
        claim=CLAIM,
        form="literal",
        statement="The straight line between independently trained networks has a low barrier.",
        quantity="the barrier of eq. 4 (loss)",
        region=LOW,
        columns=("connectivity/naive/barrier",),
        experiment=EXPERIMENT,
    )
    runs = table.trained_apart(runs)
    yield from height(naive, runs)
    best = next((c for c in BEST if not table.missing(runs, (c,))), BEST[0])
    others = sorted(
        c for c in runs.columns if re.fullmatch(r"connectivity/[^/]+/excess", c) and c != best
    )
    for column in (best, *others):
        mode = column.split("/")[1].replace("_", " and ")
        yield from height(
            replace(
                naive,
                form="corrected",
                statement=f"Independently trained networks are joined at low loss ({mode}).",
                quantity=f"the rise above the line between the ends (loss, {mode})",
                columns=(column,),
                primary=column == best,
            ),
            runs,
        )
    yield from _analytic()


def height(question: Question, runs: pd.DataFrame) -> Iterator[Verdict]:
    """A verdict on the mean over configurations of the question's only column."""
    (column,) = question.columns

    def measure(rows: pd.DataFrame) -> Measured:
        points = table.means(rows, (column,))
        return Measured(
            table.mean_over(rows, column),
            "Each configuration counts with the mean over its pairs of seeds.",
            Evidence(
                x=np.arange(len(points), dtype=float),
                y=np.sort(points[column].to_numpy()),
                group=points[table.ARCHITECTURE].to_numpy(str),
                x_label="configuration, by height",
                y_label=column,
            ),
        )

    return answer(question, runs, measure)


def _analytic() -> Iterator[Verdict]:
    """Barriers between minima that are global, and between copies of one function."""
    case = Question(
        claim=CLAIM,
        form="analytic",
        statement="Minima of loss 0 are joined by a straight line of low loss.",
        quantity="the barrier of eq. 4",
        region=LOW,
    )
    yield computed(
        case,
        counterexamples.barrier(counterexamples.double_well()),
        "The two global minima of (x² − 1)².",
    )
    yield computed(
        case,
        counterexamples.barrier(counterexamples.product()),
        "From (1, 1) to (−1, −1), both global minima of ½(uv − 1)².",
    )
    permuted, matched = counterexamples.permuted_copy()
    yield computed(
        case,
        counterexamples.barrier(permuted),
        "A ReLU network and the same network with its units in another order.",
    )
    yield computed(
        replace(
            case, statement="After matching units, copies of a network are joined at low loss."
        ),
        counterexamples.barrier(matched),
        "The same two networks after their units were matched by weights.",
    )
    line = np.linspace(0.0, 1.0, 25)
    yield computed(
        replace(
            case,
            statement="Where eq. 4 is high there is something to climb on the way.",
            quantity="the barrier of eq. 4 less the rise above the line between the ends",
        ),
        counterexamples.barrier(line) - counterexamples.excess(line),
        "A loss that falls evenly from one end to the other, L = x.",
    )
