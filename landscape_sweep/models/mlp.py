"""A fully connected network: the small case in which claims about depth and rank can be tried."""

from __future__ import annotations

import math

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
    """`depth` weight matrices (the L of Proposition 1): depth - 1 hidden layers of `width` units.

    A hidden layer is activation(norm(W x + b)); with `skip`, x is added to it wherever both have
    `width` units, that is from the second hidden layer on. `depth=1` is softmax regression. There is
    a bias b only with `norm="none"`: a norm's own shift takes its place. torch's initialisation.
    """
    _check.image_shape(shape, classes)
    _check.at_least("model.depth", depth, 1)
    _check.at_least("model.width", width, 1)
    _check.one_of("model.activation", activation, tuple(ACTIVATIONS))
    _check.one_of("model.norm", norm, NORMS)
    sizes = [math.prod(shape)] + [width] * (depth - 1)
    hidden = [
        _Layer(inputs, width, activation, norm, skip and layer > 0)
        for layer, inputs in enumerate(sizes[:-1])
    ]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], classes))


class _Layer(nn.Module):
    def __init__(self, inputs: int, width: int, activation: str, norm: str, skip: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, width, bias=norm == "none")
        self.norm = norm_1d(norm, width)
        self.activation = ACTIVATIONS[activation]()
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.norm(self.linear(x)))
        return x + out if self.skip else out
