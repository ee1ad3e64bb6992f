"""The report of a synthetic sweep: complete, self-contained, safe, and honest about gaps."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from landscape_sweep.claims import evaluate
from landscape_sweep.report import show, write_report
from landscape_sweep.report.__main__ import main
from landscape_sweep.report.page import surface_data
from landscape_sweep.report.write import ReportFiles
from landscape_sweep.statistics import correlations
from landscape_sweep.tracking import Sweep, connect

FIGURES = (
    *("training_dynamics", "hessian_spectra", "metric_comparison", "mode_connectivity"),
    *("loss_surfaces", "loss_contours", "correlation_analysis", "noise_against_flatness"),
    *("spectral_density", "algorithm_1", "summary"),
)
NOT_MEASURED = ("geometry_through_training", "networks_plane")
"""Figures of probes that the synthetic sweep has not: ``dynamics``, and planes of three seeds."""


def test_everything_is_written_and_the_page_fetches_nothing(sweep: Sweep, tmp_path: Path) -> None:
    files = write_report(sweep, tmp_path / "report")
    written = {file.name for file in files.folder.iterdir()}
    pictures = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    tables = {"runs.csv", "correlations.csv", "claims.json"}
    assert written == pictures | tables | {"report.html"}
    assert [line.split(":")[0] for line in files.left_out] == [
        f"no figure {n}" for n in NOT_MEASURED
    ]
    claims = json.loads((files.folder / "claims.json").read_text())
    assert len(claims) == len(files.verdicts)
    runs = pd.read_csv(files.folder / "runs.csv")
    assert runs["hessian/trace"].to_numpy() == pytest.approx(
        sweep.runs["hessian/trace"].to_numpy(), nan_ok=True
    )
    assert len(pd.read_csv(files.folder / "correlations.csv")) == len(correlations(sweep.runs))
    page = files.page.read_text()
    assert files.page.stat().st_size < 10e6
    assert all(f'id="{name}"' in page for name in FIGURES)
    said = html.unescape(page)
    assert all(verdict.reason in said for verdict in files.verdicts)
    for text in ("12 completed", "1 diverged", "1 failed", "loss is nan", "RuntimeError: no room"):
        assert text in page
    assert all(command in page for command in sweep.runs["command"])

    # Nothing is fetched from elsewhere.
    assert "http" not in page
    assert "@import" not in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)


def test_the_viewer_gets_the_surfaces_as_they_are(sweep: Sweep) -> None:
    sweep.surfaces.loc[0, "loss"] = np.inf
    data = surface_data(sweep)
    assert len(data) == 12
    assert data[0]["loss"][0][0] is None
    rows = sweep.surfaces[sweep.surfaces["run_id"] == sweep.runs["run_id"][3]]
    assert np.ravel(data[3]["loss"]) == pytest.approx(rows["loss"].to_numpy(), rel=1e-3)
    assert data[3]["name"] == sweep.runs["name"][3]


@pytest.fixture
def light(sweep: Sweep) -> Sweep:
    """Runs and one surface, so that a report takes no time."""
    none = pd.DataFrame(columns=["run_id"])
    runs = sweep.runs.drop(columns=sweep.runs.filter(regex="^(hessian|sharpness)/").columns)
    return dataclasses.replace(
        sweep, runs=runs, histories=none, spectra=none, paths=none, surfaces=sweep.surfaces[:81]
    )


def test_names_are_shown_not_run(light: Sweep, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    runs = light.runs.replace({"cnn bs32 lr0.05": evil, "cnn bs32 lr0.05 s0": evil})
    runs.loc[13, "reason"] = evil
    files = write_report(dataclasses.replace(light, name=evil, command=evil, runs=runs), tmp_path)
    page = files.page.read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("</script>") == page.count("<script")


def test_a_fallback_data_set_is_said_loudly(light: Sweep, tmp_path: Path) -> None:
    runs = light.runs.assign(**{"data.loaded": "digits (fallback)"})
    page = write_report(dataclasses.replace(light, runs=runs), tmp_path).page.read_text()
    assert "These runs used digits (fallback)" in page
    assert "fallback" not in write_report(light, tmp_path).page.read_text()


EMPTY = ("histories", "spectra", "densities", "surfaces", "paths", "algorithm_1")


@pytest.mark.parametrize("columns", [[], ["run_id"]])
@pytest.mark.parametrize("runs", ["none", "failed only"])
def test_what_is_missing_is_said(
    sweep: Sweep, tmp_path: Path, columns: list[str], runs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = {name: pd.DataFrame(columns=columns) for name in EMPTY}
    failed = sweep.runs[sweep.runs["outcome"] == "failed"].dropna(axis=1)
    bare = dataclasses.replace(
        sweep, runs=pd.DataFrame() if runs == "none" else failed.reset_index(drop=True), **empty
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = write_report(bare, tmp_path)
    drawn = ["summary"] if runs == "failed only" else []
    for name in FIGURES:
        missing = [
            line for line in files.left_out if line.startswith(f"no figure {name}: it needs")
        ]
        assert len(missing) == (name not in drawn)
        assert all(html.escape(line) in files.page.read_text() for line in missing)
    show(bare, files)
    assert "report.html" in capsys.readouterr().out


def test_the_console_names_failures_and_correlations(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    show(sweep, ReportFiles(tmp_path, page, evaluate(sweep.runs), correlations(sweep.runs), []))
    out = capsys.readouterr().out
    assert "failed: resnet bs32 lr0.05 s2: RuntimeError: no room" in out
    assert "Strongest of" in out
    (counted,) = (line for line in out.splitlines() if line.startswith("Verdicts from these runs"))
    for verdict in ("SUPPORTED", "REFUTED", "INCONCLUSIVE"):  # as many as have a line below
        lines = [line for line in out.splitlines() if f"{verdict} " in line[:18]]
        assert f" {len(lines)} {verdict}" in counted
    assert counted.endswith(" not measured")
    assert "by examples worked out, whatever is run: " in out
    assert "(analytic" not in out
    assert "theorem_1" in out or "Theorem 1" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["swep=x"], "the nearest is sweep"),
        (["sweep"], "each as key=value"),
        (["outputs=o"], "either sweep=ID or experiment_name=NAME"),
        (["sweep=a", "experiment_name=b"], "either sweep=ID or experiment_name=NAME"),
        (["sweep=nobody"], "there is no such file"),
        (["sweep=nobody", "tracking.uri=sqlite:///made.db"], "sweep=nobody: there is no sweep yet"),
        (["experiment_name=nothing", "tracking.uri=sqlite:///made.db"], "takes one of "),
        (["sweep=a", "tracking.uri=ftp://x"], "tracking.uri"),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    connect("sqlite:///made.db", "an experiment", "outputs")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("landscape_sweep.report: ")
    assert error.count("\n") == 1


def test_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(
        key in out for key in ("sweep", "experiment_name", "outputs", "tracking.uri", "device")
    )
