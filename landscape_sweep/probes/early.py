"""Geometry after the first epochs, from which conjecture 1.3 and question 4 predict the end."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from landscape_sweep.probes.gradient_noise import gradient_noise
from landscape_sweep.probes.hessian import hessian
from landscape_sweep.probes.measurement import Batches, Loss, Measurement, loss_and_accuracy
from landscape_sweep.probes.sharpness import sharpness


@dataclass(frozen=True)
class Early(Measurement):
    """λmax, tr H, S_0.05, B_simple and the loss, on the samples that all probes see."""

    lambda_max: float
    trace: float
    sharpness: float
    noise_scale: float
    loss: float

    def metrics(self) -> dict[str, float]:
        """``early/…``, in the units that the same measures have at the end."""
        return {
            "early/lambda_max": self.lambda_max,
            "early/trace": self.trace,
            "early/sharpness": self.sharpness,
            "early/noise_scale": self.noise_scale,
            "early/loss": self.loss,
        }


def early(model: nn.Module, loss: Loss, batches: Batches) -> Early:
    """Measure a network that has just begun to learn.

    Args:
        model: in eval mode; its weights are not changed.
        loss: mean loss of a batch.
        batches: the samples over which L is the mean.

    Raises:
        ValueError: a loss that is not finite.
    """
    spectrum = hessian(model, loss, batches, k=1)
    return Early(
        lambda_max=float(spectrum.top.eigenvalues[0]),
        trace=spectrum.trace.value,
        sharpness=sharpness(model, loss, batches).sam,
        noise_scale=gradient_noise(model, loss, batches).noise.scale,
        loss=loss_and_accuracy(model, loss, batches)[0],
    )
