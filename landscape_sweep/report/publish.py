"""A report from table to reader: written, put on the sweep's run, shown."""

from __future__ import annotations

from pathlib import Path

from landscape_sweep import tracking
from landscape_sweep.report.console import show
from landscape_sweep.report.note import note
from landscape_sweep.report.tables import compared
from landscape_sweep.report.write import write_report
from landscape_sweep.tracking import Sweep


def publish(sweep: Sweep, uri: str, parent_run_id: str | None, folder: Path) -> None:
    """Write the report under ``folder``, log it to the sweep's run if there is one, and show it."""
    files = write_report(sweep, folder)
    links = None
    if parent_run_id is not None:
        tracking.log_report(uri, parent_run_id, files.folder, note(sweep, files))
        links = tracking.save_view(uri, parent_run_id, compared(sweep.runs))
    show(sweep, files, links)
