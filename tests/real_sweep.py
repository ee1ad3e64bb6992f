"""A sweep as a user runs it: in a process of its own, which tests stop, kill and start again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from mlflow.tracking import MlflowClient

from landscape_sweep import __file__ as package
from landscape_sweep import tracking

HERE = {
    **{name: value for name, value in os.environ.items() if name != "LANDSCAPE_SWEEP_DATA"},
    "PYTHONPATH": str(Path(package).parents[1]),  # the code under test
    "PYTHONUNBUFFERED": "1",
}


@dataclass
class RealSweep:
    """A sweep in a folder of its own.

    Attributes:
        folder: where the command is typed.
        arguments: what follows ``python -m landscape_sweep``.
        last_words: a pattern of the last line that each of its runs prints.
        uri: where it tracks; by default the database in its folder.
    """

    folder: Path
    arguments: tuple[str, ...]
    last_words: str = r"^  train loss"
    uri: str = ""
    began: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.uri = self.uri or f"sqlite:///{self.folder}/outputs/mlflow.db"

    @property
    def output(self) -> Path:
        """What the newest command printed."""
        return self.folder / "output.txt"

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        """Type the command; what it prints goes to ``output``."""
        self.began = time.time()
        words = [sys.executable, "-m", "landscape_sweep", *self.arguments, *more]
        with self.output.open("wb") as output:
            return subprocess.Popen(
                words, cwd=self.folder, env=HERE, stdout=output, stderr=subprocess.STDOUT
            )

    def said(self) -> str:
        """What the newest command has printed so far."""
        return self.output.read_text(errors="replace")

    def run(self, *more: str) -> int:
        """Type the command and wait for its end; returns its status."""
        return self.start(*more).wait(timeout=600)

    def phase(self) -> str:
        """What the newest command is doing, told from its output and its files."""
        if self._writes("outputs/checkpoints/*.part"):
            return "checkpoint"
        if self._writes("outputs/mlflow.db-journal"):  # SQLite's, there while it writes
            return "database"
        said = self.said()
        todo = re.search(r"^sweep .*, (\d+) to do", said, re.MULTILINE)
        if todo is None:
            return "start"
        started = list(re.finditer(r" seed\d+ on digits", said))
        current = said[started[-1].start() :] if started else ""
        ended = re.search(self.last_words, current, re.MULTILINE) is not None
        if len(started) == int(todo[1]) and (ended or not started):
            return "report" if self._writes("outputs/sweeps/*/report/*") else "connectivity"
        return "probing" if "  train loss" in current else "training"

    def _writes(self, files: str) -> bool:
        """Whether such files are there, not of an earlier command that was killed."""
        return any(modified(file) > self.began for file in self.folder.glob(files))

    def kill(self, phase: str, skip: int, delay: float, how: signal.Signals) -> str | None:
        """Start it, and end it ``delay`` seconds into the phase, which is let pass ``skip`` times.

        Returns the phase in which it was; None if it ended before.
        """
        process = self.start()
        times, last = 0, ""
        while process.poll() is None:
            now = self.phase()
            times += now == phase != last
            last = now
            if times > skip:
                time.sleep(delay)
                process.send_signal(signal.SIGSTOP)
                time.sleep(0.001)  # until it stands
                now = self.phase()
                process.send_signal(how)
                process.send_signal(signal.SIGCONT)
                status = process.wait(timeout=300)
                if status == 0:
                    return None
                assert status == (130 if how == signal.SIGINT else -how), self.said()
                return now
            time.sleep(0.0005)
        assert process.returncode == 0, self.said()
        return None

    def client(self) -> MlflowClient:
        """MLflow, to look behind the tables."""
        return MlflowClient(self.uri)

    def finished(self) -> set[str]:
        """Run ids of all that has a result."""
        store = tracking.connect(self.uri, "landscape_sweep", str(self.folder / "outputs"))
        return set(tracking.find_finished(store).values())

    def statuses(self) -> list[tuple[str, str]]:
        """Outcome and MLflow's status of every run but the sweep's own."""
        runs = self.client().search_runs(["1"], "tags.`config.hash` != ''")
        return sorted((r.data.tags.get("run.outcome", ""), r.info.status) for r in runs)

    def found(self) -> dict[str, pd.DataFrame]:
        """All that it measured, runs by their names, without times."""
        sweep = tracking.load_sweep(self.uri, experiment_name="landscape_sweep")
        names = dict(zip(sweep.runs["run_id"], sweep.runs["name"], strict=True))
        columns = [c for c in sweep.runs if "/" in c and c != "train/seconds"]
        tables = {
            "runs": sweep.runs[["name", "label", "outcome", *sorted(columns)]],
            **{
                name: getattr(sweep, name).replace(names)
                for name in ("histories", "spectra", "surfaces", "paths", "barriers")
            },
        }
        return {
            name: table.sort_values(list(table.columns), ignore_index=True)
            for name, table in tables.items()
        }


def modified(file: Path) -> float:
    """When a file was written; never, where it has gone meanwhile."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def assert_same(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> None:
    """Two sweeps found the same, to the last bit."""
    for name, table in one.items():
        pd.testing.assert_frame_equal(table, other[name], check_exact=True)
