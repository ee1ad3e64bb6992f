"""Theorem 1's premise: SGD's noise makes a stationary Gibbs distribution (eqs. 6 and 7).

Flaws. Eq. 7, p(θ) ∝ exp(−L(θ)/T), needs noise that is isotropic and constant (Chaudhari & Soatto
2018). Then the weights along an eigenvector of the Hessian vary as 1/λ_i, equipartition. With
cross-entropy alone there may be no place to come to rest: weights grow for ever on data that are
fitted. So stationarity is asked first, by Yaida's relation (2019), which is ratio 1 to within 5%;
equipartition is asked of configurations that keep it.

Corrected. The noise follows the curvature, Σ ∝ H near a minimum, and its slope on λ is 1 where
eq. 7 has 0; weights then vary alike in all directions, or more in sharp ones (Feng & Tu 2021).
Stable minima of squared loss that interpolate have ‖H‖_F ≤ O(√B/η) (Wu, Wang & Su 2022). Batch
sharpness ⟨gᵀH_B g⟩/⟨‖g‖²⟩ settles at 2/η (Andreyev & Beneventano 2024). The probe
``stationarity`` sees all of this along v_i, the leading eigenvectors of H.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from landscape_sweep.claims import table
from landscape_sweep.claims.question import Measured, NotMeasurableError, Question, answer
from landscape_sweep.claims.verdict import Evidence, Line, Region, Verdict, number
from landscape_sweep.statistics import Scale

CLAIM = "theorem_1"
EXPERIMENT = "stationary_noise"
RATIO = "stationarity/fdr_ratio"
WITHIN = Region(0.95, 1.05)
"""Yaida's ratio of SGD that counts as stationary."""

INTERPOLATES = 0.01
"""Training loss below which a minimum of squared loss counts as interpolating."""

SIMILAR = Region(0.8, 1.25)
"""A ratio that counts as one: the bounds in use for bioequivalence."""


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Stationarity first, then equipartition and the structure of the noise, then stability.

    Of runs whose batches are drawn independently, as the theory has them; one verdict is about
    shuffled epochs, as training has them, whose noise cancels along flat directions.
    """
    shuffled = table.texts(runs, "probe.stationarity.replacement") == "false"
    yield from _stationarity(runs[~shuffled])
    yield from _equipartition(runs[~shuffled])
    yield from _in_epochs(runs[shuffled])
    yield from _stability(runs[~shuffled])


def _stationarity(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Does SGD come to rest, on the loss as it is and with weight decay?"""
    plain = Question(
        claim=CLAIM,
        form="literal",
        statement="SGD at a constant rate reaches a stationary distribution (eq. 7 needs one).",
        quantity="⟨θ·g⟩ over (η/2)⟨‖g‖²⟩, which is 1 in any stationary distribution,",
        region=WITHIN,
        columns=(RATIO,),
        experiment=EXPERIMENT,
    )
    decay = runs.get("optimizer.weight_decay", pd.Series(0.0, index=runs.index)).fillna(0.0)
    yield from answer(
        plain, runs[decay == 0], lambda rows: _mean(rows, RATIO, _drift(rows)), "decay-free"
    )
    yield from answer(
        replace(
            plain,
            form="corrected",
            statement="With weight decay, SGD at constant rate reaches a stationary distribution.",
        ),
        *(runs[decay > 0], lambda rows: _mean(rows, RATIO, _drift(rows)), "decayed"),
    )


def _drift(rows: pd.DataFrame) -> str:
    """How far the loss went meanwhile, in a sentence."""
    if "stationarity/loss_drift" not in rows:
        return ""
    drift = f"{rows['stationarity/loss_drift'].median():+.1%}".replace("-", "−")
    return f"From the first to the second half of the path the loss changed by {drift}."


GIBBS = Question(
    claim=CLAIM,
    form="literal",
    statement="The stationary distribution is Gibbs (eq. 7): flat directions vary as 1/λ.",
    quantity="the slope of log Var(θ_i) on log λ_i",
    region=Region(-1.1, -0.9),
    columns=("stationarity/variance_slope",),
    experiment=EXPERIMENT,
)
INVERSE = replace(
    GIBBS,
    form="corrected",
    statement="Weights vary more along sharp directions than along flat ones.",
    region=Region(low=0.0),
)


def _equipartition(runs: pd.DataFrame) -> Iterator[Verdict]:
    """How weights vary where SGD is stationary, and how its noise does anywhere."""
    stationary = _stationary(runs)
    for question in (GIBBS, INVERSE):
        yield from answer(
            question,
            stationary,
            lambda rows: _mean(rows, "stationarity/variance_slope", _share(rows, runs)),
            "stationary",
        )
    isotropic = replace(
        GIBBS,
        statement="SGD's noise is isotropic, as eqs. 6 and 7 need.",
        quantity="the slope of log v_iᵀΣv_i on log λ_i",
        region=Region(-0.1, 0.1),
        columns=("stationarity/noise_slope",),
    )
    yield from answer(isotropic, runs, lambda rows: _mean(rows, "stationarity/noise_slope"))
    yield from answer(
        replace(
            isotropic,
            form="corrected",
            statement="Where SGD is at rest its noise is proportional to the curvature, Σ ∝ H.",
            region=Region(0.9, 1.1),
        ),
        stationary,
        lambda rows: _mean(rows, "stationarity/noise_slope", _share(rows, runs)),
        "stationary",
    )
    yield from answer(
        replace(
            GIBBS,
            form="corrected",
            statement="Weights vary as in a quadratic basin with SGD's own noise.",
            quantity="Var(θ_i) over ηv_iᵀΣv_i/(Bλ_i(2 − ηλ_i)), with momentum's factors,",
            region=SIMILAR,
            columns=("stationarity/variance_ratio",),
        ),
        stationary,
        lambda rows: _mean(rows, "stationarity/variance_ratio", scale="log"),
        "stationary",
    )


