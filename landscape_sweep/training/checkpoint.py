"""Checkpoints: all that training needs to go on, to the last bit, as if it had never stopped.

A checkpoint is one safetensors file: tensors (weights, BatchNorm statistics, the optimizer's
buffers, the state of the augmentation's generator), and in its header everything else as JSON,
with a SHA-256 of both. It appears whole or not at all, the one before it is kept, and nothing is
unpickled. The data order needs no state: it follows from the seed and the number of steps.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape_sweep.atomic import replacing
from landscape_sweep.training.tensors import read_tensors, write_tensors


@dataclass
class Checkpoint:
    """A moment of training: named tensors on the CPU, and what JSON holds."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def capture(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies of the model's and the optimizer's tensors, on the CPU, under their names."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for number, buffers in optimizer.state_dict()["state"].items():
        for name, value in buffers.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{number}.{name}"] = value
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


def restore(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put what ``capture`` took back into a model and an optimizer that were made the same way."""
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    model.load_state_dict(weights)
    buffers: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            buffers.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": buffers})


def write_checkpoint(checkpoint: Checkpoint, file: Path) -> None:
    """Write to ``file``; what was there is kept beside it, as ``previous`` names it.

    Raises:
        OSError: the disk is full, the folder can't be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        write_tensors(checkpoint.tensors, {"state": json.dumps(checkpoint.state)}, part)
        if file.exists():
            os.replace(file, previous(file))


def read_checkpoint(file: Path) -> Checkpoint:
    """Read what ``write_checkpoint`` wrote.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is cut short or changed.
    """
    if not file.exists():
        raise FileNotFoundError(file)
    tensors, metadata = read_tensors(file)
    return Checkpoint(tensors, json.loads(metadata.get("state", "{}")))


def previous(file: Path) -> Path:
    """Where the checkpoint before the one in ``file`` is kept."""
    return file.with_name(f"{file.stem}.previous{file.suffix}")
