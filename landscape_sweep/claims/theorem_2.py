"""Theorem 2, a PAC-Bayes bound from flatness: |gap| ≤ √((2ρ² + log(2p/δ))/n) (eq. 9), and eq. 10.

Flaws. ρ is sharpness in eq. 9 and the scale of a perturbation in eq. 10; log p has no
derivation; a prior centred at the trained θ depends on the data; cross-entropy is unbounded;
PAC-Bayes is one-sided and about perturbed weights. Eq. 10's own divergence is huge: p = 10⁶ and
ρ = 0.05 make the penalty 5, where an error is at most 1. Random labels decide: a network that
fits them has the largest gap there is, and eq. 9 does not see the labels. It may fail for a share δ
of training sets; the experiment draws the labels anew for every seed.

Corrected (Maurer 2004; Dziugaite & Roy 2017): E err_test ≤ E err_train + √((KL +
ln(2√n/δ'))/2n) over Gaussian perturbations, the prior centred at initialisation, a union over a
grid of scales.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from landscape_sweep.claims import counterexamples, table
from landscape_sweep.claims.association import partially_correlated
from landscape_sweep.claims.question import (
    Measured,
    NotMeasurableError,
    Question,
    answer,
    computed,
)
from landscape_sweep.claims.verdict import Evidence, Line, Region, Verdict, number
from landscape_sweep.statistics import slope

CLAIM = "theorem_2"
EXPERIMENT = "random_labels"
DELTA = 0.05
KEPT = Region(0.0, DELTA)
RADIUS = 0.05


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Eq. 9 on random labels and on all runs, eq. 10, the corrected bound, the analytic cases."""
    yield from _eq_9(runs)
    yield from _eq_10(runs)
    yield from _sample_size(runs)
    yield from _corrected(runs)
    yield from _analytic()


