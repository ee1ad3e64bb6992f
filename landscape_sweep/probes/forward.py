"""A network moved through weight space, and its loss on fixed samples again and again."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from landscape_sweep.probes.measurement import (
    Batches,
    Loss,
    loss_and_accuracy,
    mean_loss_and_accuracy,
)

CHUNK = 32
"""Samples that go through the network together on a CPU: their activations stay in the cache."""

AGREEMENT = 1e-3
"""Outputs in blocked layout may differ from plain ones by this share of the largest, or are not
used; where every layer supports the layout they differ by about 1e-7."""


class Forward:
    """The outputs of ``model`` in eval mode, without gradients, for many points of weight space.

    On a CPU the samples go through in chunks, and images in oneDNN's blocked layout: plain torch
    reorders them into it before every convolution and back after it. Where a layer of the model
    doesn't take that layout, or gives something else in it, images stay as they are.

    Args:
        model: in eval mode; its weights may change between calls.
        batches: inputs of each batch.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Tensor]) -> None:
        self.model = model
        self._chunks = [batch.split(CHUNK) if _on_cpu(batch) else (batch,) for batch in batches]
        if self._takes_blocked(self._chunks[0][0]):
            self._chunks = [tuple(x.to_mkldnn() for x in chunks) for chunks in self._chunks]

    @torch.inference_mode()
    def __call__(self, number: int) -> Tensor:
        """Outputs for batch ``number``, (n, classes)."""
        return torch.cat([_plain(self.model(x)) for x in self._chunks[number]])

    @torch.inference_mode()
    def _takes_blocked(self, images: Tensor) -> bool:
        known = images.ndim == 4 and images.dtype == torch.float32 and _on_cpu(images)
        if not known or self.model.training or not torch.backends.mkldnn.is_available():
            return False
        expected = self.model(images)
        try:
            outputs = _plain(self.model(images.to_mkldnn()))
        except (RuntimeError, TypeError, ValueError):  # an operation without that layout
            return False
        close = AGREEMENT * float(expected.abs().max())
        return outputs.shape == expected.shape and bool((outputs - expected).abs().max() <= close)


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
        outputs = ((self.forward(i), targets) for i, (_, targets) in enumerate(self.batches))
        return mean_loss_and_accuracy(outputs, self.loss)


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _plain(outputs: Tensor) -> Tensor:
    return outputs.to_dense() if outputs.is_mkldnn else outputs
