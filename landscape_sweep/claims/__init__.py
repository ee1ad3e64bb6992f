"""The framework's claims on trial: a table of runs in, verdicts out.

One file a claim. Each says what is claimed, what is wrong with it as written, what can be
defended instead, and yields verdicts in three forms. A new claim is one new file and its name
in ``CLAIMS``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from landscape_sweep.atomic import replacing
from landscape_sweep.claims import (
    conjecture_1_1,
    conjecture_1_2,
    conjecture_1_3,
    conjecture_1_4,
    finding_7_1,
    finding_7_2,
    finding_7_3,
    finding_7_4,
    proposition_1,
    proposition_2,
    research_questions,
    theorem_1,
    theorem_2,
)
from landscape_sweep.claims.table import prepared
from landscape_sweep.claims.verdict import (
    FEWEST_CONFIGS,
    FEWEST_SEEDS,
    Evidence,
    Line,
    Region,
    Verdict,
    number,
)
from landscape_sweep.statistics import benjamini_hochberg, configs_needed, holm

__all__ = ["Evidence", "Line", "Region", "Verdict", "evaluate", "write_claims"]

CLAIMS = (
    theorem_1,
    theorem_2,
    proposition_1,
    proposition_2,
    conjecture_1_1,
    conjecture_1_2,
    conjecture_1_3,
    conjecture_1_4,
    finding_7_1,
    finding_7_2,
    finding_7_3,
    finding_7_4,
    research_questions,
)

ALPHA = 0.05
FALSE_DISCOVERIES = 0.1
MOST_CONFIGS = 10_000
"""Configurations beyond which no number is told."""


def evaluate(runs: pd.DataFrame) -> list[Verdict]:
    """A verdict for every claim in every form, and every architecture that the runs have.

    Args:
        runs: one row a run, one column a configuration key (dotted) or metric (slashed), as
            ``tracking.load_runs`` returns. What is missing makes verdicts INCONCLUSIVE, with a
            reason that names it and the experiment that would measure it.

    Primary tests (one a claim and architecture) are corrected by Holm at 0.05, all others by
    Benjamini-Hochberg at 0.1; a verdict that does not survive becomes INCONCLUSIVE.
    """
    frame = prepared(runs)
    with np.errstate(all="ignore"):  # what overflows or is undefined is told as a verdict's reason
        verdicts = [verdict for claim in CLAIMS for verdict in claim.judge(frame)]
    settled = [replace(v, settled_by=_settled_by(v)) for v in _corrected(verdicts)]
    return [*settled, *research_questions.cite(settled)]


def _corrected(verdicts: list[Verdict]) -> list[Verdict]:
    """The same verdicts, those taken back that do not survive the number of tests."""
    corrected = list(verdicts)
    for primary, adjust, level in (
        (True, holm, ALPHA),
        (False, benjamini_hochberg, FALSE_DISCOVERIES),
    ):
        places = [
            i
            for i, v in enumerate(verdicts)
            if v.primary == primary and v.form != "analytic" and not math.isnan(v.p)
        ]
        if not places:
            continue
        for i, p in zip(places, adjust([verdicts[i].p for i in places]), strict=True):
            corrected[i] = _held(replace(verdicts[i], p_adjusted=float(p)), level, len(places))
    return corrected


def _held(verdict: Verdict, level: float, tests: int) -> Verdict:
    """The verdict, or INCONCLUSIVE where its corrected p is above the level."""
    if verdict.verdict == "INCONCLUSIVE" or verdict.p_adjusted <= level:
        return verdict
    return replace(
        verdict,
        verdict="INCONCLUSIVE",
        reason=f"{verdict.reason} Alone it would be {verdict.verdict}, but it is one of {tests} "
        f"tests, and corrected for that p is {number(verdict.p_adjusted)}.",
    )


def _settled_by(verdict: Verdict) -> str:
    """What to run so that the verdict would no longer be INCONCLUSIVE, and how large."""
    if verdict.verdict != "INCONCLUSIVE":
        return ""
    wanted = [FEWEST_CONFIGS, verdict.needed]
    if verdict.p <= ALPHA < verdict.p_adjusted and not math.isnan(verdict.needed):
        wanted.append(configs_needed(verdict.p_adjusted, verdict.configs))
    configs, where = np.nanmax(wanted), f"experiment={verdict.experiment}"
    if configs <= verdict.configs:  # it is not their number that is lacking, as the reason says
        return where
    if configs > MOST_CONFIGS:
        return (
            f"{where}: more than {MOST_CONFIGS} configurations: the estimate is at the edge of the "
            "claim"
        )
    return f"{where}: {configs:.0f} configurations × {FEWEST_SEEDS} seeds"


def write_claims(verdicts: Iterable[Verdict], path: Path | str) -> None:
    """Write verdicts as a JSON list; the file appears whole or not at all.

    NaN and infinity are ``null``: JSON has neither.
    """
    text = json.dumps(
        [_plain(asdict(v)) for v in verdicts],
        indent=1,
        ensure_ascii=False,
        allow_nan=False,
    )
    with replacing(Path(path)) as part:
        part.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
