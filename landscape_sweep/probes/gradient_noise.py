"""Noise of per-sample gradients: tr Σ, the simple noise scale, Σ's top eigenvalues (theorem 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from landscape_sweep.curvature import GradientCovariance, GradientNoise, LanczosResult, lanczos
from landscape_sweep.probes.measurement import Batches, Loss, Measurement, Progress, silent

TOL = 1e-2
"""Relative residual of a converged eigenvalue of Σ."""

MAX_PRODUCTS = 100


@dataclass(frozen=True)
class Noise(Measurement):
    """tr Σ, B_simple = tr Σ / ‖G‖² (McCandlish et al. 2018), and Σ's largest eigenvalues.

    Attributes:
        noise: traces and scales with their standard errors.
        top: the largest eigenvalues of Σ, or None where none were asked for.
    """

    noise: GradientNoise
    top: LanczosResult | None

    def metrics(self) -> dict[str, float]:
        """``noise/…``; the trace and eigenvalues in squared units of the gradient."""
        found = {
            "noise/trace": self.noise.trace,
            "noise/trace_se": self.noise.standard_error,
            "noise/scale": self.noise.scale,
            "noise/scale_se": self.noise.scale_standard_error,
        }
        if self.top is not None:
            found["noise/lambda_max"] = float(self.top.eigenvalues[0])
        return found

    def series(self) -> dict[str, Sequence[float]]:
        """The top eigenvalues of Σ by rank."""
        return {} if self.top is None else {"noise/eigenvalue": self.top.eigenvalues.tolist()}

    def notes(self) -> list[str]:
        """How many eigenvalues of Σ converged, where some did not."""
        if self.top is None or self.top.converged.all():
            return []
        return [f"{self.top.converged.sum()} of {len(self.top.converged)} eigenvalues converged"]


def gradient_noise(
    model: nn.Module, loss: Loss, batches: Batches, *, k: int = 0, progress: Progress = silent
) -> Noise:
    """Exact tr Σ of the per-sample gradients, with BatchNorm frozen, and k eigenvalues of Σ.

    Args:
        model: in eval mode; its weights are not changed.
        loss: mean loss of a batch.
        batches: the samples whose gradients are compared.
        k: top eigenvalues of Σ by Lanczos; 0 leaves them out.

    Raises:
        ValueError: a loss that is not finite, or that couples the samples of a batch.
    """
    covariance = GradientCovariance(model, loss, batches)
    found = covariance.noise()
    progress(1, 1 + k)
    top = lanczos(covariance, k, TOL, max_products=MAX_PRODUCTS) if k else None
    progress(1 + k, 1 + k)
    return Noise(found, top)


def passes(*, k: int) -> float:
    """Forward-and-backward passes over the batches; an eigenvalue takes about 8 products of 2."""
    return 10.0 + 16.0 * k
