"""The framework's vanilla CNN (section 5.1): three convolutions, two fully connected layers."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from landscape_sweep.models import _check
from landscape_sweep.models._norm import NORMS, norm_2d


def build(
    shape: tuple[int, int, int], classes: int, *, width: int = 64, norm: str = "none"
) -> nn.Module:
    """Three times 3x3 convolution, `norm`, ReLU, 2x2 max-pooling; then two fully connected layers.

    The convolutions have `width`, 2 `width` and 4 `width` channels, the hidden layer 4 `width`
    units: 64, 128, 256 and 256 by default, 1,422,218 parameters on CIFAR-10. Convolutions have a
    bias only with `norm="none"`: a norm's own shift takes its place. torch's initialisation.
    """
    _check.image_shape(shape, classes)
    _check.at_least("model.width", width, 1)
    _check.one_of("model.norm", norm, NORMS)
    channels, height, image_width = shape
    features = 4 * width * (height // 8) * (image_width // 8)
    return nn.Sequential(
        OrderedDict(
            stage1=_stage(channels, width, norm),
            stage2=_stage(width, 2 * width, norm),
            stage3=_stage(2 * width, 4 * width, norm),
            flatten=nn.Flatten(),
            hidden=nn.Linear(features, 4 * width),
            relu=nn.ReLU(),
            head=nn.Linear(4 * width, classes),
        )
    )


def _stage(inputs: int, outputs: int, norm: str) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm == "none"),
            norm=norm_2d(norm, outputs),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(2),
        )
    )
