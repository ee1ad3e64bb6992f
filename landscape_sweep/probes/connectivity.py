"""The loss along the line between two networks (framework, section 4.3 and eq. 4)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from landscape_sweep.probes.measurement import (
    Batches,
    Loss,
    Measurement,
    Progress,
    loss_and_accuracy,
    silent,
)


@dataclass(frozen=True)
class Path(Measurement):
    """Loss and accuracy along θ(α) = (1 − α)θ1 + αθ2.

    Attributes:
        alpha: (points,) from 0 to 1.
        loss: (points,) mean loss.
        accuracy: (points,) 0 to 1.
        mode: ``naive``, or ``reset`` where BatchNorm statistics were re-estimated.
    """

    alpha: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    mode: str

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

    def metrics(self) -> dict[str, float]:
        """``connectivity/<mode>/…``."""
        return {
            f"connectivity/{self.mode}/barrier": self.barrier,
            f"connectivity/{self.mode}/excess": self.excess,
            f"connectivity/{self.mode}/accuracy_drop": self.accuracy_drop,
        }

    def tables(self) -> dict[str, Mapping[str, Sequence[float]]]:
        """``connectivity/paths.csv``: one row a point."""
        columns = {"alpha": self.alpha, "loss": self.loss, "accuracy": self.accuracy}
        return {"connectivity/paths.csv": {k: v.tolist() for k, v in columns.items()}}


def connectivity(
    first: nn.Module,
    second: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    points: int = 15,
    reset: bool = True,
    progress: Progress = silent,
) -> Path:
    """Evaluate the loss on the line between two networks of one architecture.

    Args:
        first: θ1, at α = 0; not changed.
        second: θ2, at α = 1; not changed.
        loss: mean loss of a batch.
        batches: the samples over which L is the mean.
        points: points on the line, both ends among them.
        reset: re-estimate BatchNorm statistics on ``batches`` at every point, ends included;
            otherwise they are interpolated like weights. Interpolated statistics do not
            describe the interpolated network's activations (Jordan et al. 2023).

    Raises:
        ValueError: the networks differ in their parameters' names or shapes.
    """
    start, end = first.state_dict(), second.state_dict()
    if {k: v.shape for k, v in start.items()} != {k: v.shape for k, v in end.items()}:
        raise ValueError("connectivity takes two networks of one architecture")
    between = copy.deepcopy(first).eval()
    axis = np.linspace(0.0, 1.0, points)
    values = np.empty((2, points))
    for i, alpha in enumerate(axis):
        between.load_state_dict(
            {
                name: torch.lerp(start[name], end[name], float(alpha))
                if start[name].is_floating_point()
                else start[name]
                for name in start
            }
        )
        if reset:
            update_bn(batches, between)
        values[:, i] = loss_and_accuracy(between, loss, batches)
        progress(i + 1, points)
    return Path(axis, values[0], values[1], "reset" if reset else "naive")


def has_batch_norm(model: nn.Module) -> bool:
    """Whether ``model`` keeps running statistics that ``reset`` would re-estimate."""
    return any(
        isinstance(module, _BatchNorm) and module.track_running_stats for module in model.modules()
    )
