"""Products with the Hessian of a model's mean loss: exact, or by differences of gradients."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from landscape_sweep.curvature.model_operator import ModelOperator, Product
from landscape_sweep.curvature.objective import Batches, Chunk, Loss, full_precision
from landscape_sweep.curvature.operators import random_vector
from landscape_sweep.curvature.parameters import ParameterFilter

ProductRule = Literal["exact", "finite_difference"]
Difference = Literal["forward", "central"]


class HessianOperator(ModelOperator):
    """H = ∇²L(θ) of the mean loss over all samples, (p, p), by products.

    Exact products differentiate the gradient once more (Pearlmutter, *Fast exact multiplication
    by the Hessian*, 1994). Finite differences are the paper's eq. 13,
    Hv ≈ (∇L(θ + εv) − ∇L(θ)) / ε, or their central form; they cross the kinks of ReLU and
    max-pool networks and can be off by several times in float32, so ``measured_error`` tells how
    far off they are here.

    Args:
        product: ``"exact"`` or ``"finite_difference"``.
        difference: of finite differences: ``"forward"`` (eq. 13) or ``"central"``.
        step: ε of finite differences, the length of the step in parameter space, above 0.
        model, loss, batches, parameters, memory_budget, chunk: see ``ModelOperator``.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batches: Batches,
        *,
        product: ProductRule = "exact",
        difference: Difference = "central",
        step: float = 1e-2,
        parameters: ParameterFilter = "all",
        memory_budget: int | None = None,
        chunk: int | None = None,
    ) -> None:
        if product not in get_args(ProductRule):
            raise ValueError(f"product={product!r}: one of {get_args(ProductRule)}")
        if difference not in get_args(Difference):
            raise ValueError(f"difference={difference!r}: one of {get_args(Difference)}")
        if not step > 0:
            raise ValueError(f"step={step}: above 0")
        super().__init__(
            model, loss, batches, parameters=parameters, memory_budget=memory_budget, chunk=chunk
        )
        self.product, self.difference, self.step = product, difference, step
        self._base_gradient: Tensor | None = None

    def measured_error(self, directions: int = 3, seed: int = 0) -> float:
        """The largest ‖H_fd v − Hv‖ / ‖Hv‖ over Gaussian directions and the gradient's own.

        0.0 for exact products. Costs ``directions + 1`` products of each kind.
        """
        if self.product == "exact":
            return 0.0
        generator = torch.Generator().manual_seed(seed)
        probes = [random_vector(self, generator) for _ in range(directions)] + [self.gradient()]
        errors = []
        with full_precision():
            for probe in probes:
                exact = super()._matvec(probe)
                error = (self._difference_quotient(probe) - exact).norm() / exact.norm()
                errors.append(float(error))
        return max(errors)

    def _matvec(self, vector: Tensor) -> Tensor:
        if self.product == "exact":
            return super()._matvec(vector)
        return self._difference_quotient(vector)

    def _chunk_product(self, chunk: Chunk) -> Product:
        values = [v.detach().requires_grad_() for v in self.objective.vector.values]
        gradient = torch.autograd.grad(
            self.objective.of(values, chunk), values, create_graph=True, materialize_grads=True
        )
        # A parameter in which the loss is linear has a gradient without a graph: its row is 0.
        curved = [i for i, g in enumerate(gradient) if g.requires_grad]

        def product(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            if not curved:
                return tuple(torch.zeros_like(part) for part in parts)
            return torch.autograd.grad(
                [gradient[i] for i in curved],
                values,
                [parts[i] for i in curved],
                retain_graph=True,
                materialize_grads=True,
            )

        return product

    def _difference_quotient(self, vector: Tensor) -> Tensor:
        """Eq. 13 along the unit vector, so that ε is the length of the step."""
        length = vector.norm()
        if not length:
            return torch.zeros_like(vector)
        ahead = self._gradient_beside(vector, self.step / length)
        if self.difference == "central":
            behind = self._gradient_beside(vector, -self.step / length)
            central: Tensor = (ahead - behind) * (length / (2 * self.step))
            return central
        if self._base_gradient is None:
            self._base_gradient = self._gradient_at(self.objective.vector.values)
        forward: Tensor = (ahead - self._base_gradient) * (length / self.step)
        return forward

    def _gradient_beside(self, vector: Tensor, scale: Tensor) -> Tensor:
        parts = self.objective.vector.split(vector * scale)
        values = self.objective.vector.values
        return self._gradient_at(tuple(v + d for v, d in zip(values, parts, strict=True)))
