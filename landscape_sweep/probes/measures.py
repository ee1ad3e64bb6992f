"""Norms and margins by which networks are compared without any geometry of the loss.

Measures of Jiang et al., *Fantastic generalization measures and where to find them* (2020): what a
geometric measure has to beat before it is called a predictor (research question 3). BatchNorm is
folded into the layers, so that its statistics count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape_sweep.probes.folded import folded
from landscape_sweep.probes.measurement import Batches, Loss, Measurement, Progress, silent
from landscape_sweep.probes.spectra import weight_spectra

PERCENTILE = 0.1
"""The share of samples whose margin is smaller than the margin that is told."""


@dataclass(frozen=True)
class Measures(Measurement):
    """Margin, and norms of the layers W_l as linear maps (a convolution on its images).

    Attributes:
        margin: γ, the 10th percentile of f_y − max over other classes; negative where that many
            samples are misclassified.
        log_spectral: Σ_l ln ‖W_l‖₂².
        log_frobenius: Σ_l ln ‖W_l‖_F².
        stable_rank: Σ_l ‖W_l‖_F² / ‖W_l‖₂².
        log_path: ln Σ f(1) of the network with all parameters squared: over all paths from an
            input or a bias to an output, the product of squared weights (Neyshabur et al. 2015).
    """

    margin: float
    log_spectral: float
    log_frobenius: float
    stable_rank: float
    log_path: float

    def metrics(self) -> dict[str, float]:
        """``measure/…``; those over γ only where γ > 0."""
        found = {
            "measure/margin": self.margin,
            "measure/log_spectral": self.log_spectral,
            "measure/log_frobenius": self.log_frobenius,
            "measure/stable_rank": self.stable_rank,
            "measure/log_path": self.log_path,
        }
        if self.margin > 0:
            over = 2 * math.log(self.margin)
            found["measure/log_spectral_over_margin"] = self.log_spectral - over
            found["measure/log_path_over_margin"] = self.log_path - over
        return found


@torch.no_grad()
def measures(
    model: nn.Module, loss: Loss, batches: Batches, *, progress: Progress = silent
) -> Measures:
    """Measure a trained classifier.

    Args:
        model: in eval mode; its weights are not changed.
        loss: not used: these measures know outputs and weights alone.
        batches: samples for the margin, with class indices as targets.

    Raises:
        ValueError: fewer than two outputs, or a layer whose spectrum is not known.
    """
    margins = torch.cat([_margins(model(inputs), targets) for inputs, targets in batches])
    flat = folded(model).double()
    inputs = batches[0][0][:1].double()
    squared_norms = [
        (float(values.max()) ** 2, float(values.square().sum()))
        for values in weight_spectra(flat, inputs)
    ]
    for parameter in flat.parameters():
        parameter.square_()
    progress(1, 1)
    return Measures(
        margin=float(margins.double().quantile(PERCENTILE)),
        log_spectral=sum(_log(spectral) for spectral, _ in squared_norms),
        log_frobenius=sum(_log(frobenius) for _, frobenius in squared_norms),
        stable_rank=sum(f / s if s else 0.0 for s, f in squared_norms),
        log_path=_log(float(flat(torch.ones_like(inputs)).sum())),
    )


def _margins(outputs: Tensor, targets: Tensor) -> Tensor:
    """(n,) each sample's output of its class less the largest of the others."""
    if outputs.ndim != 2 or outputs.shape[1] < 2 or targets.is_floating_point():
        raise ValueError("measures takes outputs (n, classes ≥ 2) and class indices as targets")
    own = outputs.gather(1, targets[:, None])
    others = outputs.scatter(1, targets[:, None], -math.inf).amax(1, keepdim=True)
    return (own - others).squeeze(1)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def passes() -> float:
    """Forward-and-backward passes over the batches: one forward."""
    return 1 / 3
