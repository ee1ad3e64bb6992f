"""Proposition 1, depth and conditioning: κ(H) ≥ Π κ(W_l) · Π ‖W_l‖² (eq. 11).

Flaws. The smallest eigenvalue is zero or negative, so that κ(H) does not exist; κ⁺ = λ₁/λ_r of
the Gauss-Newton matrix stands for it. The right side moves as s^{2L} under W → sW, κ⁺ does not.
"Exponentially: O(L²)" contradicts itself. Eq. 11 is stated for feedforward networks, with skip
connections and normalisation for remedies: networks that have them are judged apart. The direction
is wrong: for deep linear networks at an interpolating minimum of white inputs, κ⁺ ≤ max_l Π_{j≠l}
κ(W_j)², an *upper* bound, because JJᵀ = Σ_l (W_{<l}ᵀ W_{<l}) ⊗ (W_{>l} W_{>l}ᵀ).

Corrected: whether log κ⁺ grows with depth without skip connections and stays with them (slope
on log L within ±0.2), and whether normalisation lowers it (it suppresses outliers: Ghorbani,
Krishnan & Xiao 2019; it need not help shallow nets: Yao et al. 2020), at one training loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from landscape_sweep.claims import counterexamples, table
from landscape_sweep.claims.contrast import contrasted, of_key
from landscape_sweep.claims.question import (
    Measured,
    NotMeasurableError,
    Question,
    answer,
    computed,
)
from landscape_sweep.claims.verdict import MOST_FAILED, Evidence, Line, Region, Verdict, number
from landscape_sweep.statistics import left_out_errors, mean, slope

RESOLVED = 1e8
"""κ⁺ above this is not seen: eigenvalues below 1e-8 of the largest are not counted (the probe
``conditioning``)."""

MOST_BROKEN = 0.05
"""Share of configurations that may break a bound which holds."""

CLAIM = "proposition_1"
EXPERIMENT = "depth_conditioning"
KAPPA = "conditioning/log_kappa_plus"
RIGHT = "conditioning/log_rhs"
LAYERS = "conditioning/layers"


def judge(runs: pd.DataFrame) -> Iterator[Verdict]:
    """Eq. 11 in logarithms, the growth with depth, normalisation, and the analytic cases."""
    bound = Question(
        claim=CLAIM,
        form="literal",
        statement="Eq. 11 bounds the condition number of plain networks from below.",
        quantity="the share of configurations whose κ⁺ is below the right side of eq. 11",
        region=Region(0.0, MOST_BROKEN),
        columns=(KAPPA, RIGHT),
        experiment=EXPERIMENT,
        primary=True,
        universal=True,
    )
    plain = (table.texts(runs, "model.skip") != "true") & table.texts(runs, "model.norm").isin(
        ["none", ""]
    )
    yield from answer(bound, runs[plain], _violations, "plain")
    yield from answer(
        replace(
            bound,
            statement="Eq. 11 bounds it in networks with skip connections or normalisation too.",
            primary=False,
        ),
        *(runs[~plain], _violations, "skip-connected or normalised"),
    )
    chosen, note, short = table.at_matched_loss(runs)
    yield from _depth(chosen, note, short)
    for norm in ("batch", "layer"):
        yield from contrasted(
            Question(
                claim=CLAIM,
                form="literal",
                statement=f"{norm.capitalize()} normalisation lowers the condition number.",
                quantity=f"κ⁺ with {norm} normalisation over κ⁺ without, all else equal,",
                region=Region(0.0, 1.0),
                columns=("conditioning/kappa_plus",),
                experiment=EXPERIMENT,
            ),
            *(chosen, of_key(chosen, "model.norm", norm, "none")),
            note=f"{note} {_hidden(chosen, norm)}".strip(),
            short=short,
        )
    yield from _analytic()


def _at_the_limit(rows: pd.DataFrame) -> pd.Series:
    """Runs whose κ⁺ may be larger than the probe can see."""
    limited: pd.Series = rows[KAPPA] > np.log(RESOLVED / 2)
    return limited


def _hidden(runs: pd.DataFrame, norm: str) -> str:
    """How many runs with a normalisation, and without any, are at the limit, in a sentence."""
    if table.missing(runs, (KAPPA,)):
        return ""
    seen = table.whole(runs, (KAPPA,))
    kind = table.texts(seen, "model.norm")
    with_it, without = (_at_the_limit(seen[kind == name]) for name in (norm, "none"))
    if not (with_it.any() or without.any()):
        return ""
    return (
        f"κ⁺ of {with_it.sum()} of all {len(with_it)} runs with {norm} normalisation and of "
        f"{without.sum()} of all {len(without)} without may be larger than it seems, as it is not "
        f"resolved above {RESOLVED:g}: ratios of such runs err towards 1."
    )


def _violations(rows: pd.DataFrame) -> Measured:
    """A configuration breaks eq. 11 where its mean does and all of its κ⁺ are resolved.

    Where many are not, that few are seen to break it does not say that it holds.
    """
    limited = _at_the_limit(rows).groupby(rows[table.CONFIGURATION]).transform("any")
    points = table.means(rows.assign(limited=limited), (KAPPA, RIGHT, "limited"))
    unseen = int(((points[KAPPA] < points[RIGHT]) & (points["limited"] > 0)).sum())
    excess = float((points[RIGHT] - points[KAPPA]).median())
    ends = np.array([points[RIGHT].min(), points[RIGHT].max()])
    share = table.share_over(rows, (rows[RIGHT] - rows[KAPPA]).mask(limited, -np.inf))
    note = f"In the median the right side is e^{number(excess)} times κ⁺."
    if unseen:
        note += (
            f" {unseen} more are below it and not counted, because κ⁺ is not resolved above "
            f"{RESOLVED:g}."
        )
    hidden = unseen > MOST_FAILED * len(points) and share.interval()[0] <= MOST_BROKEN
    return Measured(
        share,
        note,
        Evidence(
            x=points[RIGHT].to_numpy(),
            y=points[KAPPA].to_numpy(),
            group=points[table.ARCHITECTURE].to_numpy(str),
            x_label="log of the right side of eq. 11",
            y_label="log κ⁺",
            lines=(Line("the bound", ends, ends),),
        ),
        f"κ⁺ of {unseen} of {len(points)} configurations is not resolved" if hidden else "",
    )


def _depth(runs: pd.DataFrame, note: str, short: str) -> Iterator[Verdict]:
    """log κ⁺ over depth, with skip connections and without.

    Args:
        runs, note, short: of ``table.at_matched_loss``.
    """

    def with_note(measure: Callable[[pd.DataFrame], Measured]) -> Callable[..., Measured]:
        def measured(rows: pd.DataFrame) -> Measured:
            found = measure(rows)
            return replace(found, note=f"{note} {found.note}".strip(), short=short or found.short)

        return measured

    grows = Question(
        claim=CLAIM,
        form="literal",
        statement="Without skip connections the condition number grows with depth.",
        quantity="the slope of log κ⁺ on log L",
        region=Region(low=0.0),
        columns=(KAPPA, LAYERS),
        experiment=EXPERIMENT,
    )
    has_skip = table.texts(runs, "model.skip") == "true"
    yield from answer(grows, runs[~has_skip], with_note(_slope_on_depth), "plain")
    yield from answer(
        replace(
            grows,
            statement="Without skip connections log κ⁺ grows linearly with depth: exponentially.",
            quantity="the R² of log κ⁺ on L less that on log L, each configuration left out,",
            form="corrected",
        ),
        *(runs[~has_skip], with_note(_exponential), "plain"),
    )
    yield from answer(
        replace(
            grows,
            statement="With skip connections the condition number does not grow: O(1).",
            region=Region(-0.2, 0.2),
        ),
        *(runs[has_skip], with_note(_flatness), "skip-connected"),
    )


def _points(rows: pd.DataFrame) -> pd.DataFrame:
    points = table.means(rows[rows[LAYERS] > 0], (KAPPA, LAYERS))
    if points[LAYERS].nunique() < 3:
        raise NotMeasurableError("fewer than three depths were tried")
    return points


def _slope_on_depth(rows: pd.DataFrame) -> Measured:
    points = _points(rows)
    depth, kappa = points[LAYERS].to_numpy(), points[KAPPA].to_numpy()
    limited = int(_at_the_limit(rows).sum())
    return Measured(
        slope(kappa, np.log(depth)[:, None], [1]),
        f"κ⁺ of {limited} of {len(rows)} runs may be larger than it seems: it is not resolved "
        f"above {RESOLVED:g}."
        if limited
        else "",
        Evidence(
            x=depth,
            y=kappa,
            group=points[table.ARCHITECTURE].to_numpy(str),
            x_label="weight matrices L",
            y_label="log κ⁺",
            log_x=True,
        ),
    )


def _flatness(rows: pd.DataFrame) -> Measured:
    """As above; what grows beyond the probe's limit seems to stay, and says nothing of O(1)."""
    share = float(_at_the_limit(rows).mean())
    hidden = f"κ⁺ of {share:.0%} of the runs is not resolved" if share > MOST_FAILED else ""
    return replace(_slope_on_depth(rows), short=hidden)


