"""Files of tensors that tell whether they are whole: safetensors, read without unpickling.

Safetensors has no checksum of its own: the header carries one of all that is stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor


class DamagedError(ValueError):
    """A file of tensors that is cut short or changed, or is of another kind."""


def write_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], file: Path) -> None:
    """Write tensors, and texts about them, with a SHA-256 of both.

    Raises:
        OSError: the disk is full, the folder can't be written.
    """
    told = {**metadata, "sha256": _digest(tensors, metadata)}
    # ``save_file`` writes beside ``file`` under a name of its own, which a kill would leave there.
    file.write_bytes(save(dict(tensors), told))


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the texts that ``write_tensors`` wrote.

    Raises:
        DamagedError: a file that is cut short, changed, or of another kind.
    """
    try:
        with safe_open(str(file), framework="pt") as opened:
            metadata = dict(opened.metadata() or {})
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DamagedError(str(error)) from error
    if metadata.pop("sha256", None) != _digest(tensors, metadata):
        raise DamagedError("its checksum is wrong")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    found = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
