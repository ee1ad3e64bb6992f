"""The quickstart sweep side by side against one run after another, in wall time."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweeps_in_processes import HERE

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
REPEATS = 2


def seconds(folder: Path, *arguments: str) -> float:
    """How long the quickstart sweep takes, from the command to its report."""
    folder.mkdir()
    words = [sys.executable, "-m", "landscape_sweep", "-m", "experiment=quickstart", *arguments]
    began = time.monotonic()
    with (folder / "output.txt").open("w") as output:
        subprocess.run(
            words, cwd=folder, env={**os.environ, **HERE}, stdout=output, stderr=output, check=True
        )
    return time.monotonic() - began


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has nothing to divide")
def test_the_parallel_launcher_beats_the_sequential_one(tmp_path: Path) -> None:
    one, many = [], []
    for repeat in range(REPEATS):
        one.append(seconds(tmp_path / f"sequential{repeat}"))
        many.append(seconds(tmp_path / f"parallel{repeat}", "hydra/launcher=parallel"))
    ratio = statistics.median(many) / statistics.median(one)
    print(f"\nquickstart: {one} s in turn, {many} s side by side; ratio {ratio:.2f}")
    assert ratio < 1
