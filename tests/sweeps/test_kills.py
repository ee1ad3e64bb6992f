"""A sweep that is killed goes on where it was, and ends in the table of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from mlflow.tracking import MlflowClient

from landscape_sweep import __file__ as package
from landscape_sweep import tracking

HERE = {**os.environ, "PYTHONPATH": str(Path(package).parents[1])}
"""The code under test, also where another version is installed."""
SWEEP = (
    *("-m", "data=digits", "data.augment=flip_crop", "model=mlp", "model.width=8", "epochs=20"),
    *("probe=none", "batch_size=16", "stop.checkpoint_every=0.5", "seed=0,1"),
)


def start(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "landscape_sweep", *SWEEP]
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            words, cwd=folder, env=HERE, stdout=output, stderr=subprocess.STDOUT
        )


def table(folder: Path) -> pd.DataFrame:
    """What a sweep found, without what is another one each time."""
    uri = f"sqlite:///{folder}/outputs/mlflow.db"
    runs = tracking.load_runs(uri, experiment_name="landscape_sweep")
    names = [c for c in runs if "/" in c and c != "train/seconds"] + ["name", "outcome"]
    return runs[names].sort_values("name", ignore_index=True)


def histories(folder: Path) -> dict[str, list[float]]:
    uri = f"sqlite:///{folder}/outputs/mlflow.db"
    client = MlflowClient(uri)
    runs = tracking.load_runs(uri, experiment_name="landscape_sweep")
    return {
        name: [p.value for p in client.get_metric_history(run_id, "fit/loss")]
        for run_id, name in zip(runs["run_id"], runs["name"], strict=True)
    }


def test_a_sweep_killed_in_training_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    first, second = start(undisturbed), start(killed)
    deadline = time.monotonic() + 120
    while not list(killed.glob("outputs/checkpoints/*.previous.safetensors")):
        assert second.poll() is None, (killed / "output.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(second.pid, signal.SIGSTOP)  # it holds the sweep and does not get on
    rival = start(killed)
    assert rival.wait(timeout=120) == 2
    assert f"is being run by process {second.pid} on" in (killed / "output.txt").read_text()
    os.kill(second.pid, signal.SIGKILL)
    assert second.wait() == -signal.SIGKILL
    (newest,) = [f for f in killed.glob("outputs/checkpoints/*") if ".previous" not in f.name]
    newest.write_bytes(newest.read_bytes()[:-100])  # as a power cut may leave it
    assert start(killed).wait(timeout=300) == 0
    said = (killed / "output.txt").read_text()
    assert "is damaged" in said
    assert "going on at step" in said
    assert first.wait(timeout=300) == 0
    pd.testing.assert_frame_equal(table(killed), table(undisturbed))
    assert histories(killed) == histories(undisturbed)
    assert not list(killed.glob("outputs/checkpoints/*"))
    statuses = MlflowClient(f"sqlite:///{killed}/outputs/mlflow.db").search_runs(["1"])
    assert sorted(run.info.status for run in statuses) == ["FINISHED"] * 3 + ["KILLED"]
