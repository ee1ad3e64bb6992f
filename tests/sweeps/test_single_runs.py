"""Single runs: one whose process was killed is closed by the next, one that is alive is not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from mlflow.tracking import MlflowClient
from sweeps_in_processes import HERE, until

SINGLE = (
    *("data=digits", "data.train_size=200", "model=mlp", "model.width=8", "batch_size=20"),
    *("epochs=1000000", "stop.checkpoint_every=1", "probe=none"),
)
"""Far more training than a test waits for."""


def started(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A run as a process of its own, once it has been training for an epoch."""
    words = [sys.executable, "-m", "landscape_sweep", *SINGLE, *arguments]
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            words, cwd=folder, env={**os.environ, **HERE}, stdout=output, stderr=subprocess.STDOUT
        )
    until(lambda: process.poll() is not None or list(folder.glob("outputs/checkpoints/*")))
    assert process.poll() is None, (folder / "output.txt").read_text()
    return process


def statuses(folder: Path) -> dict[str, tuple[str, str | None]]:
    """Status and outcome of every run by its seed."""
    client = MlflowClient(f"sqlite:///{folder}/outputs/mlflow.db")
    return {
        run.data.params["seed"]: (run.info.status, run.data.tags.get("run.outcome"))
        for run in client.search_runs(["1"], "tags.`train.hash` != ''")
    }


def test_a_killed_single_run_is_closed_by_the_next_and_a_live_one_is_not(
    command, tmp_path: Path
) -> None:
    small = (*SINGLE[:-3], "epochs=1", "probe=none")
    process = started(tmp_path, "seed=7")
    try:
        ended = command(*small, "seed=1")  # while it is alive
        assert re.search(r"run [0-9a-f]{32} in sqlite:///outputs/mlflow.db", ended.out)
        assert ended.status == 0
        assert "process that died" not in ended.out
        assert statuses(tmp_path)["7"] == ("RUNNING", None)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        ended = command(
            *small, "seed=2", "outputs=elsewhere", "tracking.uri=sqlite:///outputs/mlflow.db"
        )
        assert statuses(tmp_path)["7"] == ("RUNNING", None)  # its lock is not there: who knows
        ended = command("-m", *small, "seed=3")  # a sweep closes it too
    finally:
        process.kill()
        process.wait()
    assert ended.status == 0
    assert "was left running by a process that died: mlp bs20 lr0.01 seed7" in ended.out
    finished = ("FINISHED", "completed")
    expected = {"1": finished, "2": finished, "3": finished, "7": ("KILLED", "interrupted")}
    assert statuses(tmp_path) == expected
    assert not list(Path("outputs/runs").glob("*.lock"))


def test_a_sweep_without_m_is_said(command) -> None:
    small = ("data.train_size=100", "epochs=0", "probe=none", "model.width=2", "batch_size=20")
    ended = command("experiment=quickstart", *small)
    assert ended.status == 0
    assert "one run, with the defaults of seed; -m sweeps over them" in ended.out
    ended = command("experiment=quickstart", "seed=0", *small)
    assert "-m sweeps" not in ended.out
    for chosen in ("hydra/sweeper=optuna", "hydra/launcher=parallel"):
        ended = command(chosen, *small)
        assert ended.status == 2
        assert ended.err.strip() == f"landscape_sweep: {chosen}: is for a sweep; add -m"


def test_m_may_stand_anywhere(command) -> None:
    ended = command("data=digits", "-m", "model=mlp", "seed=0,1", "dry_run=true", "probe=none")
    assert ended.status == 0
    assert "2 runs, 0 already finished" in ended.out
