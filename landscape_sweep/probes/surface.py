"""The loss on a plane through the weights, over random orthonormal directions (section 4.4)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
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
class Surface(Measurement):
    """L(θ + α d1 + β d2) on a square grid.

    Attributes:
        alpha: (points,) distances along d1, in parameter space; the middle one is 0.
        beta: (points,) distances along d2.
        loss: (points, points), indexed by alpha, then beta. NaN and inf are kept.
        accuracy: (points, points), 0 to 1.
    """

    alpha: np.ndarray
    beta: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray

    def metrics(self) -> dict[str, float]:
        """The loss at the centre, and how far the loss rises above it on the square."""
        centre = self.loss[len(self.alpha) // 2, len(self.beta) // 2]
        return {
            "surface/centre": float(centre),
            "surface/mean_rise": float(np.mean(self.loss - centre)),
            "surface/max_rise": float(np.max(self.loss - centre)),
        }

    def tables(self) -> dict[str, Mapping[str, Sequence[float]]]:
        """``surface/surface.csv``: one row a grid point."""
        alpha, beta = np.meshgrid(self.alpha, self.beta, indexing="ij")
        columns = {"alpha": alpha, "beta": beta, "loss": self.loss, "accuracy": self.accuracy}
        return {"surface/surface.csv": {k: v.ravel().tolist() for k, v in columns.items()}}


def surface(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    points: int = 15,
    radius: float = 0.5,
    seed: int = 0,
    progress: Progress = silent,
) -> Surface:
    """Evaluate the loss on a plane through the weights of ``model``.

    Args:
        model: in eval mode; its weights are not changed.
        loss: mean loss of a batch.
        batches: the samples over which L is the mean.
        points: grid points a side, odd, so that the weights themselves are the centre.
        radius: half side of the square, as a multiple of ‖θ‖.
        seed: seed of the two directions.

    Raises:
        ValueError: an even or too small number of points.
    """
    if points < 3 or points % 2 == 0:
        raise ValueError(f"points={points}: takes an odd number ≥ 3")
    moved = copy.deepcopy(model)
    with torch.no_grad():
        theta = parameters_to_vector(moved.parameters())
    first, second = orthonormal_directions(theta, seed)
    reach = radius * float(torch.linalg.vector_norm(theta.double()))
    axis = np.linspace(-reach, reach, points)
    axis[points // 2] = 0.0  # to the last bit, so that the centre is the network itself
    values = np.empty((2, points, points))
    for i, alpha in enumerate(axis):
        for j, beta in enumerate(axis):
            with torch.no_grad():
                at = theta + float(alpha) * first + float(beta) * second
                vector_to_parameters(at, moved.parameters())
            values[:, i, j] = loss_and_accuracy(moved, loss, batches)
            progress(i * points + j + 1, points * points)
    return Surface(axis, axis.copy(), values[0], values[1])


def orthonormal_directions(like: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Two random orthonormal vectors of the shape, dtype and device of ``like``.

    Gaussian vectors, orthogonalised by Gram-Schmidt in float64; drawn on the CPU, so that a seed
    names the same plane on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, like.numel(), generator=generator, dtype=torch.float64)
    first /= torch.linalg.vector_norm(first)
    second -= (first @ second) * first
    second /= torch.linalg.vector_norm(second)
    return first.to(like), second.to(like)


def passes(*, points: int, radius: float) -> float:
    """Forward-and-backward passes over the batches; a forward alone is about a third."""
    return points * points / 3
