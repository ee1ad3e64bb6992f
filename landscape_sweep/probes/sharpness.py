"""Sharpness: eq. 3 as the framework computes it, and the maximum and mean that it stands for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from landscape_sweep.probes.mean_loss import MeanLoss
from landscape_sweep.probes.measurement import (
    Batches,
    Loss,
    Measurement,
    Progress,
    euclidean_norm,
    silent,
)

_LONGEST_STEP = 8.0  # in radii; from there a step hardly depends on where it started


@dataclass(frozen=True)
class Sharpness(Measurement):
    """Rises of the loss near θ, in units of the loss.

    Attributes:
        rho: radius in parameter space.
        sam: L(θ + ρ g/‖g‖) − L(θ), the framework's eq. 3.
        gradient_norm: ‖g‖ = ‖∇L(θ)‖.
        adversarial: max over ‖e‖ ≤ ρ of L(θ + e) − L(θ), eq. 2, or None where not asked for.
        adaptive: max over ‖u‖ ≤ ρ_a of L(θ + |θ| ⊙ u) − L(θ), or None.
        average: E L(θ + |θ| ⊙ u) − L(θ), u ~ N(0, σ²I), or None.
        average_se: its standard error over the draws, or None.
    """

    rho: float
    sam: float
    gradient_norm: float
    adversarial: float | None = None
    adaptive: float | None = None
    average: float | None = None
    average_se: float | None = None

    @property
    def first_order(self) -> float:
        """ρ‖g‖: away from a minimum most of eq. 3 is this, and says nothing of curvature."""
        return self.rho * self.gradient_norm

    def metrics(self) -> dict[str, float]:
        """``sharpness/…`` in units of the loss."""
        every = {
            "sharpness/sam": self.sam,
            "sharpness/first_order": self.first_order,
            "sharpness/gradient_norm": self.gradient_norm,
            "sharpness/adversarial": self.adversarial,
            "sharpness/adaptive": self.adaptive,
            "sharpness/average": self.average,
            "sharpness/average_se": self.average_se,
        }
        return {name: value for name, value in every.items() if value is not None}


def sharpness(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    rho: float = 0.05,
    adaptive_rho: float = 0.5,
    steps: int = 20,
    restarts: int = 1,
    sigma: float = 0.1,
    draws: int = 10,
    seed: int = 0,
    progress: Progress = silent,
) -> Sharpness:
    """S_rho by algorithm 2, the maximum over the ball by projected ascent, and the mean.

    Eq. 3 is one step uphill: 0/0 where the gradient vanishes (then ``sam`` is 0), elsewhere a
    lower bound of the maximum (eq. 2). The ascent starts from its point and from random ones, so
    ``adversarial`` is never below ``sam``.

    ``adaptive`` and ``average`` perturb each weight in proportion to its magnitude (Kwon et al.,
    *ASAM*, 2021; Andriushchenko et al. 2023), so they do not change under rescalings of weights
    that leave the function as it is; weights at zero stay there.

    Args:
        model: in eval mode; its weights are not changed.
        loss: mean loss of a batch.
        batches: the samples over which L is the mean.
        rho: radius ρ in parameter space.
        adaptive_rho: radius ρ_a in units of each weight's magnitude.
        steps: steps of an ascent; 0 leaves ``adversarial`` and ``adaptive`` out.
        restarts: random starts of an ascent, beside eq. 3's point.
        sigma: σ, the random perturbation's deviation as a share of each weight's magnitude.
        draws: perturbations u of the mean, each taken with −u too; 0 leaves it out.
        seed: seed of the random starts and perturbations.

    Raises:
        ValueError: a loss that is not finite, or a single draw, which has no standard error.
    """
    if draws == 1:
        raise ValueError("draws=1: takes 0, or 2 and more for a standard error")
    landscape = MeanLoss(model, loss, batches)
    generator = torch.Generator().manual_seed(seed)
    total, done = 1 + (1 + restarts) * 2 * bool(steps) + draws, 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    base, gradient = landscape.value_and_gradient(landscape.theta)
    magnitude = landscape.theta.abs()
    sam = landscape.value(landscape.theta + _uphill(gradient, rho)) - base
    advance()

    def maximum(scale: Tensor, radius: float) -> float:
        """Of the rise over the ball ‖u‖ ≤ radius around θ, at θ + scale ⊙ u."""

        def rise(u: Tensor) -> tuple[float, Tensor]:
            value, slope = landscape.value_and_gradient(landscape.theta + scale * u)
            return value - base, scale * slope

        starts = [_uphill(scale * gradient, radius)]
        starts += [_uphill(u, radius) for u in _gaussian(landscape.theta, restarts, generator)]
        found = []
        for start in starts:
            found.append(ascend(rise, start, radius, steps))
            advance()
        return max(found)

    adversarial = adaptive = average = average_se = None
    if steps:
        adversarial = max(sam, maximum(torch.ones_like(magnitude), rho))
        adaptive = maximum(magnitude, adaptive_rho)
    if draws:
        rises = []
        for u in _gaussian(landscape.theta, draws, generator):
            pair = [landscape.value(landscape.theta + s * sigma * magnitude * u) for s in (1, -1)]
            rises.append(sum(pair) / 2 - base)  # ±u cancel the gradient's part
            advance()
        average, average_se = float(np.mean(rises)), float(np.std(rises, ddof=1)) / math.sqrt(draws)
    return Sharpness(rho, sam, euclidean_norm(gradient), adversarial, adaptive, average, average_se)


def ascend(
    function: Callable[[Tensor], tuple[float, Tensor]], start: Tensor, radius: float, steps: int
) -> float:
    """The largest value that projected gradient ascent reaches in the ball ‖u‖ ≤ radius.

    Each step follows the normalised gradient and is projected onto the ball. A step that does not
    rise is taken back and the next one is a quarter as long; one that rises doubles the next.

    Args:
        function: value and gradient at u, (p,).
        start: (p,) in the ball.
        radius: of the ball, above 0.
        steps: evaluations of ``function`` beyond the first.
    """
    u = start
    value, gradient = function(u)
    length = 2 * radius
    for _ in range(steps):
        norm = euclidean_norm(gradient)
        if not (norm > 0 and math.isfinite(norm)):
            break
        ahead = _projected(u + (length / norm) * gradient, radius)
        reached, slope = function(ahead)
        if reached > value:
            u, value, gradient = ahead, reached, slope
            length = min(2 * length, _LONGEST_STEP * radius)
        else:
            length /= 4
    return value


def _projected(u: Tensor, radius: float) -> Tensor:
    norm = euclidean_norm(u)
    return u if norm <= radius else u * (radius / norm)


def _uphill(direction: Tensor, length: float) -> Tensor:
    """``direction`` at a given length; zero where it is zero."""
    norm = euclidean_norm(direction)
    return direction * (length / norm) if norm > 0 else torch.zeros_like(direction)


def _gaussian(like: Tensor, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Standard normal vectors, drawn on the CPU so that a seed names the same on every device."""
    for _ in range(count):
        yield torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)


def passes(
    *, rho: float, adaptive_rho: float, steps: int, restarts: int, sigma: float, draws: int
) -> float:
    """Forward-and-backward passes over the batches; a forward alone is about a third."""
    ascents = 2 * (1 + restarts) * (1 + steps) if steps else 0
    return 1.3 + ascents + 2 * draws / 3
