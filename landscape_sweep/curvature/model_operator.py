"""What the Hessian and the Gauss-Newton matrix share: chunks, the cache, the loss's gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from landscape_sweep.curvature.memory import chunk_size, free_bytes, graph_bytes
from landscape_sweep.curvature.objective import Batches, Chunk, Loss, Objective, full_precision
from landscape_sweep.curvature.operators import check_vector
from landscape_sweep.curvature.parameters import ParameterFilter

Product = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]
"""One chunk's product with a vector, both split by parameter."""


class ModelOperator(ABC):
    """A curvature matrix of a model's mean loss, (p, p), known by its products.

    Everything that doesn't depend on the vector is computed once for each chunk of samples and
    kept for the next product, for as many chunks as ``memory_budget`` holds; the others are
    computed again each time. Peak memory is the budget, plus one chunk, plus a few vectors.

    Args:
        model: left as it is. Its parameters and buffers are copied, so training may go on.
        loss: ``loss(outputs, targets)``, the mean over samples as a scalar.
        batches: pairs of inputs and targets; each counts by its number of samples.
        parameters: ``"all"``, ``"matrices"``, the name of a layer or parameter, or a predicate
            of a parameter's name and tensor.
        memory_budget: bytes to keep between products; a quarter of what is free unless given.
            0 keeps nothing.
        chunk: samples that go through the model together; chosen from the bytes that one sample
            needs and the size of the processor's cache unless given.

    Attributes:
        size: p.
        dtype: of the parameters, and of the vectors.
        device: of the parameters, and of the vectors.
        samples: n, over all batches.
        chunk: samples that go through the model together; None where whole batches do.
        bytes_per_sample: what one sample keeps.
        products: how many products were made so far.

    Raises:
        ValueError: as ``Objective`` does, and for a negative budget or a chunk below 1.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batches: Batches,
        *,
        parameters: ParameterFilter = "all",
        memory_budget: int | None = None,
        chunk: int | None = None,
    ) -> None:
        if memory_budget is not None and memory_budget < 0:
            raise ValueError(f"memory_budget={memory_budget}: bytes, 0 or more")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk={chunk}: samples, 1 or more")
        self.objective = Objective(model, loss, batches, parameters)
        vector = self.objective.vector
        self.size, self.dtype, self.device = vector.size, vector.dtype, vector.device
        self.samples = self.objective.samples
        self.memory_budget = (
            free_bytes(self.device) // 4 if memory_budget is None else memory_budget
        )
        self.bytes_per_sample = self._measure_sample()
        self.chunk: int | None = None
        if self.objective.separable:
            self.chunk = chunk or chunk_size(self.bytes_per_sample, self.device, self.memory_budget)
        self.products = 0
        self._kept: dict[int, Product] = {}

    def matvec(self, vector: Tensor) -> Tensor:
        """The product with one vector, (p,) to (p,)."""
        check_vector(self, vector)
        self.products += 1
        with full_precision():
            return self._matvec(vector)

    def gradient(self) -> Tensor:
        """∇L(θ), (p,)."""
        return self._gradient_at(self.objective.vector.values)

    def loss(self) -> float:
        """L(θ), the mean over all samples."""
        return self.objective.value(self.objective.vector.values, self.chunk)

    @abstractmethod
    def _chunk_product(self, chunk: Chunk) -> Product:
        """One chunk's part of the matrix, as a function of the vector."""

    def _matvec(self, vector: Tensor) -> Tensor:
        parts = self.objective.vector.split(vector)
        result = torch.zeros_like(vector)
        totals = self.objective.vector.split(result)  # views
        kept_bytes = 0
        for number, chunk in enumerate(self.objective.chunks(self.chunk)):
            product = self._kept.get(number)
            kept_bytes += self.bytes_per_sample * len(chunk.inputs)
            if product is None:
                product = self._chunk_product(chunk)
                if kept_bytes <= self.memory_budget:
                    self._kept[number] = product
            for total, part in zip(totals, product(parts), strict=True):
                total += part
            del product, part  # or two chunks would be held while the next one is built
        return result

    def _gradient_at(self, values: tuple[Tensor, ...]) -> Tensor:
        return self.objective.value_and_gradient(values, self.chunk)[1]

    def _measure_sample(self) -> int:
        """Bytes that one more sample keeps; the parameters, kept once, don't count."""
        inputs, targets = self.objective.batches[0]
        if len(inputs) < 2:
            return self._measured_bytes(Chunk(inputs, targets, 1.0))
        half = min(len(inputs) // 2, 2)
        few = Chunk(inputs[:half], targets[:half], 1.0)
        twice = Chunk(inputs[: 2 * half], targets[: 2 * half], 1.0)
        return max(self._measured_bytes(twice) - self._measured_bytes(few), 0) // half

    def _measured_bytes(self, chunk: Chunk) -> int:
        with full_precision():
            return graph_bytes(lambda: self._chunk_product(chunk))
