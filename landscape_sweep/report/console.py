"""What a sweep shows on the console when it ends."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich.console import Console, JustifyMethod
from rich.table import Table

from landscape_sweep.claims import Verdict
from landscape_sweep.report.tables import WORDS, readable, readable_correlations
from landscape_sweep.report.verdicts import apart, measured, one_line, tally
from landscape_sweep.report.write import ReportFiles
from landscape_sweep.tracking import Links, Sweep

STRONGEST = 10
"""Correlations shown."""

PLAIN_WIDTH = 250
"""Columns that a table may take which is not shown on a terminal: nothing is cut there."""


def show(sweep: Sweep, files: ReportFiles, links: Links | None = None) -> None:
    """Print the runs, the strongest correlations, the verdicts, and where everything lies."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(_table(f"Runs of {sweep.name}", readable(sweep.runs)))
    failed = sweep.runs[sweep.runs["outcome"] == "failed"] if len(sweep.runs) else sweep.runs
    for _, run in failed.iterrows():
        console.print(f"failed: {run['name']}: {run['reason']}", markup=False)
    if len(files.correlations):
        strongest = files.correlations.dropna(subset=["spearman"])
        order = strongest["spearman"].abs().sort_values(ascending=False).index[:STRONGEST]
        if len(order):
            title = f"Strongest of {len(strongest)} correlations (interval: 95%, by configuration)"
            console.print(
                _table(title, readable_correlations(strongest.loc[order]).drop(columns="simpson"))
            )
    if files.verdicts:
        of_runs, analytic = apart(files.verdicts)
        console.print(f"Verdicts from these runs: {tally(of_runs)}", markup=False)
        for verdict in filter(measured, of_runs):
            console.print(f"  {one_line(verdict)}", markup=False, soft_wrap=True)
        if not all(map(measured, of_runs)):
            console.print(_unspoken(of_runs), markup=False, soft_wrap=True)
        console.print(
            f"  by examples worked out, whatever is run: {tally(analytic)}; they are in the report",
            markup=False,
            soft_wrap=True,
        )
    for line in files.left_out:
        console.print(line, markup=False)
    console.print(f"report: {files.page}", markup=False, soft_wrap=True)
    if links is not None:
        server = f" ({links.server})" if links.server else ""
        console.print(f"in MLflow{server}:", markup=False, soft_wrap=True)
        console.print(f"  runs to compare: {links.runs}", markup=False, soft_wrap=True)
        console.print(f"  the report: {links.report}", markup=False, soft_wrap=True)


def _unspoken(verdicts: Sequence[Verdict]) -> str:
    """Claims that the runs say nothing about, and the experiments that would."""
    silent = [verdict for verdict in verdicts if not measured(verdict)]
    claims = ", ".join(dict.fromkeys(verdict.claim for verdict in silent))
    return f"  not measured by these runs: {claims}; the report says what would settle each"


def _table(title: str, frame: pd.DataFrame) -> Table:
    table = Table(title=title, title_justify="left")
    for column in frame.columns:
        justify: JustifyMethod = "left" if column in WORDS else "right"
        table.add_column(str(column), justify=justify, no_wrap=column == "configuration")
    for row in frame.itertuples(index=False):
        table.add_row(*(str(value) for value in row))
    return table
