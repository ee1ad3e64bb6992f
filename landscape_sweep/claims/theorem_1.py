"""Theorem 1, implicit regularisation: E tr(H) ≤ 2(L(θ₀) − L*)/(ηT) + Cσ²/B (eq. 5).

The noise behind it, eqs. 6 and 7, is judged in ``theorem_1_noise``.

Flaws. The right side has the unit loss²/θ², the left loss/θ²: it is the bound of SGD's squared
gradients (Ghadimi & Lan 2013) with tr(H) in their place, and gradient descent on a quadratic
breaks it. Cσ²/B falls with B, so the bound allows *sharper* minima to small batches, against
the theorem's own story; C is free. Eq. 7 needs noise that is isotropic (Chaudhari & Soatto
2018).

Corrected. At matched training loss, larger batches and smaller steps end sharper: b_B > 0 and
b_η < 0 in log tr = b_η log η + b_B log B + b_L log L. So do stable minima, ‖H‖ ≤ O(√B/η) (Wu,
Wang & Su 2022), and label-noise SGD, which minimises L + λR with λ = ησ²/B (Damian et al.
2021). η/B is said to be what matters (Jastrzębski et al. 2017): b_η + b_B = 0. The noise is
stronger along sharp directions, and the variance of the weights with it (Feng & Tu 2021).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from landscape_sweep.claims import counterexamples, table, theorem_1_noise
from landscape_sweep.claims.question import (
    Measured,
    NotMeasurableError,
    Question,
    answer,
    computed,
)
from landscape_sweep.claims.verdict import Evidence, Line, Region, Verdict, number
from landscape_sweep.statistics import Floats, mean, slope, tost

CLAIM = "theorem_1"
NOISE = "noise_vs_flatness"
RISING = Region(low=0.0)
FALLING = Region(high=0.0)
SAME = Region(-0.1, 0.1)


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Slopes at matched loss, the bound itself, the noise, and the analytic cases."""
    yield from _slopes(runs)
    yield from _bound(runs)
    yield from _full_batch(runs)
    yield from _prediction(runs)
    yield from theorem_1_noise.judge(runs)
    yield from _analytic()


# ---------------------------------------------------------------- slopes


