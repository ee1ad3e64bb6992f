"""Proposition 1: the conditioning of the curvature against eq. 11's product over layers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape_sweep.probes.measurement import Batches, Loss, Measurement, Progress, silent
from landscape_sweep.probes.output_geometry import output_geometry
from landscape_sweep.probes.spectra import weight_spectra

THRESHOLD = 1e-8
"""Eigenvalues below this share of the largest are not counted, so that κ⁺ < 1e8."""


@dataclass(frozen=True)
class Conditioning(Measurement):
    """Conditioning of the Gauss-Newton matrix, and eq. 11's right side.

    κ(H) itself does not exist: at a minimum λmin is zero or below.

    Attributes:
        eigenvalues: (m,) nonzero eigenvalues of G over n samples, descending, float64.
        classes: c.
        alpha: ridge of the effective dimension, in the eigenvalues' unit.
        log_rhs: Σ_l [ln κ(W_l) + 2 ln ‖W_l‖₂]; inf where a W_l is singular, NaN where one is 0.
        layers: L, weight matrices and convolutions.
    """

    eigenvalues: Tensor
    classes: int
    alpha: float
    log_rhs: float
    layers: int

    @property
    def rank(self) -> int:
        """r, eigenvalues above ``THRESHOLD`` times the largest."""
        return int((self.eigenvalues > THRESHOLD * self.eigenvalues[0]).sum())

    @property
    def kappa_plus(self) -> float:
        """κ⁺ = λ_1 / λ_r; NaN where G is zero."""
        return (
            float(self.eigenvalues[0] / self.eigenvalues[self.rank - 1]) if self.rank else math.nan
        )

    @property
    def outlier_ratio(self) -> float:
        """λ_1 / λ_c: how unequal the c outliers are; NaN where there are fewer than c."""
        if self.rank < self.classes:
            return math.nan
        return float(self.eigenvalues[0] / self.eigenvalues[self.classes - 1])

    @property
    def effective_dimension(self) -> float:
        """Σ λ / (λ + α)."""
        return float((self.eigenvalues / (self.eigenvalues + self.alpha)).sum())

    def metrics(self) -> dict[str, float]:
        """``conditioning/…``; logarithms are natural."""
        return {
            "conditioning/kappa_plus": self.kappa_plus,
            "conditioning/log_kappa_plus": math.log(self.kappa_plus),
            "conditioning/rank": self.rank,
            "conditioning/log_rhs": self.log_rhs,
            "conditioning/layers": self.layers,
            "conditioning/effective_dimension": self.effective_dimension,
            "conditioning/outlier_ratio": self.outlier_ratio,
        }

    def notes(self) -> list[str]:
        """Whether the threshold, not the network, decides κ⁺."""
        cut = len(self.eigenvalues) - self.rank
        if not cut:
            return []
        return [
            f"{cut} of {len(self.eigenvalues)} eigenvalues lie below {THRESHOLD} of the largest"
        ]


def conditioning(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    samples: int = 64,
    alpha: float = 5e-4,
    progress: Progress = silent,
) -> Conditioning:
    """The Gauss-Newton spectrum over some samples and the layers' own spectra, in float64.

    Args:
        model: in eval mode; its weights are not changed.
        loss: mean loss of a batch, convex in the outputs.
        batches: the samples.
        samples: n, taken from the start of ``batches``; work grows as (nc)²p.
        alpha: ridge of the effective dimension; weight decay adds as much to every eigenvalue.

    Raises:
        ValueError: as ``output_geometry``, or a layer whose spectrum is not known.
    """
    found = output_geometry(model, loss, batches, samples, progress)
    eigenvalues = torch.linalg.eigvalsh(found.gauss_newton_gram()).flip(0).clamp(min=0)
    spectra = weight_spectra(model, batches[0][0][:1])
    return Conditioning(
        eigenvalues if len(eigenvalues) else torch.zeros(1, dtype=torch.float64),
        found.outputs,
        alpha,
        sum(log_factor(spectrum) for spectrum in spectra),
        len(spectra),
    )


def log_factor(singular_values: Tensor) -> float:
    """One layer's factor in eq. 11: ln κ(W) + 2 ln ‖W‖₂ = 3 ln σmax − ln σmin."""
    top, bottom = float(singular_values.max()), float(singular_values.min())
    if top == 0:
        return math.nan
    return 3 * math.log(top) - (math.log(bottom) if bottom > 0 else -math.inf)


def passes(*, samples: int, alpha: float, images: int, classes: int) -> float:
    """Forward-and-backward passes over all ``images`` that the probes see.

    A backward pass a class and sample, in float64; the product of Jacobians, which depends on the
    machine, is not counted.
    """
    return 2 * classes * samples / images
