"""Proposition 2: how many directions are curved, counted exactly (eq. 12 says at most n + c)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape_sweep.curvature import HessianOperator
from landscape_sweep.probes.measurement import Batches, Loss, Measurement, Progress, silent
from landscape_sweep.probes.output_geometry import first_samples, output_geometry

DENSE_LIMIT = 5000
"""Parameters up to which the full Hessian is formed and decomposed."""

CERTAIN_GAP = 1e3
"""From here on a gap in the spectrum is taken to separate what is there from rounding."""


@dataclass(frozen=True)
class NumericalRank:
    """A count of nonzero eigenvalues, and what it is worth.

    Attributes:
        rank: eigenvalues above the rounding level: a lower bound of the rank in any case.
        gap: the smallest counted one over the largest of the others (at least ε of the top): far
            above 1, nothing lies in between and the rank is certain.
    """

    rank: int
    gap: float

    @property
    def certain(self) -> bool:
        """Whether the gap separates the counted eigenvalues from rounding."""
        return self.gap >= CERTAIN_GAP


@dataclass(frozen=True)
class Rank(Measurement):
    """Ranks of curvature matrices over n samples of c outputs.

    Attributes:
        samples: n.
        classes: c.
        ggn: of G = (1/n) Σ J_iᵀ S_i J_i; with softmax cross-entropy at most n(c − 1).
        ggn_mse: of JᵀJ, the Gauss-Newton matrix of a squared loss; at most nc.
        hessian: of the full Hessian, or None above ``DENSE_LIMIT`` parameters.
        effective: ‖G‖_*² / ‖G‖_F² = (Σλ)² / Σλ².
        outliers: eigenvalues of G above a thousandth of the largest.
    """

    samples: int
    classes: int
    ggn: NumericalRank
    ggn_mse: NumericalRank
    hessian: NumericalRank | None
    effective: float
    outliers: int

    def _ranks(self) -> dict[str, NumericalRank]:
        every = {"ggn": self.ggn, "ggn_mse": self.ggn_mse, "hessian": self.hessian}
        return {name: found for name, found in every.items() if found is not None}

    def metrics(self) -> dict[str, float]:
        """``rank/…``; each ``rank/X`` with its ``rank/X_gap``."""
        found: dict[str, float] = {
            "rank/samples": self.samples,
            "rank/classes": self.classes,
            "rank/effective": self.effective,
            "rank/outliers": self.outliers,
        }
        for name, counted in self._ranks().items():
            found |= {f"rank/{name}": counted.rank, f"rank/{name}_gap": counted.gap}
        return found

    def notes(self) -> list[str]:
        """Ranks that are lower bounds only."""
        return [
            f"rank/{name} = {counted.rank} is a lower bound: the spectrum falls to rounding "
            f"without a gap (ratio {counted.gap:.1f})"
            for name, counted in self._ranks().items()
            if not counted.certain
        ]


def rank(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    samples: int = 32,
    progress: Progress = silent,
) -> Rank:
    """Ranks of the Gauss-Newton matrix and of the Hessian, in float64.

    The Gauss-Newton ranks are those of Gram matrices of Jacobian rows, each row brought to length
    1 first. Neither that nor leaving out the sizes of S_i's eigenvalues changes the exact rank, but
    a confident softmax makes them so unequal that small ones would drown in rounding: how many
    directions are curved noticeably, ``effective`` and ``outliers`` tell.

    Args:
        model: in eval mode; its weights are not changed.
        loss: mean loss of a batch, convex in the outputs.
        batches: the samples.
        samples: n, taken from the start of ``batches``; work grows as (nc)²p.

    Raises:
        ValueError: as ``output_geometry``.
    """
    found = output_geometry(model, loss, batches, samples, progress)
    eigenvalues = torch.linalg.eigvalsh(found.gauss_newton_gram()).clamp(min=0)
    total, top = float(eigenvalues.sum()), float(eigenvalues.max()) if len(eigenvalues) else 0.0
    squares = float(eigenvalues.square().sum())
    return Rank(
        samples=found.samples,
        classes=found.outputs,
        ggn=_rank_of_gram(found.curved_gram(), found.parameters),
        ggn_mse=_rank_of_gram(found.jacobian_gram(), found.parameters),
        hessian=_hessian_rank(model, loss, batches, samples),
        effective=total**2 / squares if squares else 0.0,
        outliers=int((eigenvalues > 1e-3 * top).sum()),
    )


def numerical_rank(eigenvalues: Tensor, size: int) -> NumericalRank:
    """How many eigenvalues stand above the rounding level size · ε · |λ|max, by magnitude.

    Args:
        eigenvalues: (m,) of a symmetric matrix, float64.
        size: the largest dimension that went into the matrix, as in NumPy's ``matrix_rank``.
    """
    magnitude = eigenvalues.abs().sort(descending=True).values
    if not len(magnitude) or not float(magnitude[0]):
        return NumericalRank(0, math.inf)
    epsilon = torch.finfo(magnitude.dtype).eps * magnitude[0]
    count = int((magnitude > size * epsilon).sum())
    below = torch.maximum(magnitude[count], epsilon) if count < len(magnitude) else epsilon
    return NumericalRank(count, float(magnitude[count - 1] / below))


def _rank_of_gram(gram: Tensor, parameters: int) -> NumericalRank:
    length = gram.diagonal().clamp(min=0).sqrt()
    there = length > 0
    unit = gram[there][:, there] / torch.outer(length[there], length[there])
    return numerical_rank(torch.linalg.eigvalsh(unit), max(len(gram), parameters))


def _hessian_rank(
    model: nn.Module, loss: Loss, batches: Batches, samples: int
) -> NumericalRank | None:
    if sum(p.numel() for p in model.parameters() if p.requires_grad) > DENSE_LIMIT:
        return None
    inputs, targets = first_samples(batches, samples)
    targets = targets.double() if targets.is_floating_point() else targets
    operator = HessianOperator(
        copy.deepcopy(model).double(), loss, [(inputs.double(), targets)], chunk=samples
    )
    rows = [operator.matvec(unit) for unit in torch.eye(operator.size).to(inputs.device).double()]
    dense = torch.stack(rows)
    return numerical_rank(torch.linalg.eigvalsh((dense + dense.T) / 2), operator.size)


def passes(*, samples: int, images: int, classes: int) -> float:
    """Forward-and-backward passes over all ``images`` that the probes see.

    A backward pass a class and sample, in float64; the dense Hessian of small networks and the
    product of Jacobians, which depends on the machine, are not counted.
    """
    return 2 * classes * samples / images
