"""Top of the Hessian spectrum and its trace, each with its certificate (framework, section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from landscape_sweep.curvature import (
    HessianOperator,
    LanczosDecomposition,
    LanczosResult,
    SpectralDensity,
    TraceEstimate,
    hessian_trace,
    spectral_density,
)
from landscape_sweep.probes.measurement import Batches, Loss, Measurement, Progress, silent


@dataclass(frozen=True)
class Hessian(Measurement):
    """What is known of a Hessian's spectrum.

    Attributes:
        top: the largest eigenvalues, with residuals and convergence flags.
        bottom: the smallest one.
        negative_count: eigenvalues that are certainly negative.
        trace: with its standard error (0 where it is exact).
        density: spectral density, where it was asked for.
        product_error: relative error of finite differences against exact products; 0 for exact.
    """

    top: LanczosResult
    bottom: LanczosResult
    negative_count: int
    trace: TraceEstimate
    density: SpectralDensity | None
    product_error: float

    @property
    def condition_number(self) -> float:
        """λmax / |λmin|; NaN until both are converged, for then it is not known."""
        lowest = float(self.bottom.eigenvalues[0])
        if not (self.top.converged[0] and self.bottom.converged[0]) or lowest == 0:
            return math.nan
        return float(self.top.eigenvalues[0]) / abs(lowest)

    def metrics(self) -> dict[str, float]:
        """``hessian/…`` in units of the loss over squared parameters."""
        return {
            "hessian/lambda_max": float(self.top.eigenvalues[0]),
            "hessian/lambda_min": float(self.bottom.eigenvalues[0]),
            "hessian/trace": self.trace.value,
            "hessian/trace_se": self.trace.standard_error,
            "hessian/condition_number": self.condition_number,
            "hessian/negative_count": self.negative_count,
            "hessian/converged": int(self.top.converged.sum()),
            "hessian/products": self.top.matvecs,
            "hessian/product_error": self.product_error,
        }

    def series(self) -> dict[str, Sequence[float]]:
        """The top eigenvalues by rank."""
        return {"hessian/eigenvalue": self.top.eigenvalues.tolist()}

    def tables(self) -> dict[str, Mapping[str, Sequence[float]]]:
        """``hessian/eigenvalues.csv``, and ``hessian/density.csv`` where it was asked for."""
        tables: dict[str, Mapping[str, Sequence[float]]] = {
            "hessian/eigenvalues.csv": {
                "rank": range(1, len(self.top.eigenvalues) + 1),
                "eigenvalue": self.top.eigenvalues.tolist(),
                "residual": self.top.residuals.tolist(),
                "converged": self.top.converged.tolist(),
            }
        }
        if self.density is not None:
            columns = {"node": self.density.nodes, "weight": self.density.weights}
            tables["hessian/density.csv"] = {k: _list(v) for k, v in columns.items()}
        return tables


def _list(values: NDArray[np.float64]) -> Sequence[float]:
    listed: list[float] = values.tolist()
    return listed


def hessian(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    k: int = 20,
    iterations: int = 100,
    tol: float = 1e-2,
    product: Literal["exact", "finite_difference"] = "exact",
    trace_error: float = 0.02,
    density: int = 0,
    seed: int = 0,
    progress: Progress = silent,
) -> Hessian:
    """The k largest eigenvalues by Lanczos, the smallest one, and the trace.

    Args:
        model: in eval mode; its weights are not changed.
        loss: mean loss of a batch.
        batches: the samples over which L is the mean.
        k: top eigenvalues.
        iterations: Lanczos steps at most; what has not converged by then is flagged.
        tol: relative residual of a converged eigenvalue.
        product: ``exact``, or ``finite_difference`` as eq. 13 has it; then the relative error
            against exact products is measured too.
        trace_error: relative standard error of the trace where no exact formula holds.
        density: start vectors of the spectral density; 0 leaves it out.
        seed: seed of the start vectors.

    Raises:
        ValueError: k above the number of parameters, or a loss that is not finite.
    """
    operator = HessianOperator(model, loss, batches, product=product)
    if not 1 <= k <= operator.size:
        raise ValueError(f"k={k}: takes 1 to {operator.size}, the number of parameters")
    run = LanczosDecomposition(operator, seed=seed)
    run.run(
        [(k, "LA")],
        tol=tol,
        max_products=max(iterations, k),
        progress=lambda done, worst: progress(done, iterations),
    )
    return Hessian(
        top=run.top(k, tol=tol),
        bottom=run.bottom(1, tol=tol),
        negative_count=run.negative_count(),
        trace=hessian_trace(
            HessianOperator(model, loss, batches) if product != "exact" else operator,
            relative_error=trace_error,
            seed=seed,
            decomposition=run if product == "exact" else None,
        ),
        density=spectral_density(operator, density, seed, decomposition=run) if density else None,
        product_error=operator.measured_error(seed=seed),
    )


def passes(
    *, k: int, iterations: int, tol: float, product: str, trace_error: float, density: int
) -> float:
    """Forward-and-backward passes over the batches, if every step is used.

    A product costs about 2.2 of them, chunked alike; the exact trace about 20.
    """
    return 2.2 * (max(iterations, k) + 80 * density) + 20
