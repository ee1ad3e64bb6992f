"""Sharpness S_rho as the framework computes it (eq. 3, algorithm 2)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from landscape_sweep.probes.measurement import (
    Batches,
    Loss,
    Measurement,
    Progress,
    loss_and_accuracy,
    silent,
)


@dataclass(frozen=True)
class Sharpness(Measurement):
    """S_rho and what its first order alone would give.

    Attributes:
        rho: radius in parameter space.
        sam: L(θ + ρ g/‖g‖) − L(θ).
        gradient_norm: ‖g‖ = ‖∇L(θ)‖.
    """

    rho: float
    sam: float
    gradient_norm: float

    @property
    def first_order(self) -> float:
        """ρ‖g‖: away from a minimum most of eq. 3 is this, and says nothing of curvature."""
        return self.rho * self.gradient_norm

    def metrics(self) -> dict[str, float]:
        """``sharpness/…`` in units of the loss."""
        return {
            "sharpness/sam": self.sam,
            "sharpness/first_order": self.first_order,
            "sharpness/gradient_norm": self.gradient_norm,
        }


def sharpness(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    rho: float = 0.05,
    progress: Progress = silent,
) -> Sharpness:
    """S_rho by algorithm 2: one gradient step of length ``rho`` uphill.

    Args:
        model: in eval mode; its weights are not changed.
        loss: mean loss of a batch.
        batches: the samples over which L is the mean.
        rho: radius in parameter space.

    Where the gradient vanishes eq. 3 is 0/0; the step is then zero and so is ``sam``. It is a
    lower bound of the maximum over the ball (eq. 2), not that maximum.
    """
    moved = copy.deepcopy(model)
    base, _ = loss_and_accuracy(moved, loss, batches)
    samples = sum(len(targets) for _, targets in batches)
    moved.zero_grad()
    for inputs, targets in batches:
        (loss(moved(inputs), targets) * (len(targets) / samples)).backward()
    with torch.no_grad():
        theta = parameters_to_vector(moved.parameters())
        gradient = parameters_to_vector(
            [torch.zeros_like(p) if p.grad is None else p.grad for p in moved.parameters()]
        )
        norm = float(torch.linalg.vector_norm(gradient.double()))
        if norm > 0:
            vector_to_parameters(theta + (rho / norm) * gradient, moved.parameters())
    adversarial, _ = loss_and_accuracy(moved, loss, batches)
    progress(1, 1)
    return Sharpness(rho, adversarial - base, norm)


def passes(*, rho: float) -> float:
    """Forward-and-backward passes over the batches."""
    return 2.0
