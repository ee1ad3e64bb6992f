"""Writes a sweep's report: figures as PNG and SVG, tables as CSV, and one self-contained page."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure

from landscape_sweep import figures
from landscape_sweep.report.tables import readable, readable_correlations
from landscape_sweep.statistics import correlations
from landscape_sweep.tracking import Sweep


@dataclass(frozen=True)
class ReportFiles:
    """Where a report lies, and what it could not show."""

    folder: Path
    page: Path
    correlations: pd.DataFrame
    left_out: list[str]


@dataclass(frozen=True)
class _Plan:
    """A figure to be drawn, if what it needs is there."""

    name: str
    caption: str
    ready: bool
    draw: Callable[[], Figure]


def write_report(sweep: Sweep, folder: Path) -> ReportFiles:
    """Write everything about a sweep under ``folder``; each file appears whole or not at all.

    A figure whose data are missing (a probe was off, no two seeds) is left out and said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = correlations(sweep.runs)
    _write(folder / "runs.csv", sweep.runs.to_csv(index=False).encode())
    _write(folder / "correlations.csv", found.to_csv(index=False).encode())
    shown, left_out = [], []
    for plan in _plans(sweep):
        if not plan.ready:
            left_out.append(f"no figure {plan.name}: its data are missing")
            continue
        figure = plan.draw()
        png = _rendered(figure, "png")
        _write(folder / f"{plan.name}.png", png)
        _write(folder / f"{plan.name}.svg", _rendered(figure, "svg"))
        shown.append(
            {
                "name": plan.name.replace("_", " "),
                "caption": plan.caption,
                "png": base64.b64encode(png).decode(),
            }
        )
    page = folder / "report.html"
    _write(page, _page(sweep, found, shown, left_out).encode())
    return ReportFiles(folder, page, found, left_out)


def _plans(sweep: Sweep) -> Iterator[_Plan]:
    """The eight kinds of picture of the framework's section 6, and noise against flatness."""
    runs = sweep.runs
    labels = runs.set_index("run_id")["label"] if len(runs) else pd.Series(dtype=str)
    titles = runs.set_index("run_id")["name"] if len(runs) else pd.Series(dtype=str)
    completed = runs[runs["outcome"] == "completed"] if len(runs) else runs
    measured = bool(completed.filter(regex="^(hessian|sharpness)/").notna().any(axis=None))
    yield _Plan(
        "training_dynamics",
        "Did every run converge, and to the same loss? Geometry can be compared only where it did.",
        len(sweep.histories) > 0,
        lambda: figures.training_dynamics(sweep.histories, labels),
    )
    yield _Plan(
        "hessian_spectra",
        "The largest eigenvalues by rank. A gap after about one value a class is usual.",
        len(sweep.spectra) > 0,
        lambda: figures.hessian_spectra(sweep.spectra, labels),
    )
    yield _Plan(
        "metric_comparison",
        "Raw sharpness follows the scale of the weights: compare within an architecture.",
        measured,
        lambda: figures.metric_bars(completed),
    )
    yield _Plan(
        "mode_connectivity",
        "A bump between the ends is a barrier; BatchNorm re-estimated takes away its artefacts.",
        len(sweep.paths) > 0,
        lambda: figures.barriers(sweep.paths),
    )
    yield _Plan(
        "loss_surfaces",
        "A plane through each trained network; random directions are those of its architecture.",
        len(sweep.surfaces) > 0,
        lambda: figures.surfaces_3d(sweep.surfaces, titles),
    )
    yield _Plan(
        "loss_contours",
        "The trained network is the cross. Distances are in parameter space.",
        len(sweep.surfaces) > 0,
        lambda: figures.contours(sweep.surfaces, titles, sweep.marks),
    )
    yield _Plan(
        "correlation_analysis",
        "Look within one colour: two clusters of architectures correlate by themselves.",
        measured,
        lambda: figures.geometry_against_generalisation(completed),
    )
    yield _Plan(
        "noise_against_flatness",
        "Theorem 1's story has the slope negative: more noise, flatter minima.",
        measured and "hessian/trace" in completed,
        lambda: figures.noise_against_flatness(completed),
    )
    yield _Plan(
        "summary",
        "All runs.",
        len(runs) > 0,
        lambda: figures.summary_table(readable(runs)),
    )


def _rendered(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind)
    return buffer.getvalue()


def _write(file: Path, content: bytes) -> None:
    """Beside its place first, then renamed, so that nobody reads half a file."""
    part = file.with_name(file.name + ".part")
    part.write_bytes(content)
    os.replace(part, file)


def _page(
    sweep: Sweep, found: pd.DataFrame, shown: list[dict[str, str]], left_out: list[str]
) -> str:
    runs = sweep.runs
    environment = Environment(loader=PackageLoader("landscape_sweep.report", ""), autoescape=True)
    loaded = runs["data.loaded"].dropna().unique().tolist() if "data.loaded" in runs else []
    return environment.get_template("page.html.j2").render(
        sweep=sweep,
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
        data=loaded,
        outcomes=runs["outcome"].value_counts().to_dict() if len(runs) else {},
        table=readable(runs) if len(runs) else runs,
        commands=runs[["name", "outcome", "reason", "command"]].to_dict("records")
        if len(runs)
        else [],
        correlations=readable_correlations(found),
        figures=shown,
        left_out=left_out,
        surfaces=_surface_data(sweep),
    )


def _surface_data(sweep: Sweep) -> str:
    """Surfaces for the page's viewer as JSON; ``<`` is escaped so that no text ends the script."""
    if sweep.surfaces.empty:
        return "[]"
    names = dict(zip(sweep.runs.get("run_id", []), sweep.runs.get("name", []), strict=True))
    data = []
    for run_id, surface in sweep.surfaces.groupby("run_id", sort=False):
        grid = surface.pivot(index="alpha", columns="beta", values="loss")
        values = [
            [None if v != v or abs(v) == float("inf") else v for v in row]
            for row in grid.to_numpy().tolist()
        ]
        data.append(
            {"name": names.get(run_id, run_id), "axis": grid.index.tolist(), "loss": values}
        )
    return json.dumps(data).replace("<", "\\u003c")
