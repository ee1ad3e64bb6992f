"""Weights on disk: safetensors, written whole or not at all, read without unpickling."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from landscape_sweep.atomic import replacing


def save_weights(model: nn.Module, file: Path) -> None:
    """Write parameters and buffers (BatchNorm statistics among them) to ``file``.

    The file appears complete: it is written beside its place and renamed.
    """
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    with replacing(file) as part:
        save_file(tensors, str(part))


def load_weights(model: nn.Module, file: Path) -> None:
    """Read what ``save_weights`` wrote into ``model``, on the device where the model is.

    Raises:
        RuntimeError: names or shapes that do not belong to this model.
        safetensors.SafetensorError: a file that is damaged or of another kind.
    """
    device = next(model.parameters()).device
    model.load_state_dict(load_file(str(file), device=str(device)))
