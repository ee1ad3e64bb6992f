"""A fully connected network: the small case in which claims about depth and rank can be tried."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from landscape_sweep.models import _check
from landscape_sweep.models._norm import NORMS, norm_1d

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def build(
    shape: tuple[int, int, int],
    classes: int,
    *,
    depth: int = 3,
    width: int = 128,
    activation: str = "relu",
    norm: str = "none",
    skip: bool = False,
) -> nn.Module:
    """`depth` weight matrices (the L of Proposition 1), `width` units in each hidden layer.

    h_1 = W_1 x, then h_l = W_l a(norm(h_{l-1})) with a the activation, and logits h_L; `depth=1` is
    softmax regression. `skip` adds h_{l-1} to h_l in between, where both have `width` units (the
    pre-activation form of He et al. 2016b). The logits have a bias, the hidden layers only
    with `norm="none"`: a norm's own shift takes its place.

    torch's initialisation; with skips but no norm, W_2 … W_{L-1} are multiplied by (L-2)^(-1/2), so
    that the signal doesn't grow with depth (Zhang et al. 2019).
    """
    _check.image_shape(shape, classes)
    _check.at_least("model.depth", depth, 1)
    _check.at_least("model.width", width, 1)
    _check.one_of("model.activation", activation, tuple(ACTIVATIONS))
    _check.one_of("model.norm", norm, NORMS)
    pixels = math.prod(shape)
    if depth == 1:
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes))
    bias = norm == "none"
    layers = [_Layer(width, activation, norm, skip, bias) for _ in range(depth - 2)]
    if skip and norm == "none":
        with torch.no_grad():
            for layer in layers:
                layer.linear.weight.mul_((depth - 2) ** -0.5)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(pixels, width, bias=bias),
        *layers,
        norm_1d(norm, width),
        ACTIVATIONS[activation](),
        nn.Linear(width, classes),
    )


class _Layer(nn.Module):
    """W a(norm(h)), and h itself added if there is a skip."""

    def __init__(self, width: int, activation: str, norm: str, skip: bool, bias: bool) -> None:
        super().__init__()
        self.norm = norm_1d(norm, width)
        self.activation = ACTIVATIONS[activation]()
        self.linear = nn.Linear(width, width, bias=bias)
        self.skip = skip

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.linear(self.activation(self.norm(h)))
        return h + out if self.skip else out
