"""Augmentation as batched tensor code, on whatever device the images are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from landscape_sweep.data._errors import DataError

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Takes images (n, c, h, w) uint8 and a generator, returns images of the same shape and type."""


def augment(name: str) -> Augment:
    """The augmentation called `name`: `none` or `flip_crop`; `DataError` for another name."""
    if name not in _AUGMENTS:
        raise DataError("data.augment", name, " or ".join(_AUGMENTS))
    return _AUGMENTS[name]


def none(x: Tensor, generator: torch.Generator) -> Tensor:
    """The images as they are."""
    return x


def flip_crop(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image flipped left to right with probability 1/2, then shifted by up to 1/8 of its side.

    The crop of He et al. (2016): 4 pixels of padding at 32x32, in proportion at other sizes. The
    padding reflects the image where theirs is zero, because a black border is an edge that no clean
    image has, and landscapes are probed on clean images.

    Random numbers are drawn on the generator's device, so that a CPU generator gives the same
    augmentation on every device.
    """
    n, _, height, width = x.shape
    rows = _shifted(n, height, generator).to(x.device)
    columns = _shifted(n, width, generator).to(x.device)
    flip = torch.rand(n, 1, generator=generator, device=generator.device) < 0.5
    columns = torch.where(flip.to(x.device), columns.flip(1), columns)
    # By gather, whose results have canonical strides: see _load._channels_first.
    crop = x.gather(2, rows[:, None, :, None].expand_as(x))
    return crop.gather(3, columns[:, None, None, :].expand_as(x))


def _shifted(n: int, side: int, generator: torch.Generator) -> Tensor:
    """Pixel indices (n, side) of n random shifts by up to side / 8, reflected at the borders."""
    most = max(1, round(side / 8))
    shift = torch.randint(-most, most + 1, (n, 1), generator=generator, device=generator.device)
    index = (shift + torch.arange(side, device=generator.device)).abs()
    return (side - 1) - ((side - 1) - index).abs()


_AUGMENTS: dict[str, Augment] = {"none": none, "flip_crop": flip_crop}
