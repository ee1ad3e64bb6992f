"""Conjecture 1.2, ResNet flatness: "ResNets achieve flatter minima than vanilla CNNs".

Flaw. Curvature in weights depends on their scale, and a weight before BatchNorm has no scale of
its own: H(aw) = H(w)/a² with the function unchanged, so that a ResNet is as flat as its weight
norm. The two differ in skip connections, normalisation, size and loss at once.

Corrected: paired at equal η, B and seed and at matched training loss; the scale-invariant
sharpness; and skip connections and normalisation each on their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from landscape_sweep.claims import counterexamples, table
from landscape_sweep.claims.contrast import cnn_and_resnet, contrasted, of_key
from landscape_sweep.claims.question import Question, computed
from landscape_sweep.claims.verdict import Region, Verdict

CLAIM = "conjecture_1.2"
EXPERIMENT = "architecture"
FLATTER = Region(low=1.0)


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Ratios CNN to ResNet, the two causes apart, and a network that is flat at will."""
    chosen, note, short = table.at_matched_loss(runs)
    ratio = Question(
        claim=CLAIM,
        form="literal",
        statement="The largest eigenvalue is lower in ResNets than in CNNs.",
        quantity="λ_max of CNNs over that of ResNets",
        region=FLATTER,
        columns=("hessian/lambda_max",),
        experiment=EXPERIMENT,
        primary=True,
    )
    both = cnn_and_resnet(chosen)
    yield from contrasted(ratio, chosen, both, note=note, short=short)
    yield from contrasted(
        replace(
            ratio,
            form="corrected",
            statement="The scale-invariant sharpness is lower in ResNets than in CNNs.",
            quantity="scale-invariant sharpness of CNNs over that of ResNets",
            columns=("sharpness/adaptive",),
            primary=False,
        ),
        *(chosen, both),
        note=note,
        short=short,
    )
    for key, first, second, what in (
        ("model.skip", "false", "true", "Skip connections lower"),
        ("model.norm", "none", "batch", "BatchNorm lowers"),
    ):
        yield from contrasted(
            replace(
                ratio,
                form="corrected",
                statement=f"{what} the largest eigenvalue, all else equal.",
                quantity=f"λ_max with {key}={first} over that with {key}={second}",
                primary=False,
            ),
            *(chosen, of_key(chosen, key, first, second)),
            note=note,
            short=short,
        )
    yield computed(
        Question(
            claim=CLAIM,
            form="analytic",
            statement="The curvature at a minimum is a property of the function.",
            quantity="tr(H) at 10w over that at w",
            region=Region(0.99, 1.01),
        ),
        counterexamples.normalised_trace_ratio(10.0),
        "A weight before BatchNorm, f(x) = wᵀx/‖w‖: ten times longer it gives the same function.",
    )
