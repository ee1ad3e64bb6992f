"""Finding 7.2: r(sharpness, test accuracy) ∈ [−0.9, −0.7]; sharper minima have larger gaps.

Flaw: as for conjecture 1.1. An interval of width 0.2 needs about 75 configurations; few sweeps
have them, and the verdict is then INCONCLUSIVE however strong the correlation looks.

Corrected: Kendall's τ of sharpness with the gap, in loss and in error, of the raw and of the
scale-invariant sharpness; positive if sharper minima have larger gaps.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from landscape_sweep.claims import counterexamples, table
from landscape_sweep.claims.association import correlated
from landscape_sweep.claims.question import Question, computed
from landscape_sweep.claims.verdict import Region, Verdict
from landscape_sweep.statistics import kendall, pearson

CLAIM = "finding_7.2"
EXPERIMENT = "geometry_predicts"


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Pearson as stated, τ with the gaps, and accuracies that a rescaling sorts at will."""
    runs, note, _ = table.at_matched_loss(runs)  # as in conjecture 1.1
    yield from correlated(
        Question(
            claim=CLAIM,
            form="literal",
            statement="Pearson's r of sharpness and test accuracy is between −0.9 and −0.7.",
            quantity="Pearson's r of sharpness (eq. 3) with test accuracy",
            region=Region(-0.9, -0.7),
            columns=("sharpness/sam", "test/accuracy"),
            experiment=EXPERIMENT,
            primary=True,
        ),
        *(runs, "sharpness/sam", "test/accuracy", pearson, note),
    )
    raw = ("sharpness/sam", "sharpness (eq. 3)")
    invariant = ("sharpness/adaptive", "scale-invariant sharpness")
    for x, kind in (raw, invariant):
        if x == invariant[0] and table.missing(runs, (x,)):
            continue
        for y, gap in (("gap/loss", "loss"), ("gap/accuracy", "accuracy")):
            yield from correlated(
                Question(
                    claim=CLAIM,
                    form="literal" if x == raw[0] else "corrected",
                    statement=f"Sharper minima have larger gaps in {gap} ({kind}).",
                    quantity=f"Kendall's τ of {kind} and the gap in {gap}",
                    region=Region(0.0, 1.0),
                    columns=(x, y),
                    experiment=EXPERIMENT,
                ),
                *(runs, x, y, kendall, note),
            )
    before, after = counterexamples.rescaled_correlation()
    yield computed(
        Question(
            claim=CLAIM,
            form="analytic",
            statement="A correlation of −0.8 with flatness says something about the functions.",
            quantity="by how much r moves when no function does",
            region=Region(-0.01, 0.01),
        ),
        after - before,
        "Twelve ReLU networks, rescaled so that the outputs stay and the trace does not.",
    )
