"""0: all finished, diverged or not. 1: some failed. 130: interrupted. The report is always made."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from landscape_sweep import __file__ as package
from landscape_sweep import tracking

HERE = {**os.environ, "PYTHONPATH": str(Path(package).parents[1])}
"""The code under test, also where another version is installed."""
TINY = ("data=digits", "data.train_size=200", "model=mlp", "batch_size=20", "probe=none")
LONG = (*TINY, "model.width=8", "stop.steps=1000000", "stop.checkpoint_every=1")
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
GRANTS_ALL = OVERCOMMIT.exists() and OVERCOMMIT.read_text().strip() == "1"


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "landscape_sweep", *words],
        cwd=folder,
        env=HERE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def table(folder: Path) -> pd.DataFrame:
    uri = f"sqlite:///{folder}/outputs/mlflow.db"
    return tracking.load_runs(uri, experiment_name="landscape_sweep").sort_values("name")


def in_training(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the process has written a checkpoint."""
    deadline = time.monotonic() + 200
    while not list(folder.glob("outputs/checkpoints/*.safetensors")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("words", [(), ("-m", "seed=0,1")], ids=["run", "sweep"])
def test_ctrl_c_ends_with_130_and_the_report(tmp_path: Path, words: tuple[str, ...]) -> None:
    process = start(tmp_path, *words, *LONG)
    in_training(tmp_path, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 130, out + err
    assert err.strip().splitlines()[-1] == "landscape_sweep: interrupted"
    assert "Traceback" not in out + err
    assert table(tmp_path)["outcome"].tolist() == ["interrupted"]
    assert len(list(tmp_path.glob("outputs/sweeps/*/report/report.html"))) == bool(words)
    runs = MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db").search_runs(["1"])
    assert {run.info.status for run in runs} == {"KILLED"}  # the sweep's own, too


@pytest.mark.skipif(GRANTS_ALL, reason="this machine promises memory that it does not have")
def test_out_of_memory_fails_alone_and_a_divergence_does_not(tmp_path: Path) -> None:
    """A million by a million weights are 4 TB."""
    grid = ("model.width=8,1000000", "optimizer.lr=0.01,1e30", "model.depth=3", "epochs=2")
    process = start(tmp_path, "-m", *TINY, *grid)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, out + err
    assert "2 of 4 runs failed: the same command runs them again" in out
    runs = table(tmp_path).set_index(["model.width", "optimizer.lr"])
    assert runs["outcome"].to_dict() == {
        (8, 0.01): "completed",
        (8, 1e30): "diverged",
        (1000000, 0.01): "failed",
        (1000000, 1e30): "failed",
    }
    for _, run in runs[runs["outcome"] == "failed"].iterrows():
        assert "allocate memory" in run["reason"]
        assert f"failed: {run['name']}: RuntimeError:" in out  # beneath the table
        folder = tmp_path / "outputs/mlartifacts" / run["run_id"] / "artifacts"
        assert "landscape_sweep/models/mlp.py" in (folder / "traceback.txt").read_text()
    (page,) = tmp_path.glob("outputs/sweeps/*/report/report.html")
    assert "allocate memory" in page.read_text()


def test_a_failed_run_leaves_its_memory_to_the_next(
    command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from landscape_sweep import run

    left: list[weakref.ref] = []
    alive: list[bool] = []

    def probe(config, data, network, record, path=None) -> None:
        gc.collect()
        alive.extend(one() is not None for one in left)
        left.append(weakref.ref(network))
        raise MemoryError("on purpose")

    monkeypatch.setattr(run, "probe", probe)
    assert command("-m", *TINY, "model.width=8", "epochs=1", "seed=0,1").status == 1
    assert alive == [False]
