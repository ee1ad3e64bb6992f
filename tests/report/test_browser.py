"""The page in a real browser: no error, a heading sorts, a drag turns the surface."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from landscape_sweep.report import write_report
from landscape_sweep.tracking import Sweep

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")
def test_the_page_sorts_and_turns(sweep: Sweep, tmp_path: Path) -> None:
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
        head = page.locator("table.sortable th", has_text="test loss").first
        column = (
            "() => [...document.querySelector('table.sortable').tBodies[0].rows]"
            ".map(row => row.cells[4].textContent)"
        )
        before = page.evaluate(column)
        head.click()
        after = [float(text) for text in page.evaluate(column) if text != "–"]
        assert after == sorted(float(text) for text in before if text != "–")
        assert before[:12] != page.evaluate(column)[:12]
        canvas = page.locator("#surface")
        canvas.scroll_into_view_if_needed()
        turn = canvas.get_attribute("data-turn")
        box = canvas.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 200, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 300, box["y"] + 120, steps=4)
        page.mouse.up()
        assert canvas.get_attribute("data-turn") != turn
        turn = canvas.get_attribute("data-turn")
        canvas.press("ArrowLeft")
        assert canvas.get_attribute("data-turn") != turn
        assert errors == []
        browser.close()
