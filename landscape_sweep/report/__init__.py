"""A sweep's tables and figures, as files, as one page, and on the console."""

from landscape_sweep.report.console import show
from landscape_sweep.report.publish import publish
from landscape_sweep.report.write import ReportFiles, write_report

__all__ = ["ReportFiles", "publish", "show", "write_report"]
