"""Finding 7.1: ResNets have 2-5× lower sharpness, a lower λ_max and 2-3 points more accuracy.

Flaw: as for conjecture 1.2, sharpness follows the scale of weights; the two architectures
differ in skip connections, normalisation and size, so that the difference has no single cause.

Corrected: the scale-invariant sharpness, at matched loss; and the effect on accuracy of skip
connections and of normalisation each on their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from landscape_sweep.claims import counterexamples, table
from landscape_sweep.claims.contrast import cnn_and_resnet, contrasted, of_key
from landscape_sweep.claims.question import Question, computed
from landscape_sweep.claims.verdict import Region, Verdict

CLAIM = "finding_7.1"
EXPERIMENT = "architecture"


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """The three numbers of the finding, what can be said of causes, and a rescaled layer."""
    chosen, note, short = table.at_matched_loss(runs)
    both = cnn_and_resnet(chosen)
    sharpness = Question(
        claim=CLAIM,
        form="literal",
        statement="ResNets have 2 to 5 times lower sharpness than CNNs.",
        quantity="sharpness (eq. 3) of CNNs over that of ResNets",
        region=Region(2.0, 5.0),
        columns=("sharpness/sam",),
        experiment=EXPERIMENT,
        primary=True,
    )
    yield from contrasted(sharpness, chosen, both, note=note, short=short)
    other = replace(sharpness, primary=False)
    yield from contrasted(
        replace(
            other,
            statement="ResNets have a lower largest eigenvalue than CNNs.",
            quantity="λ_max of CNNs over that of ResNets",
            region=Region(low=1.0),
            columns=("hessian/lambda_max",),
        ),
        *(chosen, both),
        note=note,
        short=short,
    )
    accuracy = replace(
        other,
        statement="ResNets test 2 to 3 points better than CNNs.",
        quantity="test accuracy of ResNets less that of CNNs (1 is 100%)",
        region=Region(0.02, 0.03),
        columns=("test/accuracy",),
    )
    turned = both._replace(
        first=both.second, second=both.first, is_first=both.is_second, is_second=both.is_first
    )
    yield from contrasted(accuracy, chosen, turned, "difference", note, short)
    yield from contrasted(
        replace(
            other,
            form="corrected",
            statement="ResNets have a lower scale-invariant sharpness than CNNs.",
            quantity="scale-invariant sharpness of CNNs over that of ResNets",
            region=Region(low=1.0),
            columns=("sharpness/adaptive",),
        ),
        *(chosen, both),
        note=note,
        short=short,
    )
    for key, first, second, what in (
        ("model.skip", "true", "false", "Skip connections raise"),
        ("model.norm", "batch", "none", "BatchNorm raises"),
    ):
        yield from contrasted(
            replace(
                accuracy,
                form="corrected",
                statement=f"{what} the test accuracy, all else equal.",
                quantity=f"test accuracy with {key}={first} less that with {key}={second}",
                region=Region(low=0.0),
            ),
            *(chosen, of_key(chosen, key, first, second), "difference", note, short),
        )
    yield computed(
        Question(
            claim=CLAIM,
            form="analytic",
            statement="How sharp a network with BatchNorm is, is a property of its function.",
            quantity="tr(H) at w/2 over that at w",
            region=Region(0.99, 1.01),
        ),
        counterexamples.normalised_trace_ratio(0.5),
        "A weight before BatchNorm, f(x) = wᵀx/‖w‖: half as long it gives the same function.",
    )
