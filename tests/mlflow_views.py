"""The three views of the MLflow UI that the README shows, opened in headless Chromium.

To make the README's pictures from a sweep that has run under OUTPUTS:

    python tests/mlflow_views.py OUTPUTS outputs/example
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.tracking import MlflowClient

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Frame, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECONDS = 300
"""How long a server may take to start, and a page to show what it shall, on a busy machine."""


@contextmanager
def served(uri: str, log: Path) -> Iterator[str]:
    """``mlflow ui`` over a database, on a free port of the loopback device; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--workers", "1"]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as said:
        server = subprocess.Popen(command + where, stdout=said, stderr=said, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/health", log)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # the server's workers are in its group
        server.wait()


def _wait_for(address: str, log: Path) -> None:
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f"mlflow ui does not answer: {log.read_text()[-2000:]}")


@dataclass(frozen=True)
class Views:
    """Addresses within the UI."""

    runs: str
    spectrum: str
    report: str


def views(uri: str, address: str) -> Views:
    """The views of the newest sweep in a database."""
    client = MlflowClient(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    sweep = client.search_runs(experiments, "tags.`sweep.parent` != ''", max_results=1)[0]
    parent, experiment = sweep.info.run_id, sweep.info.experiment_id
    where = f"tags.`mlflow.parentRunId` = '{parent}' and metrics.`hessian/lambda_max` > 0"
    child = client.search_runs([experiment], where, max_results=1)[0]
    start = f"{address}/#/experiments/{experiment}/runs"
    training = "workflowType=machine_learning"
    return Views(
        runs=f"{start}?{training}&viewStateShareKey=landscape_sweep",
        spectrum=f"{start}/{child.info.run_id}/model-metrics?{training}",
        report=f"{start}/{parent}/artifacts/report/report.html?{training}",
    )


def open_page(browser: Browser, address: str, errors: list[str]) -> Page:
    """A page in a context of its own; what it reports as an error is added to ``errors``."""
    page = browser.new_context(viewport={"width": 1600, "height": 900}).new_page()
    # Else MLflow's assistant opens over a third of the page. The report's own frame has no storage.
    opened = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
    page.add_init_script(f"try {{ {opened} }} catch {{}}")
    page.set_default_timeout(1000 * SECONDS)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(address)
    return page


def show_runs(page: Page) -> None:
    """Open the arrow beside the newest sweep, and wait until its runs are there."""
    page.get_by_role("columnheader", name="gap/loss").first.wait_for()
    page.locator(".ag-row").first.get_by_role("button").first.click()
    page.locator(".ag-row", has_text="seed0").first.wait_for()


def show_spectrum(page: Page) -> None:
    """Wait until the chart of the eigenvalues by rank is there, and bring it into view."""
    page.get_by_placeholder("Search metric charts").fill("hessian/eigenvalue")
    page.get_by_text("(hessian/eigenvalue)").first.wait_for()
    page.locator(".js-plotly-plot .scatterlayer .js-line").first.wait_for(state="attached")


def show_report(page: Page) -> Frame:
    """Wait until the report is shown, and return the frame that holds it."""
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        for frame in page.frames:
            if frame.query_selector("section#verdicts"):
                return frame
        page.wait_for_timeout(500)
    raise TimeoutError("the artifact view does not show the report")


def main(outputs: str, out: str) -> None:
    """Write ``mlflow_runs.png``, ``mlflow_spectrum.png`` and ``mlflow_report.png``."""
    from playwright.sync_api import sync_playwright

    uri = f"sqlite:///{Path(outputs, 'mlflow.db').absolute()}"
    errors: list[str] = []
    with served(uri, Path(out, "mlflow.log")) as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        found = views(uri, address)
        page = open_page(browser, found.runs, errors)
        show_runs(page)
        page.wait_for_timeout(2000)
        page.screenshot(path=Path(out, "mlflow_runs.png"))
        page = open_page(browser, found.spectrum, errors)
        show_spectrum(page)
        page.wait_for_timeout(2000)
        page.screenshot(path=Path(out, "mlflow_spectrum.png"))
        page = open_page(browser, found.report, errors)
        show_report(page)
        page.wait_for_timeout(2000)
        page.screenshot(path=Path(out, "mlflow_report.png"))
    print(*errors, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
