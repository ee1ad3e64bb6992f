"""The losses that a run can minimise; training, evaluation and every probe take the same one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def mean_squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """(1/n) Σ_i ‖f(x_i) − e_{y_i}‖², against one-hot targets: summed over classes, not averaged.

    So the Hessian in the outputs is 2I for every sample, and the Gauss-Newton matrix is 2JᵀJ/n.

    Args:
        outputs: (n, c).
        labels: (n,) int64, 0 … c − 1.
    """
    classes = torch.arange(outputs.shape[1], device=outputs.device)
    targets = (labels[:, None] == classes).to(outputs.dtype)  # F.one_hot does not work under vmap
    return (outputs - targets).square().sum(1).mean()


def loss_function(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """``cross_entropy`` or ``mse``, as loss(outputs, labels): the mean over samples, a scalar.

    Raises:
        ValueError: any other name.
    """
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "cross_entropy": F.cross_entropy,
        "mse": mean_squared_error,
    }
    if name not in losses:
        raise ValueError(f"loss {name!r}: takes one of {', '.join(losses)}")
    return losses[name]
