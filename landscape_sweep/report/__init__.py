"""A sweep's tables and figures, as files, as one page, and on the console."""

from landscape_sweep.report.console import show
from landscape_sweep.report.note import note
from landscape_sweep.report.write import ReportFiles, write_report

__all__ = ["ReportFiles", "note", "show", "write_report"]
