"""What a verdict is, and the rule that turns an interval into one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Form = Literal["literal", "corrected", "analytic"]
Decision = Literal["SUPPORTED", "REFUTED", "INCONCLUSIVE"]

FEWEST_CONFIGS = 12
FEWEST_SEEDS = 3
MOST_FAILED = 0.2


class Region(NamedTuple):
    """The values of a quantity for which the claim is true, ends included."""

    low: float = -math.inf
    high: float = math.inf

    def words(self) -> str:
        """The region as it stands in a sentence."""
        if self.low == self.high:
            return f"exactly {number(self.low)}"
        if self.low == -math.inf:
            return f"below {number(self.high)}"
        if self.high == math.inf:
            return f"above {number(self.low)}"
        return f"between {number(self.low)} and {number(self.high)}"


@dataclass(frozen=True)
class Line:
    """A line to draw over the points: what it is, and its corners."""

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """The points behind a verdict, for a small plot; one point a configuration.

    Attributes:
        x, y: (points,) coordinates.
        group: (points,) names; points of one name get one colour.
        x_label, y_label: what is on the axes.
        log_x, log_y: whether an axis is logarithmic.
        lines: lines to draw, such as a bound or a fit.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    group: NDArray[np.str_]
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One claim in one form, judged.

    Attributes:
        claim: ``theorem_1``, ``conjecture_1.1``, …
        form: ``literal``: the framework's own formula; ``corrected``: what the literature can
            defend; ``analytic``: a case with a known answer, computed here.
        verdict: SUPPORTED where the whole interval lies in ``region``, REFUTED where none of it
            does, else INCONCLUSIVE; too little data caps it at INCONCLUSIVE.
        statement: the claim in one sentence.
        quantity: what ``estimate`` is, with its unit, as it stands before "is": a clause at its
            end closes with a comma.
        estimate: NaN where it could not be measured.
        interval: 95% confidence interval; both ends are ``estimate`` where it was computed.
        region: where the claim is true.
        configs: configurations (cells of hyper-parameters, seeds aside) behind the estimate.
        seeds: runs of a configuration (median).
        architecture: the only one the estimate is about; "" for analytic cases, for contrasts
            of architectures and for bounds that must hold for every network.
        reason: why, in plain sentences with the numbers.
        experiment: the protocol in ``conf/experiment`` that measures it; "" for analytic cases.
        settled_by: experiment and number of configurations that would settle it; "" if settled.
        evidence: points to plot.
        primary: the one test by which the claim stands or falls (Holm); others are exploratory
            (Benjamini-Hochberg).
        needed: configurations with which the interval would decide, if the estimate is right; NaN
            where it is not their number that is lacking.
        p: the smallest α whose 1 − α interval still decides; NaN where nothing was measured.
        p_adjusted: ``p`` corrected for the number of tests.
    """

    claim: str
    form: Form
    verdict: Decision
    statement: str
    quantity: str
    estimate: float
    interval: tuple[float, float]
    region: tuple[float, float]
    configs: int
    seeds: int
    reason: str
    architecture: str = ""
    experiment: str = ""
    settled_by: str = ""
    evidence: Evidence | None = None
    primary: bool = False
    needed: float = math.nan
    p: float = math.nan
    p_adjusted: float = math.nan


def decide(interval: tuple[float, float], region: tuple[float, float]) -> Decision:
    """Interval inside the region: SUPPORTED; apart from it: REFUTED; else INCONCLUSIVE."""
    low, high = interval
    if math.isnan(low) or math.isnan(high):
        return "INCONCLUSIVE"
    if region[0] <= low and high <= region[1]:
        return "SUPPORTED"
    if high < region[0] or region[1] < low:
        return "REFUTED"
    return "INCONCLUSIVE"


def shortage(configs: int, seeds: int, failed: float) -> str:
    """Why there is too little data for any verdict, in words; "" where there is enough."""
    if configs < FEWEST_CONFIGS:
        return f"there are {configs} configurations and it takes {FEWEST_CONFIGS}"
    if seeds < FEWEST_SEEDS:
        return f"it takes {FEWEST_SEEDS} seeds a configuration and not {seeds}"
    if failed > MOST_FAILED:
        return f"{failed:.0%} of the runs have no result and at most {MOST_FAILED:.0%} may lack one"
    return ""


def listed(names: Sequence[str]) -> str:
    """Names as they stand in a sentence: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def number(value: float) -> str:
    """A number as it stands in a sentence: three digits, a true minus sign."""
    return f"{value:.3g}".replace("-", "−")
