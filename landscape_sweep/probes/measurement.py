"""What all probes share: their inputs, their result, and the mean loss at any point."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

Batches: TypeAlias = Sequence[tuple[Tensor, Tensor]]
"""(inputs, targets) on the model's device; uneven batches are weighted by their size."""

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""loss(outputs, targets): a scalar, the mean over the batch."""

Progress: TypeAlias = Callable[[int, int], None]
"""progress(done, total), called as a long probe goes on."""


def silent(done: int, total: int) -> None:
    """Report nothing."""


class Measurement(ABC):
    """What a probe found, in the names that MLflow shows."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Single values by metric name."""

    def series(self) -> dict[str, Sequence[float]]:
        """Ranked values by metric name; the first has step 1."""
        return {}

    def tables(self) -> Mapping[str, Mapping[str, Sequence[float | str]]]:
        """Columns by the path of a CSV file."""
        return {}

    def notes(self) -> list[str]:
        """What a reader of the numbers has to know: logged, and kept as a tag of the run."""
        return []


def euclidean_norm(vector: Tensor) -> float:
    """‖v‖, summed in float64."""
    return float(torch.linalg.vector_norm(vector.double()))


def loss_and_accuracy(model: nn.Module, loss: Loss, batches: Batches) -> tuple[float, float]:
    """Mean loss and accuracy (0 to 1) over all samples, in the mode that ``model`` is in.

    Accuracy is NaN where targets are not class indices. Sums are taken in float64.
    """
    return mean_loss_and_accuracy(((model(x), targets) for x, targets in batches), loss)


@torch.no_grad()
def mean_loss_and_accuracy(
    batches: Iterable[tuple[Tensor, Tensor]], loss: Loss
) -> tuple[float, float]:
    """``loss_and_accuracy`` of pairs (outputs, targets); uneven batches count by their size."""
    total, hits, count = 0.0, 0.0, 0
    for outputs, targets in batches:
        total += float(loss(outputs, targets)) * len(targets)
        count += len(targets)
        classes = outputs.ndim == 2 and targets.ndim == 1 and not targets.is_floating_point()
        hits += int((outputs.argmax(1) == targets).sum()) if classes else float("nan")
    return total / count, hits / count
