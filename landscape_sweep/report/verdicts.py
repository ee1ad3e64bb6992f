"""Verdicts as the page and the console show them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from landscape_sweep.claims import Verdict
from landscape_sweep.claims.verdict import number

TITLES = {
    "theorem_1": "Theorem 1: gradient noise leads to flat minima",
    "theorem_2": "Theorem 2: flat minima generalise",
    "proposition_1": "Proposition 1: depth worsens conditioning, skip connections cure it",
    "proposition_2": "Proposition 2: over-parameterisation leaves flat directions",
    "conjecture_1.1": "Conjecture 1.1: sharpness predicts generalisation",
    "conjecture_1.2": "Conjecture 1.2: ResNets find flatter minima than plain CNNs",
    "conjecture_1.3": "Conjecture 1.3: low curvature goes with easy optimisation",
    "conjecture_1.4": "Conjecture 1.4: trained networks are connected by low barriers",
    "finding_7.1": "Finding 7.1: ResNets are flatter and more accurate",
    "finding_7.2": "Finding 7.2: sharpness correlates with accuracy and gap",
    "finding_7.3": "Finding 7.3: ResNets of two seeds are linearly connected",
    "finding_7.4": "Finding 7.4: ResNets have smoother and wider basins",
    "research_question_1": "Question 1: why does SGD find flat minima that generalise?",
    "research_question_2": "Question 2: how do design choices alter the landscape?",
    "research_question_3": "Question 3: which properties predict generalisation?",
    "research_question_4": "Question 4: can training be predicted from the landscape?",
}
"""What the framework's claims say, by their names."""

FORMS = ("literal", "corrected", "analytic")

SIGNS = {"SUPPORTED": "✓", "REFUTED": "✗", "INCONCLUSIVE": "?"}


def title(claim: str) -> str:
    """A claim's heading."""
    return TITLES.get(claim, claim.replace("_", " ").capitalize())


def measured(verdict: Verdict) -> bool:
    """Whether there is a number behind a verdict."""
    return not math.isnan(verdict.estimate)


def apart(verdicts: Sequence[Verdict]) -> tuple[list[Verdict], list[Verdict]]:
    """The verdicts that runs decide, and the analytic ones, which are the same for all runs."""
    analytic = [verdict for verdict in verdicts if verdict.form == "analytic"]
    return [verdict for verdict in verdicts if verdict.form != "analytic"], analytic


def tally(verdicts: Iterable[Verdict]) -> str:
    """How many came out how: ``3 SUPPORTED, 2 REFUTED, 9 INCONCLUSIVE, 50 not measured``."""
    count = Counter(str(v.verdict) if measured(v) else "not measured" for v in verdicts)
    told = [*SIGNS, "not measured"] if count["not measured"] else SIGNS
    return ", ".join(f"{count[name]} {name}" for name in told)


def found(verdict: Verdict) -> str:
    """Estimate and interval in words; a dash where nothing was measured."""
    if not measured(verdict):
        return "–"
    low, high = verdict.interval
    if low == high == verdict.estimate:
        return number(verdict.estimate)
    return f"{number(verdict.estimate)} [{number(low)}, {number(high)}]"


def claimed(verdict: Verdict) -> str:
    """Where the claim is true, in words."""
    low, high = verdict.region
    if low == high:
        return f"exactly {number(low)}"
    if math.isinf(low):
        return f"at most {number(high)}" if math.isfinite(high) else "any value"
    return f"at least {number(low)}" if math.isinf(high) else f"{number(low)} to {number(high)}"


def one_line(verdict: Verdict) -> str:
    """A verdict for the console and for MLflow's notes."""
    of = ", ".join(filter(None, (verdict.form, verdict.architecture)))
    line = f"{SIGNS[verdict.verdict]} {verdict.verdict} {verdict.claim} ({of}): {verdict.statement}"
    if not measured(verdict):
        return f"{line} {verdict.reason}"
    return f"{line} Found: {verdict.quantity} is {found(verdict)}; it takes {claimed(verdict)}."


@dataclass(frozen=True)
class Strip:
    """Where estimate, interval and the claim's region lie on a line from 0 to 100.

    Attributes:
        region, interval: left and right ends.
        estimate: its place.
        ticks: places and texts of the region's finite ends.
    """

    region: tuple[float, float]
    interval: tuple[float, float]
    estimate: float
    ticks: tuple[tuple[float, str], ...]


def strip(verdict: Verdict) -> Strip | None:
    """The places of a verdict's numbers; None where nothing was measured.

    The line spans the interval and the region's finite ends, with a margin; what is infinite
    ends at its border.
    """
    if not measured(verdict):
        return None
    ends = [end for end in verdict.region if math.isfinite(end)]
    known = [*ends, verdict.estimate, *(end for end in verdict.interval if math.isfinite(end))]
    low, high = min(known), max(known)
    margin = 0.15 * (high - low) or abs(high) or 1.0
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return 100 * (min(max(value, low), high) - low) / (high - low)

    return Strip(
        region=(place(verdict.region[0]), place(verdict.region[1])),
        interval=(place(verdict.interval[0]), place(verdict.interval[1])),
        estimate=place(verdict.estimate),
        ticks=tuple((place(end), number(end)) for end in dict.fromkeys(ends)),
    )


def by_claim(verdicts: Sequence[Verdict]) -> Iterator[tuple[str, list[Verdict]]]:
    """Name of each claim with its verdicts, in the order of the framework."""
    order = {claim: place for place, claim in enumerate(TITLES)}
    claims = sorted({v.claim for v in verdicts}, key=lambda c: (order.get(c, len(order)), c))
    for claim in claims:
        yield claim, [verdict for verdict in verdicts if verdict.claim == claim]
