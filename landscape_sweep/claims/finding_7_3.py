"""Finding 7.3: between independently trained ResNets barriers are below 0.05, accuracy stays.

Flaw: as for conjecture 1.4. Published barriers of naive interpolation between ResNet-18 are
above 2 in loss, 10% accuracy in the middle (Jordan et al. 2023); with units matched and
BatchNorm statistics re-estimated they are 0.03, and zero takes very wide networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from landscape_sweep.claims import counterexamples, table
from landscape_sweep.claims.conjecture_1_4 import BEST, LOW, height
from landscape_sweep.claims.question import Question, computed
from landscape_sweep.claims.verdict import Region, Verdict

CLAIM = "finding_7.3"
EXPERIMENT = "connectivity"


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Barrier and accuracy of ResNets, naive and corrected, and published barriers."""
    runs = table.trained_apart(runs)
    resnets = runs[table.texts(runs, "model.name").isin(["resnet", ""])]
    naive = Question(
        claim=CLAIM,
        form="literal",
        statement="Two independently trained ResNets are joined with a barrier below 0.05.",
        quantity="the barrier of eq. 4 (loss)",
        region=LOW,
        columns=("connectivity/naive/barrier",),
        experiment=EXPERIMENT,
        primary=True,
    )
    yield from height(naive, resnets)
    drop = replace(
        naive,
        statement="Accuracy falls by less than a point between two ResNets.",
        quantity="the fall in accuracy below the mean of the ends (1 is 100%)",
        region=Region(high=0.01),
        columns=("connectivity/naive/accuracy_drop",),
        primary=False,
    )
    yield from height(drop, resnets)
    best = next((c for c in BEST if not table.missing(resnets, (c,))), BEST[0])
    yield from height(
        replace(
            naive,
            form="corrected",
            statement="With units matched and BatchNorm re-estimated, ResNets are joined.",
            quantity="the rise above the line between the ends (loss)",
            columns=(best,),
            primary=False,
        ),
        resnets,
    )
    yield from height(
        replace(
            drop,
            form="corrected",
            statement="With units matched and BatchNorm re-estimated, accuracy falls by less "
            "than a point.",
            columns=(best.replace("excess", "accuracy_drop"),),
        ),
        resnets,
    )
    permuted, _ = counterexamples.permuted_copy()
    yield computed(
        Question(
            claim=CLAIM,
            form="analytic",
            statement="Two networks that compute the same function have no barrier.",
            quantity="the barrier of eq. 4",
            region=LOW,
        ),
        counterexamples.barrier(permuted),
        "A ReLU network and the same network with its units in another order.",
    )
    yield computed(
        Question(
            claim=CLAIM,
            form="analytic",
            statement="Two independently trained ResNets are joined with a barrier below 0.05.",
            quantity="the barrier above the line between the ends",
            region=LOW,
        ),
        REPAIR_NAIVE,
        "Published by others: ResNet-18 on CIFAR-10, naive interpolation (Jordan et al. 2023).",
    )


REPAIR_NAIVE = 2.37
"""Training-loss barrier of naive interpolation between two ResNet-18, from REPAIR's data."""
