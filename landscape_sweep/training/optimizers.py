"""The update rules, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def optimizer(
    parameters: Iterable[Tensor],
    *,
    name: str,
    lr: float,
    weight_decay: float,
    momentum: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
) -> torch.optim.Optimizer:
    """``sgd`` (heavy-ball momentum) or ``adamw`` over ``parameters``.

    Raises:
        ValueError: any other name.
    """
    if name == "sgd":
        return torch.optim.SGD(
            parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, foreach=True
        )
    if name == "adamw":
        return torch.optim.AdamW(
            parameters, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay, foreach=True
        )
    raise ValueError(f"optimizer {name!r}: takes one of sgd, adamw")


def learning_rate(schedule: str, lr: float, step: int, steps: int) -> float:
    """The learning rate of ``step`` (0, 1, …, steps − 1).

    ``cosine`` is lr·(1 + cos(π·step/steps))/2, annealed to 0 after the last step (Loshchilov and
    Hutter 2017, without restarts); ``constant`` is lr.

    Raises:
        ValueError: any other schedule.
    """
    if schedule == "constant":
        return lr
    if schedule == "cosine":
        return lr * (1 + math.cos(math.pi * step / steps)) / 2
    raise ValueError(f"schedule {schedule!r}: takes one of cosine, constant")
