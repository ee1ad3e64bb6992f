"""Products with the generalised Gauss-Newton matrix of a model's mean loss."""

from __future__ import annotations

import torch
from torch import Tensor

from landscape_sweep.curvature.model_operator import ModelOperator, Product
from landscape_sweep.curvature.objective import Chunk


class GaussNewtonOperator(ModelOperator):
    """G = Σ_n J_nᵀ (∇²_f ℓ_n) J_n / N, with J_n = ∂f_n/∂θ, (p, p), by products.

    The Hessian without its residual term; positive semi-definite for a loss convex in the
    outputs, of rank at most n(c - 1) for softmax cross-entropy (Schraudolph, *Fast curvature
    matrix-vector products for second-order gradient descent*, 2002). Takes what
    ``ModelOperator`` takes.
    """

    def _chunk_product(self, chunk: Chunk) -> Product:
        values = [v.detach().requires_grad_() for v in self.objective.vector.values]
        outputs = self.objective.folded_outputs(values, chunk.inputs)
        free = outputs.detach().requires_grad_()
        loss = self.objective.loss(free, chunk.targets) * chunk.weight
        (loss_gradient,) = torch.autograd.grad(loss, free, create_graph=True)
        # Jᵀu is linear in u, so its derivative along v by u is Jv: forward mode by two reverses.
        cotangent = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(
            outputs, values, cotangent, create_graph=True, materialize_grads=True
        )
        used = [i for i, p in enumerate(pulled) if p.requires_grad]

        def product(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            if not loss_gradient.requires_grad:  # a loss linear in the outputs: G = 0
                return tuple(torch.zeros_like(part) for part in parts)
            (pushed,) = torch.autograd.grad(
                [pulled[i] for i in used], cotangent, [parts[i] for i in used], retain_graph=True
            )
            (curved,) = torch.autograd.grad(loss_gradient, free, pushed, retain_graph=True)
            return torch.autograd.grad(
                outputs, values, curved, retain_graph=True, materialize_grads=True
            )

        return product
