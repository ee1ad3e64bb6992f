"""What every algorithm of this room needs of a matrix: its size, and its products."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class LinearOperator(Protocol):
    """A symmetric (p, p) matrix known only by its products with vectors."""

    @property
    def size(self) -> int:
        """p, the number of rows and columns."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the vectors that ``matvec`` takes and returns."""
        ...

    @property
    def device(self) -> torch.device:
        """Where those vectors live."""
        ...

    def matvec(self, vector: Tensor) -> Tensor:
        """The product with one vector, (p,) to (p,)."""
        ...


def check_vector(operator: LinearOperator, vector: Tensor, name: str = "vector") -> Tensor:
    """``vector`` itself where it fits ``operator``.

    Raises:
        ValueError: where it has another shape, dtype or device.
    """
    if vector.shape != (operator.size,):
        raise ValueError(
            f"{name} has shape {tuple(vector.shape)}, but the operator takes ({operator.size},)"
        )
    if vector.dtype != operator.dtype:
        raise ValueError(f"{name} is {vector.dtype}, but the operator takes {operator.dtype}")
    if vector.device != operator.device:
        raise ValueError(f"{name} is on {vector.device}, but the operator is on {operator.device}")
    return vector


def without(vector: Tensor, rows: Tensor) -> Tensor:
    """(I − RᵀR) v, (p,): ``vector`` less its part in the span of orthonormal ``rows``, (k, p)."""
    return vector - (rows @ vector) @ rows


def random_vector(operator: LinearOperator, generator: torch.Generator) -> Tensor:
    """Gaussian entries, (p,), drawn on the CPU so that every device gets the same vector."""
    vector = torch.randn(operator.size, generator=generator, dtype=torch.float64)
    return vector.to(device=operator.device, dtype=operator.dtype)
