"""Planes of the loss by us and by other libraries, for the part ``plane`` of ``curvature.py``.

Peers call a function of the user's at every point: it gets the same images and sums the same mean
loss. Ours is laid through landscaper's directions, so that the two can be compared point by point;
loss-landscapes' plane is another one, skewed: every other line is shifted by a step.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import io
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from landscape_sweep.probes import surface
from landscape_sweep.probes.planes import Plane, weights

Batches = list[tuple[Tensor, Tensor]]
REACH = 0.5
"""Half side of landscaper's square, as a share of the length of all weights."""


@torch.no_grad()
def mean_loss(model: Callable[[Tensor], Tensor], batches: Batches) -> float:
    total = sum(float(cross_entropy(model(x), y)) * len(y) for x, y in batches)
    return total / sum(len(y) for _, y in batches)


def directions(model: nn.Module) -> list[list[Tensor]]:
    """Two Gaussian directions whose layers have length √size, as landscaper makes any."""
    generator = torch.Generator().manual_seed(0)
    drawn = [[torch.randn(p.shape, generator=generator) for p in model.parameters()] for _ in "12"]
    return [[part * part.numel() ** 0.5 / part.norm() for part in parts] for parts in drawn]


def ours(model: nn.Module, batches: Batches, points: int) -> np.ndarray:
    flat = [torch.cat([part.reshape(-1) for part in parts]) for parts in directions(model)]
    first, second = (d / d.norm() for d in flat)
    theta = weights(model)
    plane = Plane(theta, first, second, ("1", "2"), unit=float(theta.norm()))
    radius = REACH * (points - 1) / points  # landscaper divides by half the points
    return surface(
        model, cross_entropy, batches, points=points, radius=radius, directions=plane
    ).loss


def loss_landscapes(model: nn.Module, batches: Batches, points: int) -> np.ndarray:
    import loss_landscapes as peer
    from loss_landscapes.metrics.metric import Metric

    class MeanLoss(Metric):  # type: ignore[misc]
        """What their own ``Loss`` computes, over more than one batch and without a graph."""

        def __call__(self, wrapper: Any) -> float:
            return mean_loss(wrapper.forward, batches)

    return np.asarray(
        peer.random_plane(
            model, MeanLoss(), distance=1, steps=points, normalization="filter", deepcopy_model=True
        )
    )


@functools.cache
def _landscaper() -> Any:
    """landscaper's ``compute`` alone: its package imports nglpy, whose pins ask for NumPy 1."""
    found = importlib.util.find_spec("landscaper")
    assert found is not None
    assert found.submodule_search_locations is not None
    package = types.ModuleType("landscaper")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["landscaper"] = package
    return importlib.import_module("landscaper.compute")


def landscaper(model: nn.Module, batches: Batches, points: int) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        loss, _ = _landscaper().compute_loss_landscape(
            model, batches, directions(model), mean_loss,
            steps=points, distance=REACH, dim=2, device="cpu",
        )  # fmt: skip
    return np.asarray(loss)


PEERS = {"loss-landscapes": loss_landscapes, "landscaper": landscaper}


def settings(x: Tensor, y: Tensor) -> dict[str, Batches]:
    """Ways to hand the same images to a peer."""
    found = {}
    for layout, images in {
        "": x.contiguous(),
        ", channels_last": x.contiguous(memory_format=torch.channels_last),
    }.items():
        for size in (len(x), 32):
            label = "one batch" if size == len(x) else f"batches of {size}"
            found[label + layout] = list(zip(images.split(size), y.split(size), strict=True))
    return found


def disagreement(model: nn.Module, batches: Batches, points: int = 3) -> float:
    """Largest relative difference of our plane from landscaper's, but for the noise it adds."""
    a, b = ours(model, batches, points), landscaper(model, batches, points)
    kept = a < a.max()
    return float(np.max(np.abs(a - b)[kept] / b[kept]))
