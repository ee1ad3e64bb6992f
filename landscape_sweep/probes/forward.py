"""A network's outputs on fixed inputs, again and again while its weights change."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

CHUNK = 32
"""Samples that go through the network together on a CPU: their activations stay in the cache."""

AGREEMENT = 1e-3
"""Outputs in blocked layout may differ from plain ones by this share of the largest, or are not
used; where every layer supports the layout they differ by about 1e-7."""


class Forward:
    """The outputs of ``model`` in eval mode, without gradients, as fast as this device gives them.

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


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _plain(outputs: Tensor) -> Tensor:
    return outputs.to_dense() if outputs.is_mkldnn else outputs
