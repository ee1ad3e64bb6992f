"""Runs side by side: the same results, and what becomes of them when a process dies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from sweeps_in_processes import (
    HERE,
    SWEEP,
    at_work,
    children,
    runs,
    said,
    start,
    statuses,
    table,
    until,
)

PARALLEL = ("hydra/launcher=parallel", "hydra.launcher.jobs=2", "seed=0,1,2")
LONGER = "epochs=200"
"""Runs that are at work when both workers are, however far apart these have started."""
ENDLESS = "epochs=100_000"
"""Runs that end by a signal only."""
NAME = r"mlp bs16 lr0\.01 seed\d"


def workers(driver: int) -> list[int]:
    """The worker processes of a driver."""
    return [child for child, line in children(driver).items() if "spawn_main" in line]


def test_a_killed_worker_costs_its_job_only(tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert start(alone, PARALLEL[-1], LONGER).wait(timeout=300) == 0
    driver = start(together, *PARALLEL, LONGER)
    until(lambda: at_work(together))
    os.kill(workers(driver.pid)[0], signal.SIGKILL)
    assert driver.wait(timeout=300) == 1
    assert "1 of 3 runs failed" in said(together)
    assert statuses(together) == ["FAILED", "FINISHED", "FINISHED"]
    (failed,) = runs(together).query("outcome == 'failed'").itertuples()
    assert "killed by SIGKILL" in failed.reason
    assert list(together.glob("outputs/sweeps/*/report/report.html"))
    # The same command runs what is missing, from its checkpoint, to the bits of the sequential one.
    assert start(together, *PARALLEL, LONGER).wait(timeout=300) == 0
    assert "3 runs, 2 already finished, 1 to do" in said(together)
    assert "going on at step" in said(together)
    pd.testing.assert_frame_equal(table(together), table(alone))
    told = [line for line in said(together).splitlines() if re.search("epoch |steps, ", line)]
    assert len(told) >= 600
    assert all(re.match(rf"{NAME} \|   ", line) for line in told)


def test_ctrl_c_ends_all_workers_and_makes_the_report(tmp_path: Path) -> None:
    driver = start(tmp_path, *PARALLEL, ENDLESS)
    until(lambda: at_work(tmp_path))
    at = workers(driver.pid)
    assert len(at) == 2
    for process in (driver.pid, *at):  # as a terminal sends it: to all of them
        os.kill(process, signal.SIGINT)
    assert driver.wait(timeout=120) == 130
    assert not any(Path(f"/proc/{worker}").exists() for worker in at)
    assert statuses(tmp_path) == ["KILLED", "KILLED"]
    assert list(tmp_path.glob("outputs/sweeps/*/report/report.html"))
    assert "Traceback" not in said(tmp_path)


def test_no_worker_outlives_its_driver(tmp_path: Path) -> None:
    driver = start(tmp_path, *PARALLEL, ENDLESS)
    until(lambda: at_work(tmp_path))
    at = workers(driver.pid)
    driver.kill()
    driver.wait()
    until(lambda: not any(alive(worker) for worker in at), seconds=5)


def alive(process: int) -> bool:
    """Whether a process runs; one that is dead may wait for its parent to notice."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "word", ["hydra.launcher.jobs=0", "hydra.launcher.jobs=many", "hydra.launcher.jobs_per_gpu=0"]
)
def test_a_number_that_makes_no_sense_is_said(command, word: str) -> None:
    ended = command(*SWEEP, "hydra/launcher=parallel", word)
    assert ended.status == 2
    assert f"{word}: takes an integer ≥ 1" in ended.err
    assert not list(Path("outputs").glob("sweeps/*"))  # nothing has run


def test_shares_fit_into_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from landscape_sweep.sweeps import parallel

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(parallel, "visible_gpus", lambda: ("0", "1", "2"))
    cases = [  # device, threads, jobs, jobs_per_gpu -> workers, threads of each
        (("cpu", None, None, 1), (16, 1)),
        (("cpu", 4, None, 1), (4, 4)),
        (("cpu", None, 3, 1), (3, 5)),
        (("cpu", None, 40, 1), (40, 1)),
        (("auto", None, None, 1), (3, 5)),
        (("auto", None, None, 2), (6, 2)),
        (("auto", None, None, 8), (16, 1)),
        (("auto", None, 2, 1), (2, 8)),
    ]
    for (device, threads, jobs, per_gpu), expected in cases:
        workers, share = parallel.divide(device, threads, jobs, per_gpu)
        assert (workers, share.threads) == expected
        assert share.gpus == (() if device == "cpu" else ("0", "1", "2"))


HOLDER = """
import sys
from landscape_sweep.sweeps.parallel import leased
with leased(("0", "1"), int(sys.argv[1])) as gpu:
    print(gpu, flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path, jobs_per_gpu: int) -> Iterator[subprocess.Popen[str]]:
    """A process that takes one of two GPUs and holds it until its input ends."""
    words = [sys.executable, "-c", HOLDER, str(jobs_per_gpu)]
    with subprocess.Popen(
        words,
        env={**os.environ, **HERE, "TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_gpu_is_leased_to_one_process_and_freed_by_its_death(tmp_path: Path) -> None:
    with holder(tmp_path, 1) as first, holder(tmp_path, 1) as second:
        taken = line(first)
        assert {taken, line(second)} == {"0", "1"}
        with holder(tmp_path, 1) as third:
            assert line(third) == "waiting for a free GPU of 0, 1"
            first.kill()
            assert line(third) == taken


def test_jobs_share_a_gpu_when_asked(tmp_path: Path) -> None:
    with (
        holder(tmp_path, 2) as a,
        holder(tmp_path, 2) as b,
        holder(tmp_path, 2) as c,
        holder(tmp_path, 2) as d,
    ):
        assert sorted(line(process) for process in (a, b, c, d)) == ["0", "0", "1", "1"]
