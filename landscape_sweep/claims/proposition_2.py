"""Proposition 2, over-parameterisation: rank(H) ≤ n + c ≪ p at minima (eq. 12).

Flaw. At an interpolating minimum H is the Gauss-Newton matrix, whose rank is up to n(c − 1) for
cross-entropy and nc for squared loss: each image brings as many directions as it has outputs.
Linear regression with three outputs on ten images has rank 30, and n + c = 13. On CIFAR-10 n(c
− 1) is 450,000, so that p ≫ n is not enough.

Corrected: rank = α n(c − 1) (nc for squared loss) with α between 0.95 and 1. That manifolds of
minima are connected is conjecture 1.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from landscape_sweep.claims import counterexamples, table
from landscape_sweep.claims.question import Measured, NotMeasurableError, Question, answer, computed
from landscape_sweep.claims.verdict import Evidence, Line, Region, Verdict, number

CLAIM = "proposition_2"
EXPERIMENT = "overparameterization"
SIZES = ("rank/samples", "rank/classes")


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Ranks against n + c and against n(c − 1), for either loss, and the analytic cases."""
    literal = Question(
        claim=CLAIM,
        form="literal",
        statement="The rank of the Hessian is at most n + c.",
        quantity="the share of configurations whose Gauss-Newton rank exceeds n + c",
        region=Region(0.0, 0.05),
        columns=("rank/ggn", *SIZES),
        experiment=EXPERIMENT,
        primary=True,
        universal=True,
    )
    yield from answer(literal, runs, lambda rows: _exceeding(rows, "rank/ggn", _n_plus_c(rows)))
    exact = replace(
        literal,
        primary=False,
        quantity="the share of configurations whose exact Hessian's rank exceeds n + c",
        columns=("rank/hessian", *SIZES),
    )
    yield from answer(exact, runs, lambda rows: _exceeding(rows, "rank/hessian", _n_plus_c(rows)))
    yield from answer(
        replace(
            exact,
            form="corrected",
            statement="At most n + c directions carry weight: the effective rank is below that.",
            quantity="the share of configurations whose effective rank (Σ|λ|)²/Σλ² exceeds n + c",
            columns=("rank/effective", *SIZES),
        ),
        *(runs, lambda rows: _exceeding(rows, "rank/effective", _n_plus_c(rows))),
    )
    for column, words in (("rank/ggn", "n(c − 1)"), ("rank/ggn_mse", "nc")):
        loss = "cross-entropy" if column == "rank/ggn" else "squared loss"
        fitting = _of_cross_entropy(runs) if column == "rank/ggn" else runs
        yield from answer(
            replace(
                exact,
                form="corrected",
                statement=f"For {loss} the rank of the Gauss-Newton matrix is at most {words}.",
                quantity=f"the share of configurations whose Gauss-Newton rank exceeds {words}",
                columns=(column, *SIZES),
            ),
            *(
                fitting,
                lambda rows, column=column: _exceeding(rows, column, _outputs(rows, column)),
            ),
        )
        yield from answer(
            Question(
                claim=CLAIM,
                form="corrected",
                statement=f"For {loss} the rank of the Gauss-Newton matrix is close to {words}.",
                quantity=f"the Gauss-Newton rank over {words}",
                region=Region(low=0.95),
                columns=(column, *SIZES),
                experiment=EXPERIMENT,
            ),
            *(fitting, lambda rows, column=column: _share(rows, column)),
        )
    yield from _analytic()


def _of_cross_entropy(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs whose ``rank/ggn`` is a softmax's: it is the rank under the loss of the run itself."""
    return runs[runs["loss"] != "mse"] if "loss" in runs else runs


def _n_plus_c(rows: pd.DataFrame) -> pd.Series:
    total: pd.Series = rows["rank/samples"] + rows["rank/classes"]
    return total


def _outputs(rows: pd.DataFrame, column: str) -> pd.Series:
    """n(c − 1) for cross-entropy, whose outputs have one direction without effect; nc for MSE."""
    total: pd.Series = rows["rank/samples"] * (rows["rank/classes"] - (column == "rank/ggn"))
    return total


def _exceeding(rows: pd.DataFrame, column: str, limit: pd.Series) -> Measured:
    """Share of configurations with a mean rank above the limit (columns of ``rows``)."""
    points = table.means(rows.assign(limit=limit), (column, "limit"))
    ratio = float((points[column] / points["limit"]).max())
    ends = np.array([points["limit"].min(), points["limit"].max()])
    return Measured(
        table.share_over(rows, rows[column] - limit),
        f"The largest is {number(ratio)} times that.",
        Evidence(
            x=points["limit"].to_numpy(),
            y=points[column].to_numpy(),
            group=points[table.ARCHITECTURE].to_numpy(str),
            x_label="what is claimed",
            y_label=column,
            log_x=True,
            log_y=True,
            lines=(Line("equal", ends, ends),),
        ),
    )


def _share(rows: pd.DataFrame, column: str) -> Measured:
    """α: the rank over what the outputs allow."""
    allowed = _outputs(rows, column)
    if not (allowed > 0).all():
        raise NotMeasurableError("a run has one class")
    rows = rows.assign(share=rows[column] / allowed, allowed=allowed, rank=rows[column])
    points = table.means(rows, ("allowed", "rank"))
    ends = np.array([points["allowed"].min(), points["allowed"].max()])
    return Measured(
        table.mean_over(rows, "share"),
        evidence=Evidence(
            x=points["allowed"].to_numpy(),
            y=points["rank"].to_numpy(),
            group=points[table.ARCHITECTURE].to_numpy(str),
            x_label="what the outputs allow",
            y_label=column,
            log_x=True,
            log_y=True,
            lines=(Line("equal", ends, ends),),
        ),
    )


def _analytic() -> Iterator[Verdict]:
    """Linear regression and softmax regression, by dense ranks."""
    case = Question(
        claim=CLAIM,
        form="analytic",
        statement="The rank of the Hessian is at most n + c.",
        quantity="the rank over n + c",
        region=Region(0.0, 1.0),
    )
    rank = counterexamples.regression_rank(10, 20, 3)
    yield computed(
        case,
        rank / 13,
        f"Linear regression with 3 outputs on 10 images in 20 dimensions has rank {rank}; "
        "n + c is 13.",
    )
    rank = counterexamples.softmax_rank(10, 20, 3)
    yield computed(
        replace(
            case,
            statement="For softmax the rank is n(c − 1) where images are independent.",
            quantity="the rank over n(c − 1)",
            region=Region(0.95, 1.0),
        ),
        rank / 20,
        f"Softmax regression with 3 classes on 10 images in 20 dimensions has rank {rank}.",
    )