def _slopes(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Signs of the slopes of log tr(H), and their sum."""
    chosen, note, short = table.at_matched_loss(runs)
    batch = Question(
        claim=CLAIM,
        form="literal",
        statement="As eq. 5's noise term Cσ²/B has it, the trace falls as the batch grows.",
        quantity="the slope of log tr(H) on log B, adjusted for log L,",
        region=FALLING,
        columns=("hessian/trace", "train/loss", "optimizer.lr", "batch_size"),
        experiment=NOISE,
    )
    yield from answer(batch, chosen, lambda rows: _slope(rows, (0, 1), note, short))
    yield from answer(
        replace(
            batch,
            form="corrected",
            statement="Smaller batches end at flatter minima, at matched training loss.",
            region=RISING,
            primary=True,
        ),
        chosen,
        lambda rows: _slope(rows, (0, 1), note, short),
    )
    yield from answer(
        replace(
            batch,
            form="corrected",
            statement="Larger learning rates end at flatter minima, at matched training loss.",
            quantity="the slope of log tr(H) on log η, adjusted for log L,",
        ),
        chosen,
        lambda rows: _slope(rows, (1, 0), note, short),
    )
    yield from answer(
        replace(
            batch,
            form="corrected",
            statement="Only the ratio η/B matters for the trace.",
            quantity="the sum of the slopes of log tr(H) on log η and log B, adjusted for log L,",
            region=SAME,
        ),
        chosen,
        lambda rows: _slope(rows, (1, 1), note, short),
    )


def _slope(rows: pd.DataFrame, combination: tuple[int, int], note: str, short: str) -> Measured:
    """A combination of b_η and b_B, over configurations' mean logs, adjusted for log L."""
    logs = _logs(rows)
    if len(set(logs["log η"].round(9))) < 2 and combination[0]:
        raise NotMeasurableError("the learning rate does not vary")
    if logs["log B"].nunique() < 2 and combination[1]:
        raise NotMeasurableError("the batch size does not vary")
    names, wanted = ["log η", "log B", "log L"], [*combination, 0]
    varied = [i for i, name in enumerate(names) if np.ptp(logs[name]) > 1e-9]
    found = slope(
        logs["log tr"].to_numpy(),
        logs[[names[i] for i in varied]].to_numpy(),
        [wanted[i] for i in varied],
    )
    if combination == (1, 1):
        note += f" Equivalence test (TOST): p = {number(tost(found, *SAME))}."
    along = "log B" if combination == (0, 1) else "log η" if combination == (1, 0) else "log η/B"
    x = logs["log η"] - logs["log B"] if along == "log η/B" else logs[along]
    return Measured(
        found,
        note,
        Evidence(
            x=np.exp(x.to_numpy()),
            y=np.exp(logs["log tr"].to_numpy()),
            group=logs[table.ARCHITECTURE].to_numpy(str),
            x_label=along.removeprefix("log "),
            y_label="tr(H)",
            log_x=True,
            log_y=True,
        ),
        short,
    )


def _logs(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a configuration: mean log of trace, η, B and training loss; all must be positive."""
    positive = rows[(rows["hessian/trace"] > 0) & (rows["train/loss"] > 0)]
    if positive[table.CONFIGURATION].nunique() < 4:
        raise NotMeasurableError("fewer than four configurations have a positive trace and loss")
    logs = positive.assign(
        **{
            "log tr": np.log(positive["hessian/trace"]),
            "log η": np.log(table.learning_rate(positive)),
            "log B": np.log(positive["batch_size"]),
            "log L": np.log(positive["train/loss"]),
        }
    )
    return table.means(logs, ("log tr", "log η", "log B", "log L"))


# ---------------------------------------------------------------- the bound itself

BOUND = (
    *("hessian/trace", "train/initial_loss", "train/lr_sum", "optimizer.lr", "batch_size"),
    "noise/trace",
)


def _terms(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each run tr(H), 2L₀/(ηT) and σ²/B, with L* = 0 and ηT = Σ η_t/(1 − β).

    σ² is tr Σ, its mean over training where that was logged: at the end it is itself a measure of
    flatness.
    """
    noise = rows["noise/trace"]
    if "noise/trajectory_trace" in rows:
        noise = rows["noise/trajectory_trace"].fillna(noise)
    travelled = rows["train/lr_sum"] * table.learning_rate(rows) / rows["optimizer.lr"]
    return rows.assign(
        trace=rows["hessian/trace"],
        descent=2 * rows["train/initial_loss"] / travelled,
        noise=noise / rows["batch_size"],
    )


def _points(terms: pd.DataFrame) -> pd.DataFrame:
    """One row a configuration whose trace and noise are positive."""
    means = table.means(terms, ("trace", "descent", "noise", "batch_size", "optimizer.lr"))
    usable = (means["trace"] > 0) & (means["noise"] > 0) & np.isfinite(means["descent"])
    if usable.sum() < 4:
        raise NotMeasurableError("fewer than four configurations have a positive trace and noise")
    chosen: pd.DataFrame = means[usable]
    return chosen


def _bound(runs: pd.DataFrame) -> Iterator[Verdict]:
    """C fitted on the half with smaller batches, tried on the other half."""
    yield from answer(
        Question(
            claim=CLAIM,
            form="literal",
            statement="One constant C makes eq. 5 hold for every learning rate and batch size.",
            quantity="the share of configurations that break eq. 5, with C as the smaller "
            "batches allow it,",
            region=Region(0.0, 0.05),
            columns=BOUND,
            experiment=NOISE,
        ),
        runs,
        _violations,
    )


def _violations(rows: pd.DataFrame) -> Measured:
    """Violations among the larger batches, of the smallest C that the smaller ones allow."""
    terms = _terms(rows)
    fitted, held = table.halves(_points(terms))
    C = max(0.0, float(((fitted["trace"] - fitted["descent"]) / fitted["noise"]).max()))
    bound = held["descent"] + C * held["noise"]
    ratio = float((bound / held["trace"]).median())
    runs = terms[terms[table.CONFIGURATION].isin(held.index)]
    note = (
        f"C = {number(C)}, from the {len(fitted)} with the smaller batches; the share is of the "
        f"other {len(held)}, where the bound is {number(ratio)} times the trace in the median."
    )
    if ratio > 10:
        note += " Above ten it says little even where it holds."
    line = np.array([held["trace"].min(), held["trace"].max()])
    return Measured(
        table.share_over(runs, runs["trace"] - runs["descent"] - C * runs["noise"]),
        note,
        Evidence(
            x=bound.to_numpy(),
            y=held["trace"].to_numpy(),
            group=held[table.ARCHITECTURE].to_numpy(str),
            x_label="right side of eq. 5",
            y_label="tr(H)",
            log_x=True,
            log_y=True,
            lines=(Line("the bound", line, line),),
        ),
    )


def _full_batch(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Gradient descent has no noise term, and so no free constant."""
    full = runs
    if "batch_size" in runs:
        full = runs[runs["batch_size"] >= table.train_images(runs)]

    def measure(rows: pd.DataFrame) -> Measured:
        travelled = rows["train/lr_sum"] * table.learning_rate(rows) / rows["optimizer.lr"]
        ratio = rows["hessian/trace"] * travelled / (2 * rows["train/initial_loss"])
        if (ratio <= 0).any():
            raise NotMeasurableError("a trace is not positive")
        squared = rows.get("loss", pd.Series(dtype=str)).eq("mse").all()
        note = (
            ""
            if squared
            else (
                "With cross-entropy on separable data neither side converges: squared loss decides."
            )
        )
        return Measured(table.mean_over(rows.assign(ratio=ratio), "ratio", "log"), note)

    yield from answer(
        Question(
            claim=CLAIM,
            form="literal",
            statement="Without noise, eq. 5 bounds the trace by 2(L₀ − L*)/(ηT).",
            quantity="tr(H) over 2(L₀ − L*)/(ηT)",
            region=Region(0.0, 1.0),
            columns=tuple(c for c in BOUND if c != "noise/trace"),
            experiment=NOISE,
        ),
        *(full, measure, "full-batch"),
    )


def _prediction(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Does the form of eq. 5 predict the trace better than a power of η/B does?"""

    def measure(rows: pd.DataFrame) -> Measured:
        terms = _points(_terms(rows))
        trace = terms["trace"].to_numpy()
        form = np.column_stack([terms["descent"], terms["noise"], np.ones(len(terms))])
        ratio = np.log((terms["optimizer.lr"] / terms["batch_size"]).to_numpy())
        power = np.column_stack([np.ones(len(terms)), ratio])
        if np.ptp(ratio) < 1e-9:
            raise NotMeasurableError("η/B does not vary")
        y = np.log(trace)
        errors = np.array(
            [[y[i] - _eq_5(form, trace, i), y[i] - _power(power, y, i)] for i in range(len(terms))]
        )
        gain = (errors[:, 1] ** 2 - errors[:, 0] ** 2) / np.var(y)
        return Measured(mean(gain))

    yield from answer(
        Question(
            claim=CLAIM,
            form="literal",
            statement="tr(H) = 2a(L₀ − L*)/(ηT) + Cσ²/B + d predicts the trace of a new "
            "configuration better than a power of η/B does.",
            quantity="the difference in R² of log tr(H), each configuration left out in turn,",
            region=RISING,
            columns=BOUND,
            experiment=NOISE,
        ),
        *(runs, measure),
    )


def _eq_5(form: Floats, trace: Floats, left_out: int) -> float:
    """log tr of one configuration by eq. 5's form, non-negative coefficients, relative errors."""
    rest = np.arange(len(trace)) != left_out
    coefficients, _ = nnls(form[rest] / trace[rest, None], np.ones(int(rest.sum())))
    return float(np.log(max(form[left_out] @ coefficients, trace[rest].min() / 100)))


def _power(power: Floats, y: Floats, left_out: int) -> float:
    """log tr of one configuration by a power of η/B."""
    rest = np.arange(len(y)) != left_out
    return float(power[left_out] @ np.linalg.lstsq(power[rest], y[rest], rcond=None)[0])


# ---------------------------------------------------------------- analytic


def _analytic() -> Iterator[Verdict]:
    """Two refutations of eq. 5, one of eq. 7, and what holds in their place."""
    case = Question(
        claim=CLAIM,
        form="analytic",
        statement="Eq. 5 bounds the trace after T steps.",
        quantity="tr(H) over the right side of eq. 5",
        region=Region(0.0, 1.0),
    )
    yield computed(
        case,
        counterexamples.descent_on_a_quadratic(steps=1000),
        "Noiseless descent for 1,000 steps on a quadratic, whose trace never changes.",
    )
    yield computed(
        replace(
            case,
            statement="Eq. 5 does not depend on the unit of the loss.",
            quantity="the power of a with which right over left side of eq. 5 moves",
            region=Region(-0.01, 0.01),
        ),
        counterexamples.rescaling_exponent(),
        "With L → aL and η → η/a the iterates of gradient descent stay the same.",
    )
    yield computed(
        replace(
            case,
            statement="SGD's stationary variance falls as 1/λ (eq. 7).",
            quantity="the slope of log Var(θ_i) on log λ_i",
            region=Region(-1.1, -0.9),
        ),
        counterexamples.stationary_slope(power=1),
        "Least squares with label noise, where the noise is Σ = s²H, in closed form.",
    )
    noisy, quiet = counterexamples.label_noise_traces((1, 16))
    yield computed(
        replace(
            case,
            statement="More gradient noise leads to a flatter minimum.",
            quantity="tr(H) after training with batches of 1 over that with batches of 16",
        ),
        noisy / quiet,
        "SGD with label noise on ½(uv − 1)² from a sharp minimum: here the story holds.",
    )
    yield computed(
        replace(
            case,
            statement="The mean squared gradient obeys 2(L₀ − L*)/(ηT) + ηβσ²/B.",
            quantity="the mean squared gradient over that bound",
        ),
        counterexamples.gradient_bound_ratio(steps=100, batch_size=8),
        "SGD on a quadratic, by its exact second moments: the bound that eq. 5 resembles.",
    )
