"""The mean loss of a model over batches, as a function of its flat parameters, chunk by chunk."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from landscape_sweep.curvature.folding import FoldedBatchNorm
from landscape_sweep.curvature.parameters import ParameterFilter, ParameterVector

Loss = Callable[[Tensor, Tensor], Tensor]
"""``loss(outputs, targets)``, the mean over the samples of what it is given."""

Batches = Sequence[tuple[Tensor, Tensor]]
"""Pairs of inputs and targets; samples lie along the first dimension."""


class BatchNormWarning(UserWarning):
    """BatchNorm is in train mode: each batch is normalised by its own statistics."""


@dataclass(frozen=True)
class Chunk:
    """Samples that go through the model together, and their share of all samples."""

    inputs: Tensor
    targets: Tensor
    weight: float


class Objective:
    """L(θ) = Σ_b (n_b / n) loss(model(x_b; θ), y_b): uneven batches count by their samples.

    Args:
        model: left as it is; its parameters and buffers are copied.
        loss: ``loss(outputs, targets)``, a mean over samples, as a scalar.
        batches: at least one pair of inputs and targets.
        parameters: which parameters θ holds; see ``ParameterVector``.

    Attributes:
        vector: the selected parameters.
        samples: n.
        separable: whether the loss of a batch is the mean of its parts' losses, so that batches
            may be cut into chunks; False for BatchNorm in train mode and for losses that
            weight samples by what else is in the batch.

    Raises:
        ValueError: for no batches, empty batches, inputs and targets of different lengths, a
            loss that is not a finite scalar or depends on no selected parameter, and dropout in
            train mode, which makes the loss random.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, batches: Batches, parameters: ParameterFilter = "all"
    ) -> None:
        self.model = model
        self.loss = loss
        self.batches = _checked(batches)
        self.vector = ParameterVector(model, parameters)
        self.samples = sum(len(inputs) for inputs, _ in self.batches)
        _refuse_dropout(model)
        self._check_loss()
        self.separable = not _warn_of_batch_norm(model) and self._is_mean_of_parts()

    def outputs(self, values: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """The model's outputs with ``values`` in place of the selected parameters.

        Attention is written out: torch's fused kernels can't be differentiated twice.
        """
        with sdpa_kernel(SDPBackend.MATH):
            result = functional_call(self.model, self.vector.state(values), (inputs,))
        assert isinstance(result, Tensor)
        return result

    def folded_outputs(self, values: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """``outputs``, cheaper to differentiate twice: BatchNorm is folded into convolutions."""
        with FoldedBatchNorm():
            return self.outputs(values, inputs)

    def of(self, values: Sequence[Tensor], chunk: Chunk) -> Tensor:
        """A chunk's part of L, a scalar: its mean loss times its weight."""
        outputs = self.folded_outputs(values, chunk.inputs)
        return self.loss(outputs, chunk.targets) * chunk.weight

    def chunks(self, size: int | None) -> Iterator[Chunk]:
        """All samples, in chunks of at most ``size``; whole batches where not separable."""
        for inputs, targets in self.batches:
            step = size if size and self.separable else len(inputs)
            for start in range(0, len(inputs), step):
                part = inputs[start : start + step]
                yield Chunk(part, targets[start : start + step], len(part) / self.samples)

    @torch.no_grad()
    def value(self, values: Sequence[Tensor], chunk: int | None = None) -> float:
        """L at ``values``, in chunks of at most ``chunk`` samples; summed in float64."""
        with full_precision():
            return sum(float(self.of(values, c)) for c in self.chunks(chunk))

    def value_and_gradient(
        self, values: Sequence[Tensor], chunk: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """L, a float64 scalar, and ∇L, (p,), at ``values``; chunks as in ``value``."""
        leaves = [v.detach().requires_grad_() for v in values]
        total = torch.zeros((), dtype=torch.float64, device=self.vector.device)
        gradient = torch.zeros(self.vector.size, dtype=self.vector.dtype, device=self.vector.device)
        with full_precision():
            for c in self.chunks(chunk):
                part = self.of(leaves, c)
                slopes = torch.autograd.grad(part, leaves, materialize_grads=True)
                total += part.detach()
                gradient += self.vector.flatten(slopes)
        return total, gradient

    def _check_loss(self) -> None:
        inputs, targets = self.batches[0]
        chunk = Chunk(inputs[:2], targets[:2], 1.0)
        values = [v.clone().requires_grad_() for v in self.vector.values]
        value = self.of(values, chunk)
        if value.ndim:
            raise ValueError(
                f"the loss must be a scalar, the mean over samples, but has shape "
                f"{tuple(value.shape)}"
            )
        if not bool(torch.isfinite(value.detach())):
            raise ValueError(f"the loss is {value.item()}; curvature needs a finite loss")
        depends = value.requires_grad and any(
            g is not None for g in torch.autograd.grad(value, values, allow_unused=True)
        )
        if not depends:
            raise ValueError(
                "the loss depends on none of the selected parameters: "
                f"{', '.join(self.vector.names)}"
            )

    @torch.no_grad()
    def _is_mean_of_parts(self) -> bool:
        """Compare the loss of a few samples with the mean over uneven parts of them."""
        inputs, targets = self.batches[0]
        count = min(len(inputs), 7)
        if count == 1:
            return True
        parts = [(0, count), (0, count // 3 or 1), (count // 3 or 1, count)]
        whole, *losses = (
            float(self.loss(self.outputs(self.vector.values, inputs[a:b]), targets[a:b]))
            for a, b in parts
        )
        mean = sum(x * (b - a) for x, (a, b) in zip(losses, parts[1:], strict=True)) / count
        tolerance = torch.finfo(self.vector.dtype).eps ** 0.5
        return bool(abs(mean - whole) <= tolerance * max(abs(whole), 1e-3))


def _checked(batches: Batches) -> list[tuple[Tensor, Tensor]]:
    checked = list(batches)
    if not checked:
        raise ValueError("batches is empty; curvature needs at least one pair (inputs, targets)")
    for number, pair in enumerate(checked):
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise ValueError(f"batch {number} is no pair; batches is [(inputs, targets), …]")
        inputs, targets = pair
        if len(inputs) != len(targets):
            raise ValueError(f"batch {number} has {len(inputs)} inputs but {len(targets)} targets")
        if not len(inputs):
            raise ValueError(f"batch {number} has no samples")
    return checked


def _refuse_dropout(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, _DropoutNd) and module.training and module.p > 0:
            raise ValueError(
                f"dropout layer {name!r} is in train mode, so the loss is random; call model.eval()"
            )


def _warn_of_batch_norm(model: nn.Module) -> bool:
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)
    ]
    if names:
        warnings.warn(
            f"BatchNorm layer {names[0]!r} is in train mode: each batch is normalised by its own "
            "statistics, so this is the curvature of a loss that couples the samples of a batch "
            "and changes with how they are batched; call model.eval() for the deployed network",
            BatchNormWarning,
            stacklevel=4,
        )
    return bool(names)


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch TF32 off inside products: its 10-bit mantissa would drown small eigenvalues."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
