"""Networks, one file a family. A file here without a leading underscore is a family.

To add one, write `landscape_sweep/models/NAME.py` with a function `build(shape, classes, ...)`,
whose further keyword arguments are the config keys of `conf/model/NAME.yaml`; that file; a test.

Every network takes normalised images (n, channels, height, width) to logits (n, classes), for any
number of channels and any size from 8x8 up. Weights are drawn from torch's global random numbers:
the caller seeds them. Networks made of ReLU, max-pooling and BatchNorm use modules for these, not
functions, and tie no weights, so that it can be seen that they are piecewise linear in each
parameter tensor.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from torch import nn

from landscape_sweep.models._check import ModelError, one_of


def names() -> tuple[str, ...]:
    """The families there are: the modules of this package without a leading underscore."""
    modules = pkgutil.iter_modules(__path__)
    return tuple(sorted(module.name for module in modules if not module.name.startswith("_")))


def build(name: str, *, shape: tuple[int, int, int], classes: int, **options: Any) -> nn.Module:
    """A new network of the family `name`, float32, on the CPU, in training mode.

    `shape` is (channels, height, width) of one image, `classes` the number of outputs, `options`
    the family's own (`width`, `norm`, `skip` …). Raises `ModelError` for a value out of bounds and
    `TypeError` for an option that the family doesn't have.
    """
    one_of("model.name", name, names())
    module = importlib.import_module(f"landscape_sweep.models.{name}")
    network: nn.Module = module.build(shape, classes, **options)
    return network


__all__ = ["ModelError", "build", "names"]
