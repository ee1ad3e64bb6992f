"""The normalisation layers that `model.norm` chooses among."""

from __future__ import annotations

from torch import nn

NORMS = ("none", "batch", "layer")


def norm_2d(kind: str, channels: int) -> nn.Module:
    """For feature maps (n, channels, h, w).

    `layer` is GroupNorm with one group: mean and deviation over all channels and positions of one
    image, as LayerNorm (Ba et al. 2016), with a scale and a shift a channel, at any image size.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(1, channels) if kind == "layer" else nn.Identity()


def norm_1d(kind: str, features: int) -> nn.Module:
    """For vectors (n, features)."""
    if kind == "batch":
        return nn.BatchNorm1d(features)
    return nn.LayerNorm(features) if kind == "layer" else nn.Identity()
