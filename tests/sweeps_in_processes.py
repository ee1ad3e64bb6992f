"""A small sweep as a real process, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from mlflow.tracking import MlflowClient

from landscape_sweep import __file__ as package
from landscape_sweep import tracking

HERE = {"PYTHONPATH": str(Path(package).parents[1])}
"""The code under test, also where another version is installed."""
SWEEP = (
    *("-m", "data=digits", "data.augment=flip_crop", "model=mlp", "model.width=8", "epochs=20"),
    *("probe=none", "batch_size=16"),
)


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the sweep in ``folder``; it adds what it says to ``output.txt`` there."""
    folder.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "landscape_sweep", *SWEEP, *arguments]
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            words, cwd=folder, env={**os.environ, **HERE}, stdout=output, stderr=subprocess.STDOUT
        )


def said(folder: Path) -> str:
    return (folder / "output.txt").read_text()


def children(process: int) -> dict[int, str]:
    """The processes that a process has started, with their command lines."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in listed}


def until(happened: Callable[[], object], seconds: float = 300) -> None:
    """Wait until something has happened.

    Raises:
        TimeoutError: it does not.
    """
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain")
        time.sleep(0.02)


def at_work(folder: Path) -> bool:
    """Whether two runs have got as far as their second checkpoint."""
    return len(list(folder.glob("outputs/checkpoints/*.previous.safetensors"))) == 2


def runs(folder: Path) -> pd.DataFrame:
    uri = f"sqlite:///{folder}/outputs/mlflow.db"
    return tracking.load_runs(uri, experiment_name="landscape_sweep")


def table(folder: Path) -> pd.DataFrame:
    """What a sweep found, without what is another one each time."""
    found = runs(folder)
    names = [c for c in found if "/" in c and c != "train/seconds"] + ["name", "outcome"]
    return found[names].sort_values("name", ignore_index=True)


def statuses(folder: Path) -> list[str]:
    """How the runs have ended, as MLflow shows it; each attempt at a cell is one."""
    client = MlflowClient(f"sqlite:///{folder}/outputs/mlflow.db")
    every = client.search_runs(["1"], "tags.`config.hash` != ''")
    return sorted(run.info.status for run in every)
