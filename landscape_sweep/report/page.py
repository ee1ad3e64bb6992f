"""The page: one HTML file that fetches nothing."""

from __future__ import annotations

import base64
import io
import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader

from landscape_sweep import figures
from landscape_sweep.claims import Evidence, Verdict
from landscape_sweep.figures.style import at_one_loss
from landscape_sweep.report import verdicts as words
from landscape_sweep.report.tables import (
    MEANINGS,
    WORDS,
    readable,
    readable_barriers,
    readable_correlations,
)
from landscape_sweep.tracking import Sweep

MOST_POINTS = 400_000
"""Grid points of all surfaces in the viewer: about 2.5 MB."""

EVIDENCE_DPI = 110

AXES = ("alpha", "beta")


@dataclass(frozen=True)
class Picture:
    """A figure on the page."""

    name: str
    title: str
    caption: str
    png: bytes

    @property
    def source(self) -> str:
        """The image as text."""
        return _source(self.png)


def page(
    sweep: Sweep,
    verdicts: list[Verdict],
    correlations: pd.DataFrame,
    pictures: list[Picture],
    left_out: list[str],
) -> str:
    """The whole report as one HTML file."""
    runs = sweep.runs
    environment = Environment(
        loader=PackageLoader("landscape_sweep.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    settled = [v for v in verdicts if words.measured(v)]
    return environment.get_template("page.html.j2").render(
        sweep=sweep,
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
        data=runs["data.loaded"].dropna().unique().tolist() if "data.loaded" in runs else [],
        outcomes=runs["outcome"].value_counts().to_dict() if len(runs) else {},
        configurations=runs["label"].nunique() if len(runs) else 0,
        tally=words.tally(words.apart(verdicts)[0]),
        claims=list(words.by_claim(settled)),
        unmeasured=list(words.by_claim([v for v in verdicts if not words.measured(v)])),
        words=words,
        evidence=_evidence_source,
        table=readable(runs) if len(runs) else runs,
        commands=_commands(runs),
        correlations=readable_correlations(correlations),
        where=at_one_loss(runs[runs["outcome"] == "completed"])[1] if len(runs) else "",
        pictures=pictures,
        barriers=readable_barriers(sweep.barriers),
        left_out=left_out,
        surfaces=as_script(surface_data(sweep)),
        meanings=MEANINGS,
        words_not_numbers=WORDS,
    )


def _commands(runs: pd.DataFrame) -> list[dict[str, str]]:
    """The line that repeats each run, and what it should then find."""
    commands = []
    for _, run in runs.iterrows():
        known = {
            "test loss": run.get("test/loss", math.nan),
            "test accuracy": run.get("test/accuracy", math.nan),
        }
        said = ", ".join(f"{name} {value:.6g}" for name, value in known.items() if value == value)
        texts = {key: str(run[key]) for key in ("name", "outcome", "reason", "command")}
        commands.append({**texts, "expected": said})
    return commands


def _source(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _evidence_source(evidence: Evidence) -> str:
    """The plot behind a verdict, as an image in text."""
    figure = figures.evidence(
        evidence.x,
        evidence.y,
        evidence.group,
        x_label=evidence.x_label,
        y_label=evidence.y_label,
        log_x=evidence.log_x,
        log_y=evidence.log_y,
        lines=[(line.label, line.x, line.y) for line in evidence.lines],
    )
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=EVIDENCE_DPI)
    return _source(png.getvalue())


def surface_data(sweep: Sweep) -> list[dict[str, Any]]:
    """Surfaces for the viewer, four digits a value; ``None`` where the loss is not finite.

    Where all points together would make the page heavy, every second, third … line is left out;
    the network's own point always stays.
    """
    if sweep.surfaces.empty:
        return []
    names = dict(zip(sweep.runs.get("run_id", []), sweep.runs.get("name", []), strict=True))
    step = math.ceil(math.sqrt(len(sweep.surfaces) / MOST_POINTS))
    data = []
    for run_id, surface in sweep.surfaces.groupby("run_id", sort=False):
        grid = surface.pivot(index="alpha", columns="beta", values="loss")
        axes = grid.index.to_numpy(float), grid.columns.to_numpy(float)
        alpha, beta = (_thinned(axis, step) for axis in axes)
        loss = grid.to_numpy(float)[np.ix_(alpha, beta)]
        data.append(
            {
                "name": names.get(run_id, run_id),
                "alpha": [_digits(v) for v in axes[0][alpha]],
                "beta": [_digits(v) for v in axes[1][beta]],
                "loss": [[_digits(v) for v in row] for row in loss],
                "axes": _axis_names(surface),
            }
        )
    return data


def _axis_names(surface: pd.DataFrame) -> list[str]:
    """What the two directions are, where the table says so."""
    return [str(surface[f"{a}_label"].iloc[0]) for a in AXES if f"{a}_label" in surface]


def _thinned(axis: np.ndarray, step: int) -> np.ndarray:
    """Places of every ``step``-th point, counted from the one nearest to 0."""
    centre = int(np.argmin(np.abs(axis)))
    places: np.ndarray = np.arange(centre % step, len(axis), step)
    return places


def _digits(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def as_script(data: object) -> str:
    """JSON for a script element; ``<`` is escaped so that no text ends the element."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