def _in_epochs(runs: pd.DataFrame) -> Iterator[Verdict]:
    """How weights vary where batches are parts of a shuffled epoch (Kühn & Rosenow 2023)."""
    yield from answer(
        replace(
            INVERSE,
            statement="In shuffled epochs weights vary more along sharp directions than along flat "
            "ones.",
            experiment=f"{EXPERIMENT}_full",
        ),
        _stationary(runs),
        lambda rows: _mean(rows, "stationarity/variance_slope", _share(rows, runs)),
        "stationary shuffled",
    )


def _stationary(runs: pd.DataFrame) -> pd.DataFrame:
    """The configurations whose mean ratio is 1 to within 5%."""
    if table.missing(runs, (RATIO,)):
        return runs.iloc[:0]
    ratio = table.completed(runs).groupby(table.CONFIGURATION)[RATIO].mean()
    return runs[runs[table.CONFIGURATION].isin(ratio.index[ratio.between(*WITHIN)])]


def _share(rows: pd.DataFrame, runs: pd.DataFrame) -> str:
    """How many configurations are stationary, in a sentence."""
    of = table.whole(runs, (RATIO,))
    of = of[of[table.ARCHITECTURE].isin(rows[table.ARCHITECTURE])]
    return (
        f"Asked of the {rows[table.CONFIGURATION].nunique()} of "
        f"{of[table.CONFIGURATION].nunique()} configurations that are stationary."
    )


def _mean(rows: pd.DataFrame, column: str, note: str = "", scale: Scale = "identity") -> Measured:
    """The mean over configurations, plotted over η/B where both are told."""
    if {"optimizer.lr", "batch_size"} - set(rows.columns):
        return Measured(table.mean_over(rows, column, scale), note)
    ratio = table.learning_rate(rows) / rows["batch_size"]
    points = table.means(rows.assign(ratio=ratio), ("ratio", column))
    return Measured(
        table.mean_over(rows, column, scale),
        note,
        Evidence(
            x=points["ratio"].to_numpy(),
            y=points[column].to_numpy(),
            group=points[table.ARCHITECTURE].to_numpy(str),
            x_label="η/B",
            y_label=column,
            log_x=True,
        ),
    )


def _stability(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Two relations between curvature, rate and batch size that stability of SGD asks for."""
    plain = runs
    if "optimizer.momentum" in runs:
        plain = runs[runs["optimizer.momentum"].fillna(0.0) == 0]
    edge = Question(
        claim=CLAIM,
        form="corrected",
        statement="SGD ends at the edge of stochastic stability: batch sharpness is 2/η.",
        quantity="batch sharpness over 2/η",
        region=Region(0.9, 1.1),
        columns=("stationarity/batch_sharpness", "optimizer.lr"),
        experiment=EXPERIMENT,
    )

    def of_edge(rows: pd.DataFrame) -> Measured:
        share = rows["stationarity/batch_sharpness"] * rows["optimizer.lr"] / 2
        name = "batch sharpness over 2/η"
        return _mean(rows.assign(**{name: share}), name, _drift(rows))

    yield from answer(edge, plain, of_edge, "momentum-free")
    squared = plain[table.texts(plain, "loss") == "mse"]
    if "train/loss" in squared:
        squared = squared[squared["train/loss"] <= INTERPOLATES]
    yield from answer(
        replace(
            edge,
            statement="One constant c bounds the curvature of interpolating minima: ‖H‖_F ≤ c√B/η.",
            quantity="the share of configurations above it, with c as the smaller batches need it,",
            region=Region(0.0, 0.05),
            columns=("stationarity/frobenius", "optimizer.lr", "batch_size", "train/loss"),
        ),
        *(squared, _norm_violations, "interpolating squared-loss"),
    )


def _norm_violations(rows: pd.DataFrame) -> Measured:
    """‖H‖_F of the larger batches against c√B/η, with the smallest c that the smaller allow."""
    unit = np.sqrt(rows["batch_size"]) / rows["optimizer.lr"]
    rows = rows.assign(unit=unit)
    points = table.means(rows, ("stationarity/frobenius", "unit", "batch_size", "optimizer.lr"))
    if points["batch_size"].nunique() < 2:
        raise NotMeasurableError("the batch size does not vary")
    fitted, held = table.halves(points)
    c = float((fitted["stationarity/frobenius"] / fitted["unit"]).max())
    norms = held["stationarity/frobenius"]
    runs = rows[rows[table.CONFIGURATION].isin(held.index)]
    ends = np.array([held["unit"].min(), held["unit"].max()])
    ratio = float((c * held["unit"] / norms).median())
    return Measured(
        table.share_over(runs, runs["stationarity/frobenius"] - c * runs["unit"]),
        f"c = {number(c)}, from the {len(fitted)} with the smaller batches; the share is of the "
        f"other {len(held)}, where the bound is {number(ratio)} times the norm in the median.",
        Evidence(
            x=held["unit"].to_numpy(),
            y=norms.to_numpy(),
            group=held[table.ARCHITECTURE].to_numpy(str),
            x_label="√B/η",
            y_label="‖H‖_F",
            log_x=True,
            log_y=True,
            lines=(Line("the bound", ends, c * ends),),
        ),
    )
