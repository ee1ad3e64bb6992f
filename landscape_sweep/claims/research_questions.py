"""The framework's research questions (section 1.1): what the verdicts say about them.

Questions 1 and 2 (implicit regularisation, architecture) cite the verdicts of theorem 1 and
conjecture 1.2. Question 3 (geometric predictors) asks every geometric measure for Ψ, the
granulated Kendall coefficient of Jiang et al. (2020): does it rank the gap when one
hyper-parameter moves at a time? The worst axis is told beside it, because a measure that fails in
one environment is no predictor (Dziugaite et al. 2020). Question 4 (prediction from early
training) is conjecture 1.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from landscape_sweep.claims import table
from landscape_sweep.claims.association import scatter
from landscape_sweep.claims.question import Measured, NotMeasurableError, Question, answer
from landscape_sweep.claims.verdict import Region, Verdict, number
from landscape_sweep.statistics import granulated_kendall

GEOMETRY = ("hessian/", "sharpness/", "noise/", "measure/", "surface/")
GAP = "gap/loss"
CITED = {
    "research_question_1": "theorem_1",
    "research_question_2": "conjecture_1.2",
    "research_question_4": "conjecture_1.3",
}


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Question 3: Ψ of every geometric measure that varies."""
    done = table.completed(runs)
    measures = [c for c in runs.columns if c.startswith(GEOMETRY) and done[c].nunique() > 1]
    for measure in measures or ["sharpness/sam"]:
        yield from answer(
            Question(
                claim="research_question_3",
                form="corrected",
                statement=f"{measure} ranks the gap when one hyper-parameter moves at a time.",
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
