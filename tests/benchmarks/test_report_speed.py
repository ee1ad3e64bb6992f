"""The whole report of 100 runs: seconds of one core, and the size of the page."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from synthetic_sweep import synthetic_sweep

from landscape_sweep.report import write_report


@pytest.mark.benchmark
def test_a_hundred_runs(tmp_path: Path) -> None:
    sweep = synthetic_sweep(
        batch_sizes=(32, 64, 128, 256, 512),
        rates=(0.01, 0.03, 0.05, 0.1, 0.3),
        epochs=20,
        side=15,
        ranks=20,
        nodes=100,
    )
    began = time.process_time()
    page = write_report(sweep, tmp_path).page
    seconds, size = time.process_time() - began, page.stat().st_size / 1e6
    print(f"\n{len(sweep.runs)} runs: {seconds:.1f} s CPU, a page of {size:.1f} MB")
    assert seconds < 30
    assert size < 10
