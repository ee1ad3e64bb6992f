"""Conjecture 1.1, sharpness and generalisation: "strong negative correlation (r ≈ −0.7 to −0.9)".

Flaw: it does not say with what. Read as: sharper minima have lower test accuracy. Eq. 3 measures
mostly ρ‖g‖ (away from a minimum), and sharpness of any kind follows the scale of the weights,
which rescaling changes while the function stays (Dinh et al. 2017): the sign of a correlation
over differently scaled networks is free. Two clusters of architectures alone give r ≈ −0.8.

Corrected: within an architecture, the partial rank correlation given log η, log B and the training
set (n and the share of random labels, where they vary), of the scale-invariant sharpness where it
was measured. Literature: sharpness "does not correlate well" (Andriushchenko et al. 2023); no
measure is robust (Dziugaite et al. 2020).
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from landscape_sweep.claims import counterexamples, table
from landscape_sweep.claims.association import correlated, partially_correlated
from landscape_sweep.claims.question import Question, computed
from landscape_sweep.claims.verdict import Region, Verdict, number
from landscape_sweep.statistics import pearson

CLAIM = "conjecture_1.1"
EXPERIMENT = "geometry_predicts"
STRONG = Region(-0.9, -0.7)


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Pearson as stated, the partial rank correlation, and Dinh's rescaling."""
    raw, y = "sharpness/sam", "test/accuracy"
    # A sweep may have runs of other lengths: what has learnt nothing is flat, and no minimum.
    runs, note, _ = table.at_matched_loss(runs)
    yield from correlated(
        Question(
            claim=CLAIM,
            form="literal",
            statement="Sharpness S_ρ and test accuracy correlate with r between −0.9 and −0.7.",
            quantity="Pearson's r of sharpness (eq. 3) with test accuracy",
            region=STRONG,
            columns=(raw, y),
            experiment=EXPERIMENT,
        ),
        *(runs, raw, y, pearson, note),
    )
    invariant = "sharpness/adaptive"
    x = raw if table.missing(runs, (invariant,)) else invariant
    kind = "sharpness (eq. 3)" if x == raw else "scale-invariant sharpness"
    yield from partially_correlated(
        Question(
            claim=CLAIM,
            form="corrected",
            statement="At equal learning rate and batch size and on equal data, sharper networks "
            "of one architecture test worse.",
            quantity=f"the rank correlation of {kind} with test accuracy, given η, B and the data,",
            region=Region(-1, 0),
            columns=(x, y),
            experiment=EXPERIMENT,
            primary=True,
        ),
        *(table.with_images(runs), x, y),
        note=note,
    )
    before, after = counterexamples.rescaled_correlation()
    yield computed(
        Question(
            claim=CLAIM,
            form="analytic",
            statement="The correlation of flatness with accuracy is a property of the functions "
            "that networks compute.",
            quantity="Pearson's r of the Hessian trace with accuracy after rescaling",
            region=STRONG,
        ),
        after,
        f"Twelve two-layer ReLU networks with r = {number(before)} are rescaled, W to aW and v to "
        "v/a, which changes no output.",
    )
