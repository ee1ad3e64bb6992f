"""Noise of per-sample gradients: tr Sigma and the simple noise scale (science of theorem 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from landscape_sweep.curvature import GradientCovariance
from landscape_sweep.probes.measurement import Batches, Loss, Measurement, Progress, silent


@dataclass(frozen=True)
class Noise(Measurement):
    """tr Σ, its standard error, and B_simple = tr Σ / ‖G‖² (McCandlish et al. 2018)."""

    trace: float
    standard_error: float
    scale: float

    def metrics(self) -> dict[str, float]:
        """``noise/…``; the trace in squared units of the gradient."""
        return {
            "noise/trace": self.trace,
            "noise/trace_se": self.standard_error,
            "noise/scale": self.scale,
        }


def gradient_noise(
    model: nn.Module, loss: Loss, batches: Batches, *, progress: Progress = silent
) -> Noise:
    """Exact tr Σ of the per-sample gradients, with BatchNorm frozen.

    Args:
        model: in eval mode; its weights are not changed.
        loss: mean loss of a batch.
        batches: the samples whose gradients are compared.

    Raises:
        ValueError: a loss that is not finite, or that couples the samples of a batch.
    """
    found = GradientCovariance(model, loss, batches).noise()
    progress(1, 1)
    return Noise(found.trace, found.standard_error, found.scale)


def passes() -> float:
    """Forward-and-backward passes over the batches."""
    return 10.0