def _eq_9(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Violations of eq. 9, in error and in cross-entropy."""
    error = Question(
        claim=CLAIM,
        form="literal",
        statement="Eq. 9 bounds the gap between training and test error.",
        quantity="the share of configurations whose gap in error exceeds eq. 9",
        region=KEPT,
        columns=("gap/accuracy", "test/accuracy", "sharpness/sam", "measure/parameters"),
        experiment=EXPERIMENT,
        universal=True,
    )
    random = runs
    if "data.label_noise" in runs:
        random = runs[runs["data.label_noise"] >= 0.99]
    yield from answer(
        replace(
            error,
            statement="Eq. 9 bounds the gap in error where all labels are random.",
            primary=True,
        ),
        *(random if "data.label_noise" in runs else runs.iloc[:0], _error_violations),
        "random-label",
    )
    yield from answer(error, runs, _error_violations)
    yield from answer(
        replace(
            error,
            statement="Eq. 9 bounds the gap between training and test loss.",
            quantity="the share of configurations whose gap in loss exceeds eq. 9",
            columns=("gap/loss", "sharpness/sam", "measure/parameters"),
        ),
        runs,
        _loss_violations,
    )


def _right_side(rows: pd.DataFrame) -> pd.Series:
    """Eq. 9 for each run, with sharpness S_ρ for ρ as the theorem has it; NaN without n."""
    rho, p = rows["sharpness/sam"], rows["measure/parameters"]
    n = table.train_images(rows)
    if n.isna().all():
        raise NotMeasurableError(
            "no run tells the number of training images (measure/train_images or data.train_size)"
        )
    right: pd.Series = np.sqrt((2 * rho**2 + np.log(2 * p / DELTA)) / n)
    return right


def _error_violations(rows: pd.DataFrame) -> Measured:
    """A configuration violates where the lower 95% limit of its gap does, seeds averaged.

    The test set is a sample: its accuracy may be as high as Clopper & Pearson's upper limit.
    """
    right, m = _right_side(rows), table.test_images(rows)
    accuracy = rows["test/accuracy"].clip(0, 1)
    correct = (accuracy * m).round()
    upper = stats.beta.ppf(0.975, correct + 1, (m - correct).clip(lower=0) + 1e-12)
    margin = pd.Series(upper, index=rows.index) - accuracy
    note = ""
    if margin.isna().any():
        note = "The test set's size is not known; its sampling error is left out."
    gap = (rows["gap/accuracy"].abs() - margin.fillna(0)).clip(lower=0)
    return _counted(rows, gap, right, "train − test accuracy", note)


def _loss_violations(rows: pd.DataFrame) -> Measured:
    """As for the error, with 1.96 standard errors of the mean test loss for a margin."""
    error = rows.get("test/loss_se", pd.Series(np.nan, index=rows.index))
    note = "The test loss's sampling error is not known and left out." if error.isna().any() else ""
    gap = (rows["gap/loss"].abs() - stats.norm.ppf(0.975) * error.fillna(0)).clip(lower=0)
    return _counted(rows, gap, _right_side(rows), "test − train loss", note)


def _counted(
    rows: pd.DataFrame, gap: pd.Series, right: pd.Series, label: str, note: str
) -> Measured:
    """Share of configurations whose mean gap is beyond the mean right side."""
    told = rows.assign(gap=gap, right=right).dropna(subset=["gap", "right"])
    points = table.means(told, ("gap", "right"))
    if len(points) < 2:
        raise NotMeasurableError("fewer than two configurations tell their number of images")
    ratio = float((points["gap"] / points["right"]).median())
    note = f"The gap is {number(ratio)} times eq. 9 in the median. {note}".strip()
    ends = np.array([0.0, float(points["right"].max())])
    return Measured(
        table.share_over(told, told["gap"] - told["right"]),
        note,
        Evidence(
            x=points["right"].to_numpy(),
            y=points["gap"].to_numpy(),
            group=points[table.ARCHITECTURE].to_numpy(str),
            x_label="right side of eq. 9",
            y_label=label,
            lines=(Line("the bound", ends, ends),),
        ),
    )


def _eq_10(runs: pd.DataFrame) -> Iterator[Verdict]:
    """What eq. 10 adds to the training error, with its own divergence."""

    def measure(rows: pd.DataFrame) -> Measured:
        n = table.train_images(rows)
        kl = 0.5 * (
            rows["measure/parameters"] * (RADIUS**2 - 1 - np.log(RADIUS**2))
            + rows["measure/norm"] ** 2
        )
        penalty = rows.assign(penalty=np.sqrt((kl + np.log(1 / DELTA)) / (2 * n)))
        found = penalty.dropna(subset="penalty")
        if found[table.CONFIGURATION].nunique() < 2:
            raise NotMeasurableError("no run tells its number of training images")
        return Measured(table.mean_over(found, "penalty", "log"), "An error is at most 1.")

    yield from answer(
        Question(
            claim=CLAIM,
            form="literal",
            statement=f"Eq. 10 with ρ = {RADIUS} says something about the test error.",
            quantity="what eq. 10 adds to the training error",
            region=Region(0.0, 1.0),
            columns=("measure/parameters", "measure/norm"),
            experiment=EXPERIMENT,
        ),
        *(runs, measure),
    )


def _sample_size(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Both equations have the gap fall as n^−½."""

    def measure(rows: pd.DataFrame) -> Measured:
        logs = rows.assign(n=np.log(table.train_images(rows)), gap=np.log(rows["gap/accuracy"]))
        points = table.means(logs[np.isfinite(logs["gap"])], ("n", "gap")).dropna()
        if points["n"].round(9).nunique() < 3:
            raise NotMeasurableError("fewer than three numbers of training images were tried")
        found = slope(points["gap"].to_numpy(), points[["n"]].to_numpy(), [1])
        return Measured(
            found,
            evidence=Evidence(
                x=np.exp(points["n"].to_numpy()),
                y=np.exp(points["gap"].to_numpy()),
                group=points[table.ARCHITECTURE].to_numpy(str),
                x_label="training images n",
                y_label="train − test accuracy",
                log_x=True,
                log_y=True,
            ),
        )

    positive = runs
    if "gap/accuracy" in runs:
        positive = runs[~(runs["gap/accuracy"] <= 0)]
        if "data.label_noise" in runs:
            positive = positive[~(positive["data.label_noise"] > 0)]
    yield from answer(
        Question(
            claim=CLAIM,
            form="literal",
            statement="The gap falls as the root of the number of training images.",
            quantity="the slope of log gap (in error) on log n",
            region=Region(-0.6, -0.4),
            columns=("gap/accuracy",),
            experiment=EXPERIMENT,
        ),
        *(positive, measure, "clean-label"),
    )


def _corrected(runs: pd.DataFrame) -> Iterator[Verdict]:
    """The PAC-Bayes bound as it is proved: does it hold, is it informative, does it rank?"""
    holds = Question(
        claim=CLAIM,
        form="corrected",
        statement="The PAC-Bayes bound of the perturbed network bounds its test error.",
        quantity="the share of configurations whose perturbed test error exceeds the bound",
        region=KEPT,
        columns=("pac_bayes/bound", "pac_bayes/test_error"),
        experiment=EXPERIMENT,
        universal=True,
    )

    def violations(rows: pd.DataFrame) -> Measured:
        excess = rows["pac_bayes/test_error"] - rows["pac_bayes/bound"]
        return Measured(table.share_over(rows, excess))

    yield from answer(holds, runs, violations)
    yield from answer(
        replace(
            holds,
            statement="That bound is informative: below the error of guessing.",
            quantity="the PAC-Bayes bound over the error of naming the most frequent class",
            region=Region(0.0, 1.0),
            columns=("pac_bayes/bound", "pac_bayes/chance"),
            universal=False,
        ),
        runs,
        _informative,
    )
    sized = table.with_images(runs)  # any bound that falls with n ranks the gap across n
    yield from partially_correlated(
        replace(
            holds,
            statement="Of networks trained on equally many images that bound ranks the gap.",
            quantity="the rank correlation of the bound and the gap in error, given n,",
            region=Region(0.0, 1.0),
            columns=("pac_bayes/bound", "gap/accuracy", table.IMAGES),
            universal=False,
        ),
        *(sized, "pac_bayes/bound", "gap/accuracy", (table.IMAGES,)),
    )


def _informative(rows: pd.DataFrame) -> Measured:
    """The bound against guessing: a network drowned in noise has a bound near 1 − 1/c for free."""
    ratio = rows["pac_bayes/bound"] / rows["pac_bayes/chance"]
    if not np.isfinite(ratio).all():
        raise NotMeasurableError("a training set has one class")
    return Measured(table.mean_over(rows.assign(ratio=ratio), "ratio"))


def _analytic() -> Iterator[Verdict]:
    """A memoriser, eq. 10's divergence, and published gaps."""
    case = Question(
        claim=CLAIM,
        form="analytic",
        statement="Eq. 9 bounds the gap.",
        quantity="the gap over eq. 9",
        region=Region(0.0, 1.0),
    )
    gap, right = counterexamples.memoriser()
    yield computed(
        case,
        gap / right,
        "A linear classifier with 400 weights fits 200 random labels; its test error is ½ by "
        f"construction and eq. 9 allows {number(right)}.",
    )
    right = counterexamples.eq_9(RADIUS, REPAIR_PARAMETERS, 50_000)
    yield computed(
        case,
        REPAIR_GAP / right,
        f"Published by others: the ResNet-20 of REPAIR (Jordan et al. 2023) has a gap of "
        f"{REPAIR_GAP} in error on CIFAR-10, and eq. 9 allows {number(right)}.",
    )
    yield computed(
        replace(
            case,
            statement="Eq. 10 says something about the test error.",
            quantity="what eq. 10 adds to the training error, which is at most 1,",
        ),
        counterexamples.eq_10_penalty(1e6, RADIUS, 0.0, 50_000),
        "A million weights of norm 0, ρ = 0.05, 50,000 images.",
    )


REPAIR_GAP = 0.062
"""Train − test accuracy of REPAIR's ResNet-20 endpoints, from their published data."""
REPAIR_PARAMETERS = 272_474
"""Weights of a CIFAR ResNet-20; eq. 9 sees their logarithm."""
