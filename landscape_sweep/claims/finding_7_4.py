"""Finding 7.4, topology of the loss surface: ResNets smoother and wider, CNNs sharper and
narrower.

Flaw. "Smoother" and "wider" are not defined, and how wide a basin looks depends on the scale of
the weights unless directions are normalised by filter (Li et al. 2018).

Read as: the filter-normalised half-width (distance at which the loss has risen by 0.5) is
larger, and |λ_min|/λ_max, negative against positive curvature, is smaller, in ResNets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from landscape_sweep.claims import counterexamples, table
from landscape_sweep.claims.contrast import cnn_and_resnet, contrasted
from landscape_sweep.claims.question import Question, computed
from landscape_sweep.claims.verdict import Region, Verdict

CLAIM = "finding_7.4"
EXPERIMENT = "architecture"
NEGATIVE = "negative_share"
WIDTH = "surface/half_width"


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Non-convexity and half-width, paired, and a width that is scale alone."""
    chosen, note, short = table.at_matched_loss(runs)
    if {"hessian/lambda_min", "hessian/lambda_max"} <= set(chosen.columns):
        share = (-chosen["hessian/lambda_min"]).clip(lower=0) / chosen["hessian/lambda_max"]
        chosen = chosen.assign(**{NEGATIVE: share})
    if WIDTH in chosen:
        normalised = table.texts(chosen, "probe.surface.directions") == "filter"
        chosen = chosen.assign(**{WIDTH: chosen[WIDTH].where(normalised)})
    both = cnn_and_resnet(chosen)
    smoother = Question(
        claim=CLAIM,
        form="literal",
        statement="Loss surfaces of ResNets are smoother: less negative curvature.",
        quantity="|λ_min|/λ_max of CNNs less that of ResNets",
        region=Region(low=0.0),
        columns=(NEGATIVE,),
        experiment=EXPERIMENT,
    )
    yield from contrasted(smoother, chosen, both, "difference", note, short)
    yield from contrasted(
        replace(
            smoother,
            form="corrected",
            statement="Basins of ResNets are wider along filter-normalised directions.",
            quantity="the half-width of CNNs over that of ResNets (distance in units of the "
            "filters' norms at which the loss is 0.5 higher)",
            region=Region(0.0, 1.0),
            columns=(WIDTH,),
            primary=True,
        ),
        *(chosen, both),
        note=note,
        short=short,
    )
    yield computed(
        Question(
            claim=CLAIM,
            form="analytic",
            statement="How wide a basin is in weight space is a property of the function.",
            quantity="the width of a basin at 10w over that at w",
            region=Region(0.99, 1.01),
        ),
        counterexamples.normalised_trace_ratio(10.0) ** -0.5,
        "A weight before BatchNorm, f(x) = wᵀx/‖w‖: width is 1/√curvature, the function the same.",
    )
