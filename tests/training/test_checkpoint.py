"""A checkpoint continues to the same bits; a damaged one is found out."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from real_sweep import HERE
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from landscape_sweep.data import Dataset, load
from landscape_sweep.models import build
from landscape_sweep.training import (
    Checkpoint,
    DamagedError,
    loop,
    optimizer,
    previous,
    read_checkpoint,
    train,
    write_checkpoint,
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(name="digits", train_size=200)


def fitted(digits, rule: dict, **options):
    torch.manual_seed(0)
    model = build("resnet", shape=(1, 8, 8), classes=10, width=4)
    chosen = optimizer(model.parameters(), lr=0.05, **rule)
    keys = {"batch_size": 32, "steps": 20, "schedule": "cosine", "lr": 0.05, "seed": 7, **options}
    return model, train(model, digits, chosen, F.cross_entropy, **keys)


RULES = [
    {"name": "sgd", "weight_decay": 1e-3, "momentum": 0.9},
    {"name": "sgd", "weight_decay": 0.0},
    {"name": "adamw", "weight_decay": 1e-2},
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule['name']}{rule.get('momentum')}")
def test_from_any_step_to_the_same_bits(digits, rule, tmp_path: Path) -> None:
    """Six steps are one epoch: checkpoints lie within epochs, at their ends, and at the end."""
    whole, fit = fitted(digits, rule)
    kept: list[Checkpoint] = []
    watched, _ = fitted(digits, rule, checkpoint_every=3, on_checkpoint=kept.append)
    assert [one.state["fit"]["steps"] for one in kept] == [3, 6, 9, 12, 15, 18, 20]
    for number, checkpoint in enumerate(kept):
        file = tmp_path / f"{number}.safetensors"
        write_checkpoint(checkpoint, file)
        model, again = fitted(digits, rule, start=read_checkpoint(file))
        for key, value in whole.state_dict().items():
            assert torch.equal(model.state_dict()[key], value)
            assert torch.equal(watched.state_dict()[key], value)
        assert (again.steps, again.lr_sum) == (fit.steps, fit.lr_sum)
        assert [(e.loss, e.accuracy, e.step) for e in again.epochs] == [
            (e.loss, e.accuracy, e.step) for e in fit.epochs
        ]


def test_checkpoints_by_steps_or_by_time_whichever_comes_first(
    digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0

    def ten_seconds_a_step(step: int) -> None:
        nonlocal clock
        clock += 10

    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock)
    kept: list[Checkpoint] = []
    keys = {"on_step": ten_seconds_a_step, "on_checkpoint": kept.append}
    fitted(digits, RULES[1], checkpoint_every=7, checkpoint_seconds=40, **keys)
    assert [one.state["fit"]["steps"] for one in kept] == [4, 7, 11, 14, 18, 20]
    kept.clear()
    fitted(digits, RULES[1], checkpoint_seconds=90, **keys)
    assert [one.state["fit"]["steps"] for one in kept] == [9, 18, 20]


def test_a_checkpoint_cut_short_or_changed_is_found_out(tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    write_checkpoint(Checkpoint({"weights": torch.arange(1000.0)}, {"steps": 1}), file)
    write_checkpoint(Checkpoint({"weights": torch.arange(1000.0)}, {"steps": 2}), file)
    assert read_checkpoint(file).state == {"steps": 2}
    assert read_checkpoint(previous(file)).state == {"steps": 1}
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedError, match="checksum"):
        read_checkpoint(file)
    file.write_bytes(content[:-100])
    with pytest.raises(DamagedError):
        read_checkpoint(file)
    save_file(load_file(str(previous(file))), str(file))  # another safetensors file
    with pytest.raises(DamagedError, match="checksum"):
        read_checkpoint(file)
    torch.save({"a": 1}, file)
    with pytest.raises(DamagedError):
        read_checkpoint(file)
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "none")


WRITER = """
import sys
from pathlib import Path
import torch
from landscape_sweep.training import Checkpoint, write_checkpoint
write_checkpoint(Checkpoint({"a": torch.zeros(2**25)}, {}), Path(sys.argv[1]))
"""


def test_a_write_that_is_killed_leaves_nothing_under_a_name_of_its_own(tmp_path: Path) -> None:
    """What is removed with a run's checkpoints is found by the run's name."""
    file = tmp_path / "run.safetensors"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(file)], env=HERE) as writer:
        while not list(tmp_path.iterdir()):
            assert writer.poll() is None
            time.sleep(0.001)
        writer.kill()
    assert all(left.name.startswith("run.") for left in tmp_path.iterdir())
