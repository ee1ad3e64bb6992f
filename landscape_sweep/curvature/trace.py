"""The trace of a curvature matrix: exact where a formula holds, else estimated with its error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from landscape_sweep.curvature.exact_trace import exact_gauss_newton_trace
from landscape_sweep.curvature.gauss_newton import GaussNewtonOperator
from landscape_sweep.curvature.hessian import HessianOperator
from landscape_sweep.curvature.lanczos import LanczosDecomposition, Progress
from landscape_sweep.curvature.operators import LinearOperator, without
from landscape_sweep.curvature.piecewise import obstacle

_FEWEST_PROBES = 10  # below this a standard error is too uncertain to stop by


@dataclass(frozen=True)
class TraceEstimate:
    """tr A with its uncertainty.

    Attributes:
        value: the trace.
        standard_error: of ``value``; 0.0 where exact.
        method: ``"exact"`` or ``"hutchinson"``.
        products: products spent.
        reached: whether the standard error asked for was reached within the products allowed.
        reason: why it is not exact, or None.
    """

    value: float
    standard_error: float
    method: Literal["exact", "hutchinson"]
    products: int
    reached: bool
    reason: str | None = None


def hessian_trace(
    operator: LinearOperator,
    *,
    relative_error: float = 0.05,
    absolute_error: float = 0.0,
    max_products: int = 1000,
    seed: int = 0,
    decomposition: LanczosDecomposition | None = None,
    progress: Progress | None = None,
) -> TraceEstimate:
    """tr A, exact for models that are piecewise linear in each parameter tensor.

    For those (ReLU networks with BatchNorm in eval mode, and the like; found out by running the
    model, see ``piecewise``) and for every Gauss-Newton matrix the exact formula is used. For
    anything else, Hutchinson's estimator to the standard error asked for.

    Args:
        operator: a ``HessianOperator``, a ``GaussNewtonOperator``, or any symmetric operator.
        relative_error: standard error to stop at, as a share of the estimate's magnitude.
        absolute_error: standard error to stop at; the looser of the two counts.
        max_products: probes at most.
        seed: of the probes.
        decomposition: of the same operator: its subspace's part is then taken exactly, which
            leaves the probes only the rest, and costs no product.
        progress: called with the products done and the relative standard error.

    Raises:
        ValueError: for negative errors, or max_products below 2.
    """
    if min(relative_error, absolute_error) < 0:
        raise ValueError(
            f"relative_error={relative_error}, absolute_error={absolute_error}: 0 or more"
        )
    if max_products < 2:
        raise ValueError(f"max_products={max_products}: 2 or more")
    reason = _why_not_exact(operator)
    if reason is None:
        assert isinstance(operator, HessianOperator | GaussNewtonOperator)
        value = exact_gauss_newton_trace(operator)
        return TraceEstimate(value, 0.0, "exact", products=0, reached=True)
    return _hutchinson(
        operator,
        relative_error=relative_error,
        absolute_error=absolute_error,
        max_products=max_products,
        seed=seed,
        decomposition=decomposition,
        progress=progress,
        reason=reason,
    )


def _why_not_exact(operator: LinearOperator) -> str | None:
    if not isinstance(operator, HessianOperator | GaussNewtonOperator):
        return "only products are known"
    if not operator.objective.separable:
        return "the loss couples the samples of a batch"
    if isinstance(operator, HessianOperator):
        return obstacle(operator.objective)
    return None


def _hutchinson(
    operator: LinearOperator,
    *,
    relative_error: float,
    absolute_error: float,
    max_products: int,
    seed: int,
    decomposition: LanczosDecomposition | None,
    progress: Progress | None,
    reason: str,
) -> TraceEstimate:
    """tr A = tr QAQᵀ + E zᵀPAPz, z of random signs, P = I − QᵀQ (Meyer and others, *Hutch++*)."""
    basis = None if decomposition is None else decomposition.basis
    known = 0.0 if decomposition is None else float(decomposition.projected.trace())
    generator = torch.Generator().manual_seed(seed)
    count, mean, squares = 0, 0.0, 0.0  # Welford's running moments
    error, reached = math.inf, False
    for count in range(1, max_products + 1):
        z = _random_signs(operator, generator)
        if basis is not None:
            z = without(z, basis)
        sample = float(torch.dot(z.double(), operator.matvec(z).double()))
        before = sample - mean
        mean += before / count
        squares += before * (sample - mean)
        if count < 2:
            continue
        error = math.sqrt(squares / (count - 1) / count)
        if progress is not None:
            progress(count, error / max(abs(known + mean), 1e-300))
        target = max(absolute_error, relative_error * abs(known + mean))
        reached = error <= target and count >= min(_FEWEST_PROBES, max_products)
        if reached:
            break
    return TraceEstimate(known + mean, error, "hutchinson", count, reached, reason)


def _random_signs(operator: LinearOperator, generator: torch.Generator) -> Tensor:
    bits = torch.randint(0, 2, (operator.size,), generator=generator, dtype=torch.int8)
    return (2 * bits - 1).to(device=operator.device, dtype=operator.dtype)
