"""What tests share: the command line, called in this process, and a synthetic sweep."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from synthetic_sweep import synthetic_sweep

from landscape_sweep.tracking import Sweep

# In the background of a shell Ctrl-C is ignored, also by every process that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Networks of tests are tiny: a second thread has nothing to do, and beside a busy neighbour the
# two wait for each other (the dense Hessians take 59 s in place of 11 s).
torch.set_num_threads(1)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """``command("-m", "model=cnn,resnet")``: what a user types, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LANDSCAPE_SWEEP_DATA", raising=False)
    threads = torch.get_num_threads()

    def call(*arguments: str) -> Ended:
        from landscape_sweep.__main__ import main

        monkeypatch.setattr(sys, "argv", ["landscape_sweep", *arguments])
        capfd.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        return Ended(status, *capfd.readouterr())

    yield call
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def sweep() -> Sweep:
    """12 completed runs, one that diverged and one that failed."""
    return synthetic_sweep()
