"""The framework's research questions (section 1.1): what the verdicts say about them.

Questions 1 and 2 (implicit regularisation, architecture) cite the verdicts of theorem 1 and
conjecture 1.2. Question 3 (geometric predictors) asks every geometric measure for Ψ, the
granulated Kendall coefficient of Jiang et al. (2020): does it rank the gap when one
hyper-parameter moves at a time? The worst axis is told beside it, because a measure that fails in
one environment is no predictor (Dziugaite et al. 2020). Question 4 (prediction from early
training) cites conjecture 1.3 for how fast training goes; for how it ends, geometry after the
first epoch has to add to what learning rate, batch size and the accuracy of that epoch tell
anyway: ΔR² of the final accuracy, each configuration predicted from all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from landscape_sweep.claims import table
from landscape_sweep.claims.association import scatter
from landscape_sweep.claims.question import Measured, NotMeasurableError, Question, answer
from landscape_sweep.claims.verdict import Evidence, Region, Verdict, number
from landscape_sweep.statistics import (
    Floats,
    geometric,
    granulated_kendall,
    left_out_errors,
    mean,
)

GAP = "gap/loss"
EARLY = ("early/lambda_max", "early/trace", "early/noise_scale", "early/sharpness", "early/loss")
NOISE_SCALE = "early/noise_scale"
"""Undefined where the squared gradient is estimated as negative: before anything is learnt."""
ALWAYS = tuple(column for column in EARLY if column != NOISE_SCALE)
KNOWN_ANYWAY = ("optimizer.lr", "batch_size", "early/test_accuracy")
RIDGE = 1.0
"""Penalty of both fits: eight slopes from a dozen configurations need one."""
CITED = {
    "research_question_1": "theorem_1",
    "research_question_2": "conjecture_1.2",
    "research_question_4": "conjecture_1.3",
}


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Question 3: Ψ of every geometric measure that varies. Question 4: ΔR² of early geometry."""
    yield from _ranking(runs)
    yield from answer(
        Question(
            claim="research_question_4",
            form="corrected",
            statement="Geometry after the first epoch tells the final accuracy better than "
            "learning rate, batch size and that epoch's accuracy alone do.",
            quantity="the gain in R² of the final test accuracy, each configuration predicted "
            "from the others,",
            region=Region(low=0.0),
            columns=(*ALWAYS, *KNOWN_ANYWAY, "test/accuracy"),
            experiment="geometry_predicts",
        ),
        *(runs, _gain),
    )


def _gain(rows: pd.DataFrame) -> Measured:
    """ΔR² by leave-one-configuration-out ridge regression; Student's t over configurations."""
    told = NOISE_SCALE in rows and bool(rows[NOISE_SCALE].notna().all())
    early = EARLY if told else ALWAYS
    points = table.means(rows, (*early, *KNOWN_ANYWAY, "test/accuracy"))
    accuracy = points["test/accuracy"].to_numpy()
    if np.var(accuracy) < 1e-12:
        raise NotMeasurableError("the final accuracy does not vary")
    known, geometry = (_logs(points[list(c)]) for c in (KNOWN_ANYWAY, early))
    without = left_out_errors(known, accuracy, RIDGE)
    with_geometry = left_out_errors(np.column_stack([known, geometry]), accuracy, RIDGE)
    r2 = 1 - np.mean(with_geometry**2) / np.var(accuracy)
    return Measured(
        mean((without**2 - with_geometry**2) / np.var(accuracy)),
        f"R² with geometry is {number(float(r2))}. A gain below 0 says that from so many "
        "configurations the added slopes cost more than they tell."
        + ("" if told else " The noise scale is left out, as some runs have none."),
        Evidence(
            x=accuracy - without,
            y=accuracy - with_geometry,
            group=points[table.ARCHITECTURE].to_numpy(str),
            x_label="final accuracy, predicted without geometry",
            y_label="… and with it",
        ),
    )


def _logs(columns: pd.DataFrame) -> Floats:
    """Columns as features: logarithms where all values are positive."""
    return np.column_stack([np.log(v) if (v > 0).all() else v for v in columns.to_numpy(float).T])


def _ranking(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Ψ of every geometric measure that varies."""
    done = table.completed(runs)
    measures = [
        c
        for c in runs.columns
        if geometric(c) and not c.startswith("connectivity/") and done[c].nunique() > 1
    ]
    different = done[measures].rank().T.drop_duplicates().index  # Ψ sees the order of runs alone
    for measure in different if measures else ["sharpness/sam"]:
        yield from answer(
            Question(
                claim="research_question_3",
                form="corrected",
                statement=f"A larger {measure} goes with a larger gap when one hyper-parameter "
                "moves at a time.",
                quantity=f"Ψ of {measure} and the gap in loss",
                region=Region(0.0, 1.0),
                columns=(measure, GAP),
                experiment="geometry_predicts",
            ),
            *(runs, lambda rows, measure=measure: _psi(rows, measure)),
        )


def _psi(rows: pd.DataFrame, measure: str) -> Measured:
    """Ψ over the keys that vary, and the axis where the measure fails most."""
    keys = [k for k in table.configuration_keys(rows) if k != "label" and rows[k].nunique() > 1]
    if not keys:
        raise NotMeasurableError("no hyper-parameter varies")
    points = table.means(rows, (measure, GAP))
    told = rows.groupby(table.CONFIGURATION)[keys].first().astype(str)
    axes = np.column_stack([told[k].astype("category").cat.codes for k in keys])
    found, psi = granulated_kendall(points[measure].to_numpy(), points[GAP].to_numpy(), axes)
    if np.isnan(psi).all():
        raise NotMeasurableError("no two configurations differ in one hyper-parameter alone")
    worst = int(np.nanargmin(psi))
    return Measured(
        found,
        f"The worst axis is {keys[worst]}: ψ = {number(float(psi[worst]))}, a sign error of "
        f"{number((1 - float(psi[worst])) / 2)}.",
        scatter(points, measure, GAP),
    )


def cite(verdicts: list[Verdict]) -> Iterator[Verdict]:
    """Questions 1, 2 and 4, answered by the primary verdicts they rest on."""
    for question, claim in CITED.items():
        for verdict in verdicts:
            if verdict.claim == claim and verdict.primary:
                yield replace(
                    verdict,
                    claim=question,
                    primary=False,
                    reason=f"As {claim}: {verdict.reason}",
                )
