"""Singular values of a network's layers as linear maps; convolutions by Fourier transform."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


@torch.no_grad()
def weight_spectra(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Singular values of each linear layer and two-dimensional convolution, in calling order.

    Args:
        model: run once on ``inputs``, since a convolution's spectrum depends on the image's size.
        inputs: (n, ...).

    Returns:
        For each layer a tensor of min(rows, columns) values, float64, in no order.

    Raises:
        ValueError: a convolution that is dilated or strides unequally.
    """
    found: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Linear):
            found.append(torch.linalg.svdvals(module.weight.double()))
        elif isinstance(module, nn.Conv2d):
            found.append(convolution_spectrum(module, *args[0].shape[-2:]))

    hooks = [module.register_forward_hook(keep) for module in model.modules()]
    try:
        model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def convolution_spectrum(module: nn.Conv2d, height: int, width: int) -> Tensor:
    """Singular values of a convolution with circular padding, on images of one size.

    A circular convolution is block-diagonal in the Fourier basis, one (c_out, c_in) block a
    frequency (Sedghi, Gupta and Long, *The singular values of convolutional layers*, 2019). A
    stride s keeps every s-th output, which folds s² frequencies into one, so that a block has
    s² c_in columns. Circular padding stands for the usual zeros: it differs at the border only.
    Sides that a stride does not divide are taken as rounded up.

    Raises:
        ValueError: a dilation, or two different strides.
    """
    stride, vertical = module.stride
    if tuple(module.dilation) != (1, 1) or stride != vertical:
        raise ValueError(f"the spectrum of {module} is not known: dilated, or strides that differ")
    rows, columns = (math.ceil(side / stride) * stride for side in (height, width))
    kernel = module.weight.double()
    outputs, inputs = kernel.shape[:2]
    folded = (rows // stride, columns // stride)
    blocks = torch.einsum(
        "yh,oihw,xw->oiyx",
        _waves(rows, kernel.shape[2], kernel),
        kernel.to(torch.complex128),
        _waves(columns, kernel.shape[3], kernel),
    )
    # Frequencies that fold together: y + a · rows/s and x + b · columns/s for all a, b < s.
    blocks = blocks.reshape(outputs, inputs, stride, folded[0], stride, folded[1])
    blocks = blocks.permute(3, 5, 0, 1, 2, 4).reshape(*folded, outputs, inputs * stride**2)
    grouped = blocks.unflatten(2, (module.groups, -1))
    values: Tensor = torch.linalg.svdvals(grouped / stride)
    return values.flatten()


def _waves(side: int, taps: int, like: Tensor) -> Tensor:
    """(side, taps) exp(−2πi y h / side): also right where the kernel is larger than the image."""
    frequency = torch.arange(side, device=like.device, dtype=torch.float64)
    tap = torch.arange(taps, device=like.device, dtype=torch.float64)
    phase = -2 * math.pi / side * torch.outer(frequency, tap)
    return torch.polar(torch.ones_like(phase), phase)
