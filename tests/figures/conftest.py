"""The synthetic sweep of the report's tests, for figures too."""

from __future__ import annotations

import runpy
from pathlib import Path

sweep = runpy.run_path(str(Path(__file__).parents[1] / "report" / "conftest.py"))["sweep"]
