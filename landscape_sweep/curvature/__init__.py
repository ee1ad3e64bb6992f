"""Curvature of a model's loss: products, eigenvalues, traces, densities and gradient noise.

Linear algebra over matrix-vector products. Knows no data set, no configuration, no tracking.

    H = HessianOperator(model, loss, batches)
    lanczos(H, k=20).eigenvalues
    hessian_trace(H).value
    spectral_density(H).nodes
"""

from landscape_sweep.curvature.algorithm_1 import lanczos_algorithm_1
from landscape_sweep.curvature.density import SpectralDensity, spectral_density
from landscape_sweep.curvature.gauss_newton import GaussNewtonOperator
from landscape_sweep.curvature.gradient_noise import (
    GradientCovariance,
    GradientNoise,
    TwoBatchNoise,
    two_batch_noise,
)
from landscape_sweep.curvature.hessian import HessianOperator
from landscape_sweep.curvature.lanczos import LanczosDecomposition, LanczosResult, lanczos
from landscape_sweep.curvature.objective import BatchNormWarning
from landscape_sweep.curvature.operators import LinearOperator
from landscape_sweep.curvature.trace import TraceEstimate, hessian_trace

__all__ = [
    "BatchNormWarning",
    "GaussNewtonOperator",
    "GradientCovariance",
    "GradientNoise",
    "HessianOperator",
    "LanczosDecomposition",
    "LanczosResult",
    "LinearOperator",
    "SpectralDensity",
    "TraceEstimate",
    "TwoBatchNoise",
    "hessian_trace",
    "lanczos",
    "lanczos_algorithm_1",
    "spectral_density",
    "two_batch_noise",
]
