"""The page in a real browser, alone and in the MLflow UI: no error, a heading sorts, a drag turns
the surface; runs, a chart and the report are found where the README says.

Pictures are kept in the folder that ``SCREENSHOTS`` names, else with pytest's temporary files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow_views
import pandas as pd
import pytest
from mlflow_views import CHROMIUM

from landscape_sweep.report import write_report
from landscape_sweep.tracking import Sweep

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

if TYPE_CHECKING:
    from playwright.sync_api import Frame, Page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")

OF_MLFLOW = ("Failed to load resource", "ResizeObserver loop")
"""Errors that MLflow's own pages report whatever is shown."""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def opens(page: Page | Frame) -> None:
    """A verdict in the overview leads to its reasons."""
    link = page.locator("table.overview a").first
    reasons = page.locator(f"[id='{link.get_attribute('href')[1:]}'] .verdict").first
    assert not reasons.is_visible()
    link.click()
    reasons.wait_for(state="visible")


def sorts(page: Page | Frame) -> None:
    """A press on a heading orders the runs by it."""
    column = (
        "() => { const table = document.querySelector('table.sortable');"
        "const at = [...table.querySelectorAll('th')].findIndex(h => h.textContent == 'test loss');"
        "return [...table.tBodies[0].rows].map(row => row.cells[at].textContent) }"
    )
    before = page.evaluate(column)
    page.locator("table.sortable th", has_text="test loss").first.locator("button").click()
    after = page.evaluate(column)
    numbers = sorted(float(text) for text in before if text != "–")
    assert [float(text) for text in after if text != "–"] == numbers
    assert len(numbers) > 1
    page.locator("table.sortable th", has_text="test loss").first.locator("button").click()
    assert [float(t) for t in page.evaluate(column) if t != "–"] == numbers[::-1]


def turns(page: Page | Frame) -> None:
    """A drag, and an arrow key, turn the surface."""
    canvas = page.locator("#surface")
    canvas.scroll_into_view_if_needed()
    before = canvas.get_attribute("data-turn")
    canvas.drag_to(
        canvas, source_position={"x": 200, "y": 100}, target_position={"x": 300, "y": 120}
    )
    dragged = canvas.get_attribute("data-turn")
    assert dragged != before
    canvas.press("ArrowLeft")
    assert canvas.get_attribute("data-turn") != dragged


def test_the_page_sorts_and_turns(sweep: Sweep, tmp_path: Path, pictures: Path) -> None:
    for name in ("histories", "spectra", "paths"):
        object.__setattr__(sweep, name, pd.DataFrame(columns=["run_id"]))
    object.__setattr__(sweep, "surfaces", sweep.surfaces[:81])
    page_file = write_report(sweep, tmp_path).page
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.goto(page_file.as_uri())
        opens(page)
        sorts(page)
        turns(page)
        page.screenshot(path=pictures / "page.png")
        assert errors == []
        browser.close()


def test_the_mlflow_ui_leads_to_runs_spectrum_and_report(
    command, tmp_path: Path, pictures: Path
) -> None:
    """A sweep is run, then ``mlflow ui`` is opened on it by the addresses that it printed."""
    ended = command(
        *("-m", "data=digits", "data.train_size=100", "model=mlp", "model.width=6", "epochs=2"),
        *("batch_size=20", "seed=0,1", "probe.samples=20", "probe.sharpness=null"),
        *("probe.hessian.k=5", "probe.surface.points=5", "probe.connectivity.points=3"),
    )
    assert ended.status == 0
    uri = f"sqlite:///{Path('outputs/mlflow.db').absolute()}"
    local = "http://127.0.0.1:5000"
    printed = [line.split(": ", 1)[1] for line in ended.out.splitlines() if local in line]
    errors: list[str] = []
    with (
        mlflow_views.served(uri, tmp_path / "mlflow.log") as address,
        playwright.sync_playwright() as play,
    ):
        views = mlflow_views.views(uri, address)
        assert printed == [url.replace(address, local) for url in (views.runs, views.report)]
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = mlflow_views.open_page(browser, views.runs, errors)
        mlflow_views.show_runs(page)
        page.get_by_text("mlp bs20 lr0.01 seed1").first.wait_for()
        page.screenshot(path=pictures / "mlflow_runs.png")
        page = mlflow_views.open_page(browser, views.spectrum, errors)
        mlflow_views.show_spectrum(page)
        page.screenshot(path=pictures / "mlflow_spectrum.png")
        page = mlflow_views.open_page(browser, views.report, errors)
        report = mlflow_views.show_report(page)
        sorts(report)
        turns(report)
        page.screenshot(path=pictures / "mlflow_report.png")
        browser.close()
    assert [error for error in errors if not any(words in error for words in OF_MLFLOW)] == []
