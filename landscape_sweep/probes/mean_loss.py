"""L(θ) over all samples and its gradient, at any point of parameter space."""

from __future__ import annotations

from torch import Tensor, nn

from landscape_sweep.curvature.objective import Objective
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

    def value(self, theta: Tensor) -> float:
        """L(θ); batches are summed in float64."""
        return self._objective.value(self._objective.vector.split(theta))

    def value_and_gradient(self, theta: Tensor) -> tuple[float, Tensor]:
        """L(θ) and ∇L(θ), (p,)."""
        value, gradient = self._objective.value_and_gradient(self._objective.vector.split(theta))
        return float(value), gradient
