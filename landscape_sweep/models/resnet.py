"""The framework's SimpleResNet (section 5.1), with its skips and its normalisation to take away."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from landscape_sweep.models import _check
from landscape_sweep.models._norm import NORMS, norm_2d

BLOCKS = 6


def build(
    shape: tuple[int, int, int],
    classes: int,
    *,
    width: int = 64,
    norm: str = "batch",
    skip: bool = True,
) -> nn.Module:
    """A convolution, six residual blocks (two each at `width`, 2x and 4x that), a linear head.

    The basic block of He et al. (2016), halving the image where the width doubles; there the skip
    is a 1x1 convolution. Global average pooling before the head. `width=16` has 175,258 parameters
    on CIFAR-10. `skip=False` leaves out every skip, 1x1 convolutions too: the plain net of 13
    convolutions. They have a bias only with `norm="none"`: a norm's own shift takes its place.

    Initialisation is torch's where there is normalisation. Without, it would let signals shrink
    sixfold a layer, so convolutions get He's (2015). With skips, Fixup's scales come on top (Zhang
    et al. 2019, rules 1 and 2): the first convolution of a branch is multiplied by BLOCKS^(-1/2),
    the last one and the head start at zero, so that the net starts as its skips alone and a step
    changes its outputs no more than a shallow net's. Fixup's scalar biases and multipliers (rule 3)
    are left out: convolutions have biases, and a multiplier would only rescale a weight.
    """
    _check.image_shape(shape, classes)
    _check.at_least("model.width", width, 1)
    _check.one_of("model.norm", norm, NORMS)
    network = _ResNet(shape[0], classes, width, norm, skip)
    if norm == "none":
        _scale_initialisation(network, skip)
    return network


class _ResNet(nn.Module):
    def __init__(self, channels: int, classes: int, width: int, norm: str, skip: bool) -> None:
        super().__init__()
        self.stem = _conv_norm(channels, width, norm)
        self.relu = nn.ReLU()
        self.blocks = nn.Sequential(
            _Block(width, width, 1, norm, skip),
            _Block(width, width, 1, norm, skip),
            _Block(width, 2 * width, 2, norm, skip),
            _Block(2 * width, 2 * width, 1, norm, skip),
            _Block(2 * width, 4 * width, 2, norm, skip),
            _Block(4 * width, 4 * width, 1, norm, skip),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.relu(self.stem(x)))
        logits: Tensor = self.head(self.flatten(self.pool(x)))
        return logits


class _Block(nn.Module):
    """relu(skip(x) + branch(x)), or relu(branch(x)) without a skip."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str, skip: bool) -> None:
        super().__init__()
        self.conv1 = _conv_norm(inputs, outputs, norm, stride)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv_norm(outputs, outputs, norm)
        self.skip: nn.Module | None = None
        if skip:
            same = inputs == outputs and stride == 1
            self.skip = nn.Identity() if same else _conv_norm(inputs, outputs, norm, stride, side=1)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.conv2(self.relu1(self.conv1(x)))
        out: Tensor = self.relu2(branch if self.skip is None else self.skip(x) + branch)
        return out


def _conv_norm(
    inputs: int, outputs: int, norm: str, stride: int = 1, side: int = 3
) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=norm == "none")
    return nn.Sequential(conv, norm_2d(norm, outputs))


def _scale_initialisation(network: _ResNet, skip: bool) -> None:
    """He's initialisation for every convolution, and Fixup's scales where there are skips."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if not skip:
        return
    for block in network.blocks:
        assert isinstance(block, _Block)
        with torch.no_grad():
            block.conv1.get_parameter("0.weight").mul_(BLOCKS**-0.5)
        nn.init.zeros_(block.conv2.get_parameter("0.weight"))
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
