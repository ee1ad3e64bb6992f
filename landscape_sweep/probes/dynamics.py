"""What the landscape around a network does while it is trained: cheap measures, look by look.

The only probe with a memory: each look starts Lanczos from the top eigenvector of the look before.
"""

from __future__ import annotations

import statistics

from torch import Tensor, nn

from landscape_sweep.curvature import GradientCovariance, HessianOperator, LanczosDecomposition
from landscape_sweep.probes.measurement import Batches, Loss
from landscape_sweep.probes.sharpness import sharpness

PRODUCTS = 30
"""Lanczos steps at most in one look; from a near start about ten reach the tolerance."""


class Dynamics:
    """λmax, tr Σ, ‖∇L‖ and S_ρ of a network at several times of its training.

    Args:
        loss: mean loss of a batch.
        batches: the samples over which L is the mean, the same at every look.
        tol: relative residual at which λmax counts as found.
    """

    def __init__(self, loss: Loss, batches: Batches, *, tol: float = 1e-2) -> None:
        self._loss, self._batches, self._tol = loss, batches, tol
        self._direction: Tensor | None = None  # top eigenvector at the last look, (p,)
        self._traces: list[float] = []  # tr Σ at each look

    def look(self, model: nn.Module) -> dict[str, float]:
        """``dynamics/…`` of ``model``, which is in eval mode and is left as it is.

        The first look is at initialisation. Raises ValueError for a loss that is not finite.
        """
        run = LanczosDecomposition(
            HessianOperator(model, self._loss, self._batches), start=self._direction
        )
        run.run([(1, "LA")], tol=self._tol, max_products=PRODUCTS)
        top = run.top(1, tol=self._tol, eigenvectors=True)
        assert top.eigenvectors is not None
        self._direction = top.eigenvectors[0]
        self._traces.append(GradientCovariance(model, self._loss, self._batches).noise().trace)
        along_gradient = sharpness(model, self._loss, self._batches)
        return {
            "dynamics/lambda_max": float(top.eigenvalues[0]),
            "dynamics/noise_trace": self._traces[-1],
            "dynamics/gradient_norm": along_gradient.gradient_norm,
            "dynamics/sharpness": along_gradient.sam,
        }

    def metrics(self) -> dict[str, float]:
        """tr Σ at the first look, and its mean over the later ones (the trajectory's σ²)."""
        found = {"noise/initial_trace": self._traces[0]} if self._traces else {}
        if len(self._traces) > 1:
            found["noise/trajectory_trace"] = statistics.fmean(self._traces[1:])
        return found

    def memory(self) -> tuple[Tensor | None, list[float]]:
        """What the next look depends on: the last top eigenvector (p,), and every tr Σ so far."""
        return self._direction, list(self._traces)

    def remember(self, direction: Tensor | None, traces: list[float]) -> None:
        """Go on where ``memory`` was taken."""
        self._direction, self._traces = direction, list(traces)
