"""L(θ) over all samples and its gradient, at any point of parameter space."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from landscape_sweep.curvature.objective import Objective, full_precision
from landscape_sweep.probes.measurement import Batches, Loss


class MeanLoss:
    """The mean loss as a function of one flat vector; the model itself is not changed.

    Args:
        model: in eval mode.
        loss: mean loss of a batch.
        batches: the samples over which L is the mean.

    Attributes:
        theta: (p,) the model's own parameters.

    Raises:
        ValueError: a loss that is not a finite scalar or depends on no parameter.
    """

    def __init__(self, model: nn.Module, loss: Loss, batches: Batches) -> None:
        self._objective = Objective(model, loss, batches)
        self.theta = self._objective.vector.flatten(self._objective.vector.values)

    @torch.no_grad()
    def value(self, theta: Tensor) -> float:
        """L(θ); batches are summed in float64."""
        values = self._objective.vector.split(theta)
        with full_precision():
            return sum(float(self._objective.of(values, c)) for c in self._objective.chunks(None))

    def value_and_gradient(self, theta: Tensor) -> tuple[float, Tensor]:
        """L(θ) and ∇L(θ), (p,)."""
        vector = self._objective.vector
        values = [v.detach().requires_grad_() for v in vector.split(theta)]
        total, gradient = 0.0, torch.zeros_like(theta)
        with full_precision():
            for chunk in self._objective.chunks(None):
                part = self._objective.of(values, chunk)
                slopes = torch.autograd.grad(part, values, materialize_grads=True)
                total += float(part.detach())
                gradient += vector.flatten(slopes)
        return total, gradient
