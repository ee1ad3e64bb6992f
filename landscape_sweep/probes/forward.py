"""A network moved through weight space, and its loss on fixed samples again and again."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from landscape_sweep.probes.inference import Rewritten
from landscape_sweep.probes.measurement import (
    Batches,
    Loss,
    loss_and_accuracy,
    mean_loss_and_accuracy,
)

CHUNK = 32
"""Samples that go through the network together on a CPU: their activations stay in the cache."""

AGREEMENT = 1e-3
"""Outputs of the rewritten network may differ from plain ones by this share of the largest, or it
is not used; they differ by about 1e-6."""


class Forward:
    """The outputs of ``model`` in eval mode, without gradients, for many points of weight space.

    On a CPU the samples go through in chunks, and convolutional networks are ``Rewritten``.

    Args:
        model: in eval mode; its weights may change between calls.
        batches: inputs of each batch.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Tensor]) -> None:
        self.model = model
        self._chunks = [batch.split(CHUNK) if _on_cpu(batch) else (batch,) for batch in batches]
        self._fast = self._rewritten(self._chunks[0][0])
        if self._fast is not None:
            self._chunks = [tuple(_channels_last(x) for x in chunks) for chunks in self._chunks]

    @torch.inference_mode()
    def __call__(self) -> list[Tensor]:
        """Outputs for every batch, (n, classes) each."""
        if self._fast is not None:
            self._fast.refresh()
        model = self._fast or self.model
        return [torch.cat([model(x) for x in chunks]) for chunks in self._chunks]

    @torch.inference_mode()
    def _rewritten(self, images: Tensor) -> Rewritten | None:
        known = images.ndim == 4 and images.dtype == torch.float32 and _on_cpu(images)
        if not known or self.model.training:
            return None
        expected = self.model(images)
        try:
            fast = Rewritten(self.model)
            outputs = fast(_channels_last(images))
        except (ValueError, RuntimeError):  # nothing to rewrite, or an output of another shape
            return None
        close = AGREEMENT * float(expected.abs().max())
        return fast if bool((outputs - expected).abs().max() <= close) else None


class Moved:
    """A copy of a model whose weights are moved to θ + Σ_i c_i d_i.

    Args:
        model: not changed.
        centre: (p,) θ, all parameters in the model's order.
        directions: d_i, (p,) each.
    """

    def __init__(self, model: nn.Module, centre: Tensor, directions: Sequence[Tensor]) -> None:
        self.model = copy.deepcopy(model)
        self.parameters = [p.data for p in self.model.parameters()]
        sizes = [p.numel() for p in self.parameters]

        def split(vector: Tensor) -> list[Tensor]:
            parts = zip(vector.split(sizes), self.parameters, strict=True)
            return [part.view_as(p) for part, p in parts]

        self.centre = split(centre)
        self.directions = [split(d) for d in directions]

    def to(self, *coordinates: float) -> None:
        """Move to ``coordinates``, always from the centre, so that no rounding adds up."""
        torch._foreach_copy_(self.parameters, self.centre)
        for direction, coordinate in zip(self.directions, coordinates, strict=True):
            torch._foreach_add_(self.parameters, direction, alpha=coordinate)


class Evaluator:
    """Loss and accuracy of a model over batches, again and again as its weights move.

    Args:
        model: in eval mode; its weights may change between calls.
        loss: mean loss of a batch.
        batches: the samples over which L is the mean.
        statistics: BatchNorm statistics are re-estimated on these before each evaluation.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, batches: Batches, statistics: Batches | None = None
    ) -> None:
        self.model, self.loss, self.batches = model, loss, batches
        self.statistics = statistics
        self.forward = Forward(model, [inputs for inputs, _ in batches])

    def __call__(self, *, plain: bool = False) -> tuple[float, float]:
        """Loss and accuracy (0 to 1); ``plain`` to the last bit as the model alone gives them."""
        if self.statistics is not None:
            update_bn(self.statistics, self.model)
        if plain or self.statistics is not None:
            return loss_and_accuracy(self.model, self.loss, self.batches)
        targets = [targets for _, targets in self.batches]
        return mean_loss_and_accuracy(zip(self.forward(), targets, strict=True), self.loss)


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
