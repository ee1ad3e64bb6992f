"""The Gram matrix of a network's Jacobian, and the loss's curvature in the outputs, in float64.

With J_i = ∂f(x_i)/∂θ, (c, p), and S_i = ∇²_f ℓ_i, (c, c), the Gauss-Newton part of the Hessian is
G = (1/n) Σ_i J_iᵀ S_i J_i, (p, p). Its nonzero eigenvalues are those of an (nc, nc) matrix made of
K = JJᵀ and the S_i, which is exact and small where p is not.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from landscape_sweep.curvature.exact_trace import output_hessians
from landscape_sweep.curvature.memory import free_bytes
from landscape_sweep.curvature.objective import Objective, full_precision
from landscape_sweep.probes.measurement import Batches, Loss, Progress, silent


@dataclass(frozen=True)
class OutputGeometry:
    """What n samples tell of the Gauss-Newton matrix; all float64.

    Attributes:
        gram: (n, c, n, c) K = JJᵀ.
        strengths: (n, c) eigenvalues s_ik ≥ 0 of S_i, ascending; 0 where they may be rounding.
        directions: (n, c, c) eigenvectors of S_i, one a column.
        curved: (c, r) orthonormal basis of the outputs' directions in which the loss is curved.
        parameters: p.
    """

    gram: Tensor
    strengths: Tensor
    directions: Tensor
    curved: Tensor
    parameters: int

    @property
    def samples(self) -> int:
        """n."""
        return self.gram.shape[0]

    @property
    def outputs(self) -> int:
        """c, numbers in one sample's output."""
        return self.gram.shape[1]

    def jacobian_gram(self) -> Tensor:
        """(nc, nc) JJᵀ: the Gauss-Newton Gram of a squared loss, up to its constant."""
        return self.gram.flatten(2).flatten(0, 1)

    def curved_gram(self) -> Tensor:
        """(nr, nr) Gram of the rows of J_i in the curved directions: of the rank of G."""
        rows = torch.einsum("ak,iajb,bl->ikjl", self.curved, self.gram, self.curved)
        return rows.flatten(2).flatten(0, 1)

    def gauss_newton_gram(self) -> Tensor:
        """(m, m) Gram of the rows √(s_ik/n) u_ikᵀJ_i: its eigenvalues are the nonzero ones of G."""
        rows = torch.einsum("iak,iajb,jbl->ikjl", self.directions, self.gram, self.directions)
        positive = (self.strengths > 0).flatten()
        root = (self.strengths.flatten()[positive] / self.samples).sqrt()
        return root[:, None] * rows.flatten(2).flatten(0, 1)[positive][:, positive] * root


def first_samples(batches: Batches, samples: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of the first samples of ``batches``.

    Raises:
        ValueError: there are fewer.
    """
    inputs = torch.cat([x for x, _ in batches])
    targets = torch.cat([y for _, y in batches])
    if not 1 <= samples <= len(inputs):
        raise ValueError(f"samples={samples}: takes 1 to {len(inputs)}, the samples of the batches")
    return inputs[:samples], targets[:samples]


def output_geometry(
    model: nn.Module, loss: Loss, batches: Batches, samples: int, progress: Progress = silent
) -> OutputGeometry:
    """K and the S_i of the first samples, by reverse mode; J is held only in parts that fit.

    Args:
        model: in eval mode; copied to float64.
        loss: mean loss of a batch, convex in the outputs.
        batches: the samples.
        samples: n, taken from the start.
        progress: called as parts of K are done.

    Raises:
        ValueError: too few samples, samples that interact (BatchNorm in train mode), or a loss
            that is not convex in the outputs.
    """
    inputs, targets = first_samples(batches, samples)
    targets = targets.double() if targets.is_floating_point() else targets
    objective = Objective(copy.deepcopy(model).double(), loss, [(inputs.double(), targets)])
    if not objective.separable:
        raise ValueError("a sample's Jacobian needs a loss that is the mean of its samples' losses")
    with full_precision():
        with torch.no_grad():
            outputs = objective.outputs(objective.vector.values, inputs.double())
        strengths, directions = _output_curvature(objective, outputs, targets)
        curved = _curved_directions(objective, outputs, targets)
        gram = _jacobian_gram(objective, inputs.double(), outputs[0].numel(), progress)
    return OutputGeometry(gram, strengths, directions, curved, objective.vector.size)


def _output_curvature(
    objective: Objective, outputs: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Eigenvalues, (n, c), and eigenvectors, (n, c, c), of S_i."""
    values, vectors = torch.linalg.eigh(output_hessians(objective, outputs, targets))
    # A softmax's entries, such as p − p², are differences of numbers up to 1: so much is rounding.
    scale = max(1.0, float(values.abs().max()))
    rounding = 10 * values.shape[1] * torch.finfo(values.dtype).eps * scale
    if bool((values < -rounding).any()):
        raise ValueError("the loss is not convex in the outputs, so it has no Gauss-Newton Gram")
    return torch.where(values > rounding, values, 0.0), vectors


def _curved_directions(objective: Objective, outputs: Tensor, targets: Tensor) -> Tensor:
    """(c, r) basis of the range of S_i, taken at outputs of zero.

    The range is the same at all outputs: for softmax cross-entropy what is orthogonal to adding a
    constant, for a squared loss everything. At zero no probability is small, so it can be read off,
    where a confident softmax's own S_i has lost it to rounding.
    """
    mean = output_hessians(objective, torch.zeros_like(outputs), targets).mean(0)
    values, vectors = torch.linalg.eigh(mean)
    curved: Tensor = vectors[:, values > 1e-8 * values.max()]
    return curved


def _jacobian_gram(
    objective: Objective, inputs: Tensor, outputs: int, progress: Progress
) -> Tensor:
    """(n, c, n, c) JJᵀ, from pairs of blocks of rows."""

    def of_one(values: tuple[Tensor, ...], sample: Tensor) -> Tensor:
        return objective.outputs(values, sample[None]).flatten()

    def rows(samples: Tensor) -> Tensor:
        """(b, c, p) J_i of some samples."""
        parts = vmap(jacrev(of_one), (None, 0))(objective.vector.values, samples)
        return torch.cat([part.flatten(2) for part in parts], 2).detach()

    row_bytes = outputs * objective.vector.size * inputs.element_size()
    block = max(int(free_bytes(inputs.device) // 8 // row_bytes), 1)  # two blocks, and their making
    blocks = inputs.split(block)
    spans = [
        slice(k, k + len(b)) for k, b in zip(range(0, len(inputs), block), blocks, strict=True)
    ]
    gram = inputs.new_zeros(len(inputs), outputs, len(inputs), outputs)
    done, pairs = 0, len(blocks) * (len(blocks) + 1) // 2
    for i, first in enumerate(blocks):
        left = rows(first)
        for j, second in enumerate(blocks[: i + 1]):
            right = left if i == j else rows(second)
            product = torch.einsum("iap,jbp->iajb", left, right)
            gram[spans[i], :, spans[j]] = product
            gram[spans[j], :, spans[i]] = product.permute(2, 3, 0, 1)
            done += 1
            progress(done, pairs)
    return gram
