"""Writes a sweep's report: figures as PNG and SVG, tables as CSV, verdicts as JSON, and one
self-contained page."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from landscape_sweep.atomic import replacing
from landscape_sweep.claims import Verdict, evaluate, write_claims
from landscape_sweep.figures.style import at_one_loss
from landscape_sweep.report.page import Picture, page
from landscape_sweep.report.plans import plans
from landscape_sweep.statistics import correlations
from landscape_sweep.tracking import Sweep


@dataclass(frozen=True)
class ReportFiles:
    """Where a report lies, what it found, and what it could not show."""

    folder: Path
    page: Path
    verdicts: list[Verdict]
    correlations: pd.DataFrame
    left_out: list[str]


def write_report(sweep: Sweep, folder: Path) -> ReportFiles:
    """Write everything about a sweep under ``folder``; each file appears whole or not at all.

    A figure whose data are missing (a probe was off, no two seeds) is left out and said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for begun in folder.glob("*.part"):  # by a process that was killed
        begun.unlink()
    found = correlations(at_one_loss(sweep.runs)[0])
    verdicts = evaluate(sweep.runs)
    _write(folder / "runs.csv", sweep.runs.to_csv(index=False).encode())
    _write(folder / "correlations.csv", found.to_csv(index=False).encode())
    write_claims(verdicts, folder / "claims.json")
    pictures, left_out = [], []
    for plan in plans(sweep, found):
        if not plan.ready:
            left_out.append(f"no figure {plan.name}: it needs {plan.needs}")
            continue
        png, svg = rendered(plan.draw())
        _write(folder / f"{plan.name}.png", png)
        _write(folder / f"{plan.name}.svg", svg)
        pictures.append(Picture(plan.name, plan.title, plan.caption, png))
    file = folder / "report.html"
    _write(file, page(sweep, verdicts, found, pictures, left_out).encode())
    return ReportFiles(folder, file, verdicts, found, left_out)


def rendered(figure: Figure) -> tuple[bytes, bytes]:
    """A figure as PNG and as SVG, laid out once for both."""
    if (layout := figure.get_layout_engine()) is not None:
        layout.execute(figure)
        figure.set_layout_engine("none")
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png")
    figure.savefig(svg, format="svg", metadata={"Date": None})
    return png.getvalue(), svg.getvalue()


def _write(file: Path, content: bytes) -> None:
    with replacing(file) as part:
        part.write_bytes(content)
