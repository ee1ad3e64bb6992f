"""The loss along paths between two networks (framework, section 4.3 and eq. 4).

The framework's own path is the straight line. It meets two obstacles that say nothing about the
landscape: BatchNorm statistics that belong to neither network, and hidden units in another order.
So each can be taken away, and the path can be bent.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from landscape_sweep.probes.alignment import align
from landscape_sweep.probes.bezier import bezier_point, train_bend
from landscape_sweep.probes.measurement import (
    Batches,
    Loss,
    Measurement,
    Progress,
    loss_and_accuracy,
    silent,
)

MODES = ("naive", "reset", "aligned", "aligned_reset", "bezier")
"""``naive``: the straight line, BatchNorm statistics interpolated like weights. ``reset``: these
statistics re-estimated at every point, ends included (Jordan et al. 2023). ``aligned``: the line
to the second network with its hidden units permuted to match the first (``alignment``).
``aligned_reset``: both. ``bezier``: a trained curve (``bezier``), statistics re-estimated."""


@dataclass(frozen=True)
class Along:
    """Loss and accuracy along a path, on one set of images.

    Attributes:
        alpha: (points,) from 0 to 1.
        loss: (points,) mean loss.
        accuracy: (points,) 0 to 1.
    """

    alpha: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray

    @property
    def barrier(self) -> float:
        """max L(α) − min(L(θ1), L(θ2)), eq. 4: counts a difference between the ends too."""
        return float(np.max(self.loss) - min(self.loss[0], self.loss[-1]))

    @property
    def excess(self) -> float:
        """max [L(α) − (1 − α)L(θ1) − αL(θ2)]: the rise above the line between the ends."""
        line = (1 - self.alpha) * self.loss[0] + self.alpha * self.loss[-1]
        return float(np.max(self.loss - line))

    @property
    def accuracy_drop(self) -> float:
        """Mean accuracy of the ends less the lowest accuracy on the way."""
        return float((self.accuracy[0] + self.accuracy[-1]) / 2 - np.min(self.accuracy))


@dataclass(frozen=True)
class Connectivity(Measurement):
    """What lies between two networks.

    Attributes:
        train: by mode, on the images that the probes see.
        test: by mode, on images that were not trained on; empty where none were given.
    """

    train: Mapping[str, Along]
    test: Mapping[str, Along]

    def metrics(self) -> dict[str, float]:
        """``connectivity/<mode>/barrier`` and so on, ``…/test_barrier`` on test images."""
        return {
            f"connectivity/{mode}/{prefix}{measure}": getattr(along, measure)
            for prefix, paths in (("", self.train), ("test_", self.test))
            for mode, along in paths.items()
            for measure in MEASURES
        }

    def paths(self) -> dict[str, dict[str, list[float]]]:
        """By mode, ``alpha, loss, accuracy`` and the same on test images: one value a point."""
        paths = {}
        for mode, along in self.train.items():
            columns = {"alpha": along.alpha, "loss": along.loss, "accuracy": along.accuracy}
            if mode in self.test:
                columns["test_loss"] = self.test[mode].loss
                columns["test_accuracy"] = self.test[mode].accuracy
            paths[mode] = {name: values.tolist() for name, values in columns.items()}
        return paths

    @classmethod
    def from_paths(cls, paths: Mapping[str, Mapping[str, Sequence[float]]]) -> Connectivity:
        """What ``paths`` told."""

        def along(prefix: str) -> dict[str, Along]:
            return {
                mode: Along(*(np.asarray(p[k], float) for k in ("alpha", *columns)))
                for mode, p in paths.items()
                if set(columns := (f"{prefix}loss", f"{prefix}accuracy")) <= set(p)
            }

        return cls(train=along(""), test=along("test_"))

    def tables(self) -> dict[str, Mapping[str, Sequence[float]]]:
        """``connectivity/<mode>.csv``: one row a point."""
        return {f"connectivity/{mode}.csv": path for mode, path in self.paths().items()}


MEASURES = ("barrier", "excess", "accuracy_drop")
"""What is told of each path."""


def connectivity(
    first: nn.Module,
    second: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    modes: Sequence[str] = ("naive", "reset"),
    points: int = 15,
    test: Batches = (),
    bezier_batches: Iterable[tuple[Tensor, Tensor]] | None = None,
    bezier_steps: int = 100,
    bezier_lr: float = 0.03,
    seed: int = 0,
    progress: Progress = silent,
) -> Connectivity:
    """Evaluate the loss on paths between two networks of one architecture.

    Args:
        first: θ1, at α = 0; not changed.
        second: θ2, at α = 1; not changed.
        loss: mean loss of a batch.
        batches: the samples over which L is the mean, and on which BatchNorm statistics are
            re-estimated.
        modes: which of ``MODES``; ``reset`` and ``aligned_reset`` are left out where the networks
            keep no BatchNorm statistics.
        points: points on a path, both ends among them.
        test: more samples over which the loss is measured, apart.
        bezier_batches: what the Bézier curve is trained on; ``batches`` where none are given.
        bezier_steps: steps of its training.
        bezier_lr: learning rate of its training.
        seed: seed of the orders in which units are matched, and of the curve's training.
        progress: counts points and training steps.

    Raises:
        ValueError: the networks differ in their parameters' names or shapes; an unknown mode; or
            units to be aligned in a network whose structure ``alignment`` does not know.
    """
    _check_alike(first, second)
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise ValueError(f"modes={','.join(unknown)}: takes some of {', '.join(MODES)}")
    if not has_batch_norm(first):
        modes = [mode for mode in modes if not mode.endswith("reset")]
    done, total = 0, len(modes) * points + ("bezier" in modes) * bezier_steps

    def tick(*_: int) -> None:
        nonlocal done
        done += 1
        progress(done, total)

    start, end = first.state_dict(), second.state_dict()
    line, paths = _line(start, end), {}
    if any(mode.startswith("aligned") for mode in modes):
        straightened = _line(start, align(first, second, seed=seed).state_dict())
    for mode in modes:
        paths[mode] = straightened if mode.startswith("aligned") else line
    if "bezier" in modes:
        bend = train_bend(
            *(first, second, loss, batches if bezier_batches is None else bezier_batches),
            steps=bezier_steps,
            lr=bezier_lr,
            seed=seed,
            progress=tick,
        )
        paths["bezier"] = _curve(start, bend.state_dict(), end)

    between = copy.deepcopy(first).eval()
    axis = np.linspace(0.0, 1.0, points)
    found: dict[str, list[Along]] = {}
    for mode, path in paths.items():
        values = np.empty((2, 2, points))  # images, then loss and accuracy
        for i, alpha in enumerate(axis):
            between.load_state_dict(path(float(alpha)))
            if mode not in ("naive", "aligned"):
                update_bn(batches, between)
            values[0, :, i] = loss_and_accuracy(between, loss, batches)
            if test:
                values[1, :, i] = loss_and_accuracy(between, loss, test)
            tick()
        found[mode] = [Along(axis, *of_images) for of_images in values]
    return Connectivity(
        train={mode: along[0] for mode, along in found.items()},
        test={mode: along[1] for mode, along in found.items()} if test else {},
    )


State: TypeAlias = Mapping[str, Tensor]


def _line(start: State, end: State) -> Callable[[float], State]:
    """θ(α) = (1 − α)θ1 + αθ2; BatchNorm's counter, an integer, stays."""
    return lambda alpha: {
        name: torch.lerp(a, end[name], alpha) if a.is_floating_point() else a
        for name, a in start.items()
    }


def _curve(start: State, bend: State, end: State) -> Callable[[float], State]:
    """The Bézier curve, in place of the line."""
    return lambda t: {
        name: bezier_point(a, bend[name], end[name], t) if a.is_floating_point() else a
        for name, a in start.items()
    }


def _check_alike(first: nn.Module, second: nn.Module) -> None:
    """Raise ``ValueError`` that names the first parameter in which the networks differ."""
    shapes = [
        {name: tuple(t.shape) for name, t in network.state_dict().items()}
        for network in (first, second)
    ]
    for name in shapes[0] | shapes[1]:
        a, b = (of.get(name, "missing") for of in shapes)
        if a != b:
            raise ValueError(
                f"connectivity takes two networks of one architecture: {name} is {a} in the first "
                f"and {b} in the second"
            )


def has_batch_norm(model: nn.Module) -> bool:
    """Whether ``model`` keeps running statistics that ``reset`` would re-estimate."""
    return any(
        isinstance(module, _BatchNorm) and module.track_running_stats for module in model.modules()
    )
