"""Conjecture 1.3, trainability: "lower max eigenvalues correlate with easier optimization".

Flaw. The final λ_max is set by the learning rate (2/η at the edge of stability: Cohen et al.
2021), so that it cannot tell how training went. At one fixed rate, more curvature makes descent
on a quadratic faster, not slower.

Corrected: λ_max early in training against the steps until the loss is first at most 0.5, within
one learning rate and batch size, as batches set how far an epoch goes and how many steps it takes;
runs that never got there are censored at their last step. Then runs differ by their seeds first of
all, which configurations share, and the interval allows for that.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from landscape_sweep.claims import counterexamples, table
from landscape_sweep.claims.association import correlated, scatter
from landscape_sweep.claims.question import Measured, NotMeasurableError, Question, answer, computed
from landscape_sweep.claims.verdict import FEWEST_CONFIGS, Region, Verdict
from landscape_sweep.statistics import concordance, spearman

CLAIM = "conjecture_1.3"
EXPERIMENT = "geometry_predicts"
STEPS = "train/steps_to_loss"
POSITIVE = Region(0.0, 1.0)


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Final λ_max against steps, early λ_max at equal η and B, descent on a quadratic."""
    yield from correlated(
        Question(
            claim=CLAIM,
            form="literal",
            statement="Networks with a lower final λ_max took fewer steps to train.",
            quantity="Spearman's ρ of the final λ_max and the steps to a loss of 0.5",
            region=POSITIVE,
            columns=("hessian/lambda_max", STEPS),
            experiment=EXPERIMENT,
        ),
        *(runs, "hessian/lambda_max", STEPS, spearman),
    )
    yield from answer(
        Question(
            claim=CLAIM,
            form="corrected",
            statement="At equal learning rate and batch size, networks with a lower λ_max early in "
            "training get to a loss of 0.5 in fewer steps.",
            quantity="the excess of pairs at equal η and B in which the lower early λ_max was "
            "faster",
            region=POSITIVE,
            columns=("early/lambda_max", "train/steps", "optimizer.lr", "batch_size", "seed"),
            experiment=EXPERIMENT,
            primary=True,
        ),
        *(runs, _early),
    )
    yield computed(
        Question(
            claim=CLAIM,
            form="analytic",
            statement="Lower curvature is easier to descend.",
            quantity="Spearman's ρ of λ and the steps of descent",
            region=POSITIVE,
        ),
        counterexamples.steps_against_curvature(),
        "Descent with η = 0.1 on ½λθ² for twelve λ between 0.5 and 9.5.",
    )


def _early(rows: pd.DataFrame) -> Measured:
    """Somers' D of early λ_max and censored steps, within each learning rate and batch size."""
    reached = rows.get(STEPS, pd.Series(np.nan, index=rows.index))
    time = reached.fillna(rows["train/steps"])
    there = rows[table.CONFIGURATION][reached.notna()].nunique()
    if there < FEWEST_CONFIGS:
        raise NotMeasurableError(
            f"a loss of 0.5 was reached in {there} configurations and it takes {FEWEST_CONFIGS}"
        )
    cells = rows.groupby(["optimizer.lr", "batch_size"]).ngroup()
    found = concordance(
        rows["early/lambda_max"].to_numpy(),
        np.asarray(time, np.float64),
        reached.notna().to_numpy(),
        rows[table.CONFIGURATION].to_numpy(),
        cells.to_numpy(),
        rows["seed"].to_numpy(),
    )
    censored = int(reached.isna().sum())
    points = table.means(rows.assign(**{STEPS: time}), ("early/lambda_max", STEPS))
    return Measured(
        found,
        f"{censored} of {len(rows)} runs never reached a loss of 0.5 and are censored.",
        scatter(points, "early/lambda_max", STEPS),
    )
