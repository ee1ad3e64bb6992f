"""From a question and a table to a verdict: what every claim does alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pandas as pd

from landscape_sweep.claims import table
from landscape_sweep.claims.verdict import (
    Evidence,
    Form,
    Region,
    Verdict,
    decide,
    listed,
    number,
    shortage,
)
from landscape_sweep.statistics import Estimated, Proportion, configs_needed, configs_unbroken


@dataclass(frozen=True, kw_only=True)
class Question:
    """One claim in one form: what is asked of the runs, and where the claim is true.

    Attributes:
        claim, form, statement, quantity, region, primary: as in ``Verdict``.
        columns: what a run must have to count.
        experiment: the protocol in ``conf/experiment`` that answers it.
        universal: the claim is a bound that every network must keep. Only then are
            architectures counted together: one that breaks the bound breaks it for all, and a
            count of violations cannot turn its sign as a pooled correlation can.
    """

    claim: str
    form: Form
    statement: str
    quantity: str
    region: Region
    columns: tuple[str, ...] = ()
    experiment: str = ""
    primary: bool = False
    universal: bool = False


@dataclass(frozen=True)
class Measured:
    """What a claim's own arithmetic found.

    Attributes:
        estimate: with its intervals.
        note: a further sentence for the reason.
        evidence: points to plot.
        short: why no verdict can rest on it all the same, as a clause; "" where one can.
    """

    estimate: Estimated
    note: str = ""
    evidence: Evidence | None = None
    short: str = ""


class NotMeasurableError(Exception):
    """The runs are there but do not vary in what the question is about; the text says how."""


def answer(
    question: Question,
    runs: pd.DataFrame,
    measure: Callable[[pd.DataFrame], Measured],
    kind: str = "",
) -> Iterator[Verdict]:
    """A verdict for each architecture, or one for all where the question is universal.

    Args:
        runs: as ``table.prepared`` returns; a selection of them where only some count.
        measure: takes the completed runs that have every column.
        kind: which runs were selected, as an adjective: "full-batch".
    """
    if lacking := table.missing(runs, question.columns):
        yield unmeasured(question, lacks(runs, lacking, kind))
        return
    scopes = [("", runs)] if question.universal else list(runs.groupby(table.ARCHITECTURE))
    for name, scope in scopes:
        if not table.missing(scope, question.columns):
            yield _judged(question, str(name), scope, measure)


def computed(
    question: Question, value: float, note: str, evidence: Evidence | None = None
) -> Verdict:
    """The verdict of an analytic case: a number that was computed, held against the region."""
    verdict = decide((value, value), question.region)
    where = "and it is" if verdict == "SUPPORTED" else "and it is not"
    return replace(
        _open(question),
        verdict=verdict,
        estimate=value,
        interval=(value, value),
        reason=f"{note} {_capital(question.quantity)} is {number(value)}. If the claim "
        f"were true it would be {question.region.words()}, {where}.",
        evidence=evidence,
        p=0.0,
    )


def _open(question: Question) -> Verdict:
    """The verdict while nothing is measured."""
    return Verdict(
        claim=question.claim,
        form=question.form,
        verdict="INCONCLUSIVE",
        statement=question.statement,
        quantity=question.quantity,
        estimate=math.nan,
        interval=(math.nan, math.nan),
        region=(question.region.low, question.region.high),
        configs=0,
        seeds=0,
        reason="",
        experiment=question.experiment,
        primary=question.primary,
    )


def unmeasured(question: Question, reason: str) -> Verdict:
    """The verdict where no run has what is needed: why, and what to run."""
    return replace(_open(question), reason=reason)


def lacks(runs: pd.DataFrame, lacking: list[str], kind: str = "") -> str:
    """What the runs lack, in a sentence."""
    done, runs_of_kind = len(table.completed(runs)), f"{kind} run".strip()
    if not done and (runs["outcome"] == "censored").any():
        return f"No {runs_of_kind} came down to the training loss at which they are compared."
    if not done:
        return f"No {runs_of_kind} has completed."
    return (
        f"None of the {done} completed {runs_of_kind}s measured {listed(lacking)}: the probe "
        "for it was off."
    )


def _judged(
    question: Question,
    architecture: str,
    scope: pd.DataFrame,
    measure: Callable[[pd.DataFrame], Measured],
) -> Verdict:
    """The verdict over one architecture's runs."""
    rows = table.whole(scope, question.columns)
    configs, seeds = int(rows[table.CONFIGURATION].nunique()), table.seeds(rows)
    blank = replace(_open(question), architecture=architecture, configs=configs, seeds=seeds)
    if configs < 3:
        return replace(
            blank,
            reason=f"It was measured in {configs} configuration{'s' * (configs != 1)}: too few to "
            "say anything.",
        )
    try:
        found = measure(rows)
    except NotMeasurableError as why:
        return replace(blank, reason=f"{_capital(str(why))}.")
    interval = found.estimate.interval()
    if math.isnan(found.estimate.value) or any(map(math.isnan, interval)):
        return replace(
            blank, reason=f"{_capital(question.quantity)} is undefined: something does not vary."
        )
    short = shortage(configs, seeds, table.failed_share(scope, question.columns)) or found.short
    alone = decide(interval, question.region)
    p = p_of_decision(found.estimate, question.region)
    needed = configs_needed(p, configs)
    if isinstance(found.estimate, Proportion) and found.estimate.hits == 0:
        needed = configs_unbroken(question.region.high)
    if found.short:
        needed = math.nan  # not for want of configurations
    return replace(
        blank,
        verdict="INCONCLUSIVE" if short else alone,
        estimate=found.estimate.value,
        interval=interval,
        reason=_reason(question, found, blank, alone, short),
        evidence=found.evidence,
        needed=needed,
        p=p,
    )


def p_of_decision(estimate: Estimated, region: tuple[float, float]) -> float:
    """The smallest α whose 1 − α interval still lies inside the region, or apart from it."""
    low, high = region
    if low <= estimate.value <= high:
        return max((estimate.alpha(end) for end in region if math.isfinite(end)), default=0.0)
    return estimate.alpha(low if estimate.value < low else high)


def _reason(question: Question, found: Measured, counted: Verdict, alone: str, short: str) -> str:
    """The verdict's reason, for a reader who has not read the code."""
    low, high = found.estimate.interval()
    inside = {
        "SUPPORTED": "all of the interval is",
        "REFUTED": "no part of the interval is",
        "INCONCLUSIVE": "part of the interval is and part is not",
    }[alone]
    text = (
        f"{_capital(question.quantity)} is {number(found.estimate.value)} (95% interval "
        f"{number(low)} to {number(high)}), over {counted.configs} configurations of "
        f"{counted.seeds} seed{'s' * (counted.seeds != 1)} each. "
        f"If the claim were true it would be {question.region.words()}: {inside}."
    )
    if short:
        text += f" No verdict is given: {short}."
    return f"{text} {found.note}".strip()


def _capital(text: str) -> str:
    """With a capital where the sentence begins with a word and not with a symbol."""
    first = text.split()[0].replace("-", "")
    return text[:1].upper() + text[1:] if first.isascii() and first.isalpha() else text
