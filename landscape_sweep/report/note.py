"""The description of a sweep that MLflow shows on its parent run."""

from __future__ import annotations

import pandas as pd

from landscape_sweep.report.tables import varied
from landscape_sweep.report.verdicts import apart, measured, one_line, tally
from landscape_sweep.report.write import ReportFiles
from landscape_sweep.tracking import Sweep

LINES = 40
"""Verdicts listed at most."""


def note(sweep: Sweep, files: ReportFiles) -> str:
    """Markdown: what was run on what, what came of it, and where to look."""
    runs = sweep.runs
    data = (
        ", ".join(map(str, runs["data.loaded"].dropna().unique())) if "data.loaded" in runs else ""
    )
    outcomes = runs["outcome"].value_counts() if len(runs) else pd.Series(dtype=int)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()) or "none"
    of_runs, analytic = apart(files.verdicts)
    spoken = [verdict for verdict in of_runs if measured(verdict)]
    lines = [
        f"**{runs['label'].nunique() if len(runs) else 0} configurations**, runs: {counts}. "
        f"Data: {data or 'unknown'}.",
        f"    {sweep.command}" if sweep.command else "",
        "**Where to look.** *Artifacts*, `report/report.html`: verdicts, table, figures and a "
        "surface that turns. The runs list: open the arrow beside this run, then *Columns* or "
        "*Group by*. A child's *Model metrics*: `hessian/eigenvalue` over steps is its spectrum "
        "by rank.",
        f"**Verdicts from these runs.** {tally(of_runs)}. "
        f"By examples worked out, whatever is run: {tally(analytic)}.",
        "\n".join(f"- {one_line(verdict)}" for verdict in spoken[:LINES]),
        f"… and {len(spoken) - LINES} more in the report." if len(spoken) > LINES else "",
        "**Grid.**\n\n" + _grid(runs) if len(runs) else "",
    ]
    return "\n\n".join(filter(None, lines))


def _grid(runs: pd.DataFrame) -> str:
    """Every configuration key that varies, with its values."""
    return "\n".join(
        f"- `{key}`: " + ", ".join(map(str, pd.unique(runs[key].dropna()))) for key in varied(runs)
    )
