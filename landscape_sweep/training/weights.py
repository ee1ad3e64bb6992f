"""Weights on disk: written whole or not at all, read without unpickling."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from landscape_sweep.atomic import replacing
from landscape_sweep.training.tensors import read_tensors, write_tensors


def save_weights(model: nn.Module, file: Path) -> None:
    """Write parameters and buffers (BatchNorm statistics among them) to ``file``.

    The file appears complete: it is written beside its place and renamed.

    Raises:
        OSError: the disk is full, the folder can't be written.
    """
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    with replacing(file) as part:
        write_tensors(tensors, {}, part)


def load_weights(model: nn.Module, file: Path) -> None:
    """Read what ``save_weights`` wrote into ``model``, on the device where the model is.

    Raises:
        RuntimeError: names or shapes that do not belong to this model.
        DamagedError: a file that is cut short, changed, or of another kind.
    """
    tensors, _ = read_tensors(file)
    model.load_state_dict(tensors)
