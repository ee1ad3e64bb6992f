"""The exact trace of the Gauss-Newton matrix, from the norms of single samples' gradients.

tr G = (1/N) Σ_n tr(J_nᵀ (∇²_f ℓ_n) J_n) = (1/N) Σ_n Σ_k s_nk ‖J_nᵀ u_nk‖², where s_nk and u_nk are
the eigenvalues and vectors of the loss's (c, c) Hessian in the outputs. For softmax cross-entropy
it equals Σ_c p_c ‖∇ log p_c‖², the trace of the Fisher information.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import hessian, vmap

from landscape_sweep.curvature.memory import chunk_size
from landscape_sweep.curvature.model_operator import ModelOperator
from landscape_sweep.curvature.objective import Chunk, Objective, full_precision
from landscape_sweep.curvature.sample_norms import has_layerwise_rules, squared_norms


def exact_gauss_newton_trace(operator: ModelOperator) -> float:
    """tr G over the operator's samples, to rounding.

    Costs at most c backward passes, none of which forms a weight gradient, for each sample.

    Raises:
        ValueError: where the loss couples the samples of a batch.
    """
    objective = operator.objective
    if not objective.separable:
        raise ValueError("the exact trace needs a loss that is the mean of its samples' losses")
    with full_precision():
        layerwise = has_layerwise_rules(objective, objective.batches[0][0])
        size = chunk_size(operator.bytes_per_sample, operator.device, operator.memory_budget)
        return sum(_chunk_trace(objective, c, layerwise) for c in objective.chunks(size))


def _chunk_trace(objective: Objective, chunk: Chunk, layerwise: bool) -> float:
    with torch.no_grad():
        outputs = objective.outputs(objective.vector.values, chunk.inputs)
    values, vectors = torch.linalg.eigh(output_hessians(objective, outputs, chunk.targets))
    largest = float(values.abs().max())
    # A direction flat for every sample (adding a constant to all logits) needs no pass.
    kept = [
        k
        for k in range(values.shape[1])
        if float(values[:, k].abs().max()) > 10 * torch.finfo(values.dtype).eps * largest
    ]
    if not kept:
        return 0.0
    cotangents = [vectors[:, :, k].to(outputs).view_as(outputs) for k in kept]
    norms = squared_norms(objective, chunk.inputs, cotangents, layerwise=layerwise)
    return float((values[:, kept].T * norms).sum()) * chunk.weight / len(chunk.inputs)


def output_hessians(objective: Objective, outputs: Tensor, targets: Tensor) -> Tensor:
    """(N, c, c) ∇²_f ℓ_n in float64, with outputs of any shape counted as c numbers."""

    def loss(flat: Tensor, target: Tensor) -> Tensor:
        return objective.loss(flat.view(1, *outputs.shape[1:]), target[None])

    flat = outputs.flatten(1).double()
    if targets.is_floating_point():
        targets = targets.double()
    hessians: Tensor = vmap(hessian(loss))(flat, targets)
    return hessians
