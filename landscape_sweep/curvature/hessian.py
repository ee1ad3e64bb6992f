"""Products with the Hessian of a model's mean loss (Pearlmutter, 1994), and by differences."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from landscape_sweep.curvature.objective import Batches, Loss, Objective, full_precision
from landscape_sweep.curvature.operators import check_vector
from landscape_sweep.curvature.parameters import ParameterFilter


class HessianOperator:
    """H = ∇²L(θ), a (p, p) matrix known by its products, of the mean loss over all samples."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batches: Batches,
        *,
        product: Literal["exact", "finite_difference"] = "exact",
        difference: Literal["forward", "central"] = "central",
        step: float = 1e-2,
        parameters: ParameterFilter = "all",
        chunk: int | None = 64,
    ) -> None:
        self.objective = Objective(model, loss, batches, parameters)
        vector = self.objective.vector
        self.size, self.dtype, self.device = vector.size, vector.dtype, vector.device
        self.product, self.difference, self.step = product, difference, step
        self.chunk = chunk

    def matvec(self, vector: Tensor) -> Tensor:
        """Hv, (p,) to (p,)."""
        check_vector(self, vector)
        with full_precision():
            return self._exact(vector)

    def _exact(self, vector: Tensor) -> Tensor:
        parts = self.objective.vector.split(vector)
        total = torch.zeros_like(vector)
        for chunk in self.objective.chunks(self.chunk):
            values = [v.clone().requires_grad_() for v in self.objective.vector.values]
            gradient = torch.autograd.grad(
                self.objective.of(values, chunk), values, create_graph=True, materialize_grads=True
            )
            product = torch.autograd.grad(gradient, values, parts, materialize_grads=True)
            total += self.objective.vector.flatten(product)
        return total

    def gradient(self) -> Tensor:
        """∇L(θ), (p,)."""
        total = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        with full_precision():
            for chunk in self.objective.chunks(self.chunk):
                total += self.objective.vector.flatten(self.objective.gradient_of(chunk))
        return total

    @torch.no_grad()
    def loss(self) -> float:
        """L(θ)."""
        values = self.objective.vector.values
        with full_precision():
            return sum(float(self.objective.of(values, c)) for c in self.objective.chunks(self.chunk))
