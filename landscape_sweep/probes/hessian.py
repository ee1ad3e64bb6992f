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
    lanczos_algorithm_1,
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
        algorithm_1: the paper's own algorithm, where it was asked for; (at most k,), descending.
    """

    top: LanczosResult
    bottom: LanczosResult
    negative_count: int
    trace: TraceEstimate
    density: SpectralDensity | None
    product_error: float
    algorithm_1: NDArray[np.float64] | None

    @property
    def certified(self) -> bool:
        """Whether residuals speak of the Hessian itself: those of finite differences do not."""
        return self.product_error == 0

    @property
    def condition_number(self) -> float:
        """λmax / |λmin|; NaN unless both are certified, for then it is not known."""
        lowest = float(self.bottom.eigenvalues[0])
        both = bool(self.top.converged[0] and self.bottom.converged[0])
        if not (both and self.certified) or lowest == 0:
            return math.nan
        return float(self.top.eigenvalues[0]) / abs(lowest)

    @property
    def algorithm_1_error(self) -> float:
        """The largest relative error of algorithm 1 over the converged eigenvalues."""
        if self.algorithm_1 is None or not (self.top.converged.any() and self.certified):
            return math.nan
        theirs = np.zeros(len(self.top.eigenvalues))  # a value that it lacks is off by all of it
        theirs[: len(self.algorithm_1)] = self.algorithm_1[: len(theirs)]
        error = np.abs(theirs / self.top.eigenvalues - 1)[self.top.converged]
        return float(error.max())

    def metrics(self) -> dict[str, float]:
        """``hessian/…``, in units of the loss over squared parameters, without what isn't known."""
        found = {
            "hessian/lambda_max": float(self.top.eigenvalues[0]),
            "hessian/lambda_min": float(self.bottom.eigenvalues[0]),
            "hessian/trace": self.trace.value,
            "hessian/trace_se": self.trace.standard_error,
            "hessian/condition_number": self.condition_number,
            "hessian/negative_count": self.negative_count if self.certified else math.nan,
            "hessian/converged": int(self.top.converged.sum()),
            "hessian/products": self.top.matvecs,
            "hessian/product_error": self.product_error,
            "hessian/algorithm_1_error": self.algorithm_1_error,
        }
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def notes(self) -> list[str]:
        """What a reader of the numbers has to know."""
        k, lowest = len(self.top.eigenvalues), float(self.bottom.eigenvalues[0])
        said = [f"{int(self.top.converged.sum())} of {k} eigenvalues converged"]
        if not self.certified:
            said.append(
                f"finite differences are off by {self.product_error:.0%}: residuals prove nothing"
                " of the Hessian, so no eigenvalue is certified"
            )
        elif not self.bottom.converged[0]:
            said.append("λmin has not converged, so the condition number is not known")
        elif lowest < 0:
            said.append(
                f"λmin = {lowest:.3g} is negative: no minimum, and λmax/|λmin| compares the two"
                " ends of an indefinite matrix"
            )
        if not self.trace.reached:
            said.append(f"the trace's standard error is still {self.trace.standard_error:.3g}")
        if not math.isnan(self.algorithm_1_error):
            said.append(f"algorithm 1 as written is off by up to {self.algorithm_1_error:.0%}")
        return said

    def series(self) -> dict[str, Sequence[float]]:
        """The top eigenvalues by rank."""
        return {"hessian/eigenvalue": self.top.eigenvalues.tolist()}

    def tables(self) -> dict[str, Mapping[str, Sequence[float]]]:
        """``hessian/eigenvalues.csv``, and ``density.csv`` and ``algorithm_1.csv`` if asked for."""
        tables: dict[str, Mapping[str, Sequence[float]]] = {
            "hessian/eigenvalues.csv": {
                "rank": range(1, len(self.top.eigenvalues) + 1),
                "eigenvalue": self.top.eigenvalues.tolist(),
                "residual": self.top.residuals.tolist(),
                "converged": self.top.converged.tolist(),
            }
        }
        if self.density is not None:
            tables["hessian/density.csv"] = {
                "node": self.density.nodes.tolist(),
                "weight": self.density.weights.tolist(),
                "outlier": np.isin(self.density.nodes, self.density.outliers).tolist(),
            }
        if self.algorithm_1 is not None:
            count = len(self.algorithm_1)
            tables["hessian/algorithm_1.csv"] = {
                "rank": range(1, count + 1),
                "eigenvalue": self.top.eigenvalues[:count].tolist(),
                "algorithm_1": self.algorithm_1.tolist(),
            }
        return tables


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
    algorithm_1: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> Hessian:
    """The k largest eigenvalues by Lanczos, the smallest one, and the trace.

    One Lanczos run serves both ends, the trace's deflation and the density's first start vector.

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
        density: start vectors of the spectral density; 0 leaves it out, 1 costs no product.
        algorithm_1: whether to run the paper's algorithm 1 as written too (k steps of eq. 13
            without reorthogonalisation), to tell how far it is off.
        seed: seed of the start vectors.

    Raises:
        ValueError: k above the number of parameters, or a loss that is not finite.
    """
    operator = HessianOperator(model, loss, batches, product=product)
    if not 1 <= k <= operator.size:
        raise ValueError(f"k={k}: takes 1 to {operator.size}, the number of parameters")
    run = LanczosDecomposition(operator, seed=seed)
    run.run(
        [(k, "LA"), (1, "SA")],
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
        algorithm_1=_as_written(model, loss, batches, k, seed) if algorithm_1 else None,
    )


def _as_written(
    model: nn.Module, loss: Loss, batches: Batches, k: int, seed: int
) -> NDArray[np.float64]:
    """Algorithm 1 over eq. 13. The paper names no step: ours is where smooth networks err least."""
    differences = HessianOperator(
        model, loss, batches, product="finite_difference", difference="forward"
    )
    return lanczos_algorithm_1(differences, k, seed=seed)


def passes(
    *,
    k: int,
    iterations: int,
    tol: float,
    product: str,
    trace_error: float,
    density: int,
    algorithm_1: bool,
) -> float:
    """Forward-and-backward passes over the batches, if every step is used.

    A product costs about 2.2 of them, chunked alike; the exact trace about 20.
    """
    products = max(iterations, k) + 80 * max(density - 1, 0)
    return 2.2 * products + 20 + k * algorithm_1