def _exponential(rows: pd.DataFrame) -> Measured:
    """Leave-one-out R² of a line in L less that of a line in log L; t over the differences."""
    at_the_limit = int(_at_the_limit(rows).sum())
    if at_the_limit:
        raise NotMeasurableError(
            f"κ⁺ of {at_the_limit} of {len(rows)} runs lies within a factor of two of "
            f"{RESOLVED:g}, above which it is not resolved: its growth cannot be told"
        )
    points = _points(rows)
    depth, kappa = points[LAYERS].to_numpy(), points[KAPPA].to_numpy()
    if np.var(kappa) == 0:
        raise NotMeasurableError("κ⁺ does not vary")
    power, exponential = (left_out_errors(x[:, None], kappa) for x in (np.log(depth), depth))
    gain = power**2 - exponential**2
    return Measured(mean(gain / np.var(kappa)))


def _analytic() -> Iterator[Verdict]:
    """Rotations of six layers, and the bound in the other direction."""
    weights = counterexamples.orthogonal_layers(6)
    kappa, right = (
        counterexamples.linear_network_condition(weights),
        counterexamples.eq_11(weights),
    )
    depths = np.arange(1, 9)
    nets = [counterexamples.orthogonal_layers(int(L)) for L in depths]
    bounds = np.array([counterexamples.eq_11(net) for net in nets])
    yield computed(
        Question(
            claim=CLAIM,
            form="analytic",
            statement="Eq. 11 bounds the condition number from below.",
            quantity="κ⁺ over the right side of eq. 11",
            region=Region(low=1.0),
        ),
        kappa / right,
        f"A deep linear network of six rotations times 1.5 has κ⁺ = {number(kappa)}; eq. 11 "
        f"demands {number(right)}.",
        Evidence(
            x=depths.astype(float),
            y=np.array([counterexamples.linear_network_condition(net) for net in nets]),
            group=np.full(len(depths), "κ⁺"),
            x_label="layers L",
            y_label="κ⁺",
            log_y=True,
            lines=(Line("right side of eq. 11", depths.astype(float), bounds),),
        ),
    )
    yield computed(
        Question(
            claim=CLAIM,
            form="analytic",
            statement="For deep linear networks κ⁺ ≤ max_l Π_{j≠l} κ(W_j)².",
            quantity="the largest κ⁺ over that bound",
            region=Region(0.0, 1.0),
        ),
        counterexamples.worst_upper_bound_ratio(),
        "Fifty random deep linear networks of two to five layers at interpolating minima.",
    )
