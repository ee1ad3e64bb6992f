"""Is SGD at constant rate stationary, and how do its weights vary? (theorem 1, eqs. 6 and 7)

From the final weights SGD goes on at the run's rate and batch size. Stationary or not is told by
the fluctuation-dissipation relation of Yaida (2019), ⟨θ·g⟩ = (1 + β)(η/2)⟨‖m‖²⟩ with the momentum
buffer m = βm + g (m = g where β = 0), and by the drift of the loss. The relation is exact in
discrete time for whatever g moves θ: weight decay is part of it. Along eigenvectors v_i of the
Hessian, with s_i = v_iᵀΣv_i the noise of single samples, weights in a quadratic basin vary by

    Var_i = (η s_i / B) (1 + β) / (λ_i (1 − β)(2(1 + β) − ηλ_i)):

as 1/λ_i where the noise is isotropic (eq. 7's equipartition), all alike where Σ ∝ H. Batch
sharpness ⟨gᵀH_B g⟩/⟨‖g‖²⟩ is said to settle at 2/η (Andreyev and Beneventano 2024), and stable
interpolating minima of squared loss to have ‖H‖_F ≤ O(√B/η) (Wu, Wang and Su 2022).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from landscape_sweep.curvature import GradientCovariance, HessianOperator, LanczosResult, lanczos
from landscape_sweep.probes.measurement import Batches, Loss, Measurement, Progress, silent

Floats: TypeAlias = NDArray[np.float64]

Draw: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(inputs, targets) of the training images with these indices, (b,) int64 on the model's device."""

BLOCKS = 20
"""Parts of the path that are left out in turn for standard errors (Künsch 1989)."""

RELAXATIONS = 100
"""Relaxation times 1/(ηλ) that the path must cover for a direction to count.

The variance within a path of n of them is too small by 2/n, and a block holds n/20."""

FEWEST_DIRECTIONS = 5
"""Directions below which no slope is fitted."""

SHARPNESS_BATCHES = 200
"""Steps of the path at which batch sharpness is measured."""

TAIL_VECTORS = 20
"""Random vectors that estimate what the leading eigenvalues leave of ‖H‖_F."""

TOL = 1e-2
"""Relative residual of a converged eigenvalue; others don't count."""


@dataclass(frozen=True)
class Path:
    """What SGD passed through, step by step, in float64.

    Attributes:
        losses: (T,) loss of each batch, before its step.
        pull: (T,) θ·g.
        kick: (T,) ‖m‖², after m has taken in g.
        positions: (T, k) v_i·(θ − θ_start).
        sharpness: (s, 2) gᵀH_B g and ‖g‖² of some of the batches.
    """

    losses: Floats
    pull: Floats
    kick: Floats
    positions: Floats
    sharpness: Floats


@dataclass(frozen=True)
class Stationarity(Measurement):
    """How SGD moves around the final weights.

    Attributes:
        path: what was recorded.
        lr, momentum, batch_size, weight_decay: of its steps.
        eigenvalues: (k,) of the Hessian where the path starts, weight decay included, descending.
        converged: (k,) bool.
        noise: (k,) v_iᵀΣv_i of single samples there.
        frobenius: ‖H‖_F there.
    """

    path: Path
    lr: float
    momentum: float
    batch_size: int
    weight_decay: float
    eigenvalues: Floats
    converged: NDArray[np.bool_]
    noise: Floats
    frobenius: float

    @property
    def fdr_ratio(self) -> tuple[float, float]:
        """⟨θ·g⟩ over (1 + β)(η/2)⟨‖m‖²⟩, 1 where SGD is stationary, and its standard error.

        With β = 0 it is 1 − Δ‖θ‖²/(η²Σ‖g‖²): what the norm of the weights gained, over what steps
        in random directions would have added.
        """
        half = (1 + self.momentum) * self.lr / 2

        def ratio(kept: NDArray[np.intp]) -> float:
            return float(self.path.pull[kept].mean() / (half * self.path.kick[kept].mean()))

        return _jackknife(ratio, len(self.path.pull))

    @property
    def loss_drift(self) -> tuple[float, float]:
        """The change of the mean loss from the first to the second half, over the first's mean."""

        def drift(kept: NDArray[np.intp]) -> float:
            second = kept >= len(self.path.losses) // 2
            before = self.path.losses[kept[~second]].mean()
            return float(self.path.losses[kept[second]].mean() / before - 1)

        return _jackknife(drift, len(self.path.losses))

    @property
    def batch_sharpness(self) -> tuple[float, float]:
        """⟨gᵀH_B g⟩/⟨‖g‖²⟩, a curvature, and its standard error."""

        def ratio(kept: NDArray[np.intp]) -> float:
            along, squared = self.path.sharpness[kept].mean(0)
            return float(along / squared)

        return _jackknife(ratio, len(self.path.sharpness))

    @property
    def variances(self) -> Floats:
        """(k,) Var_i along each eigenvector."""
        variances: Floats = self.path.positions.var(0)
        return variances

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(k,) directions that are known, curve upwards and had the time to relax."""
        relaxations = self.lr * self.eigenvalues * len(self.path.losses) / (1 - self.momentum)
        return self.converged & (relaxations >= RELAXATIONS) & (self.noise > 0)

    @property
    def variance_slope(self) -> tuple[float, float]:
        """Slope of log Var_i on log λ_i over the directions that count, and its standard error."""
        chosen = self.counted
        if chosen.sum() < FEWEST_DIRECTIONS:
            return math.nan, math.nan
        positions, curvature = self.path.positions[:, chosen], np.log(self.eigenvalues[chosen])

        def slope(kept: NDArray[np.intp]) -> float:
            return float(np.polyfit(curvature, np.log(positions[kept].var(0)), 1)[0])

        return _jackknife(slope, len(positions))

    @property
    def noise_slope(self) -> float:
        """Slope of log v_iᵀΣv_i on log λ_i over the same directions: 1 where Σ ∝ H.

        λ_i without weight decay, which has no noise.
        """
        of_loss = self.eigenvalues - self.weight_decay
        chosen = self.counted & (of_loss > 0)
        if chosen.sum() < FEWEST_DIRECTIONS:
            return math.nan
        return float(np.polyfit(np.log(of_loss[chosen]), np.log(self.noise[chosen]), 1)[0])

    @property
    def variance_ratio(self) -> float:
        """Geometric mean of Var_i over what a quadratic basin with this noise would give.

        Over the directions in which SGD is stable in such a basin: ηλ_i < 2(1 + β).
        """
        chosen = self.counted & (self.lr * self.eigenvalues < 2 * (1 + self.momentum))
        if not chosen.any():
            return math.nan
        expected = heavy_ball_variance(
            self.eigenvalues[chosen],
            self.noise[chosen] / self.batch_size,
            lr=self.lr,
            momentum=self.momentum,
        )
        return float(np.exp(np.mean(np.log(self.variances[chosen] / expected))))

    def metrics(self) -> dict[str, float]:
        """``stationarity/…``, without what is not known."""
        found = {
            "directions": float(self.counted.sum()),
            "noise_slope": self.noise_slope,
            "variance_ratio": self.variance_ratio,
            "frobenius": self.frobenius,
        }
        for name in ("fdr_ratio", "loss_drift", "batch_sharpness", "variance_slope"):
            found[name], found[f"{name}_se"] = getattr(self, name)
        return {f"stationarity/{k}": v for k, v in found.items() if not math.isnan(v)}

    def tables(self) -> dict[str, Mapping[str, Sequence[float]]]:
        """``stationarity/directions.csv``: one row an eigenvector."""
        columns = {
            "rank": list(range(1, len(self.eigenvalues) + 1)),
            "eigenvalue": self.eigenvalues.tolist(),
            "variance": self.variances.tolist(),
            "noise": self.noise.tolist(),
            "counted": self.counted.tolist(),
        }
        return {"stationarity/directions.csv": columns}

    def notes(self) -> list[str]:
        """Whether SGD was stationary, and which directions could be judged."""
        ratio, se = self.fdr_ratio
        drift, _ = self.loss_drift
        return [
            f"⟨θ·g⟩/((η/2)⟨‖g‖²⟩) = {ratio:.3f} ± {se:.3f} (1 where stationary)",
            f"the loss drifts by {drift:+.1%}",
            f"{self.counted.sum()} of {len(self.counted)} directions had the time to relax",
        ]


def stationarity(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    draw: Draw,
    train_images: int,
    batch_size: int,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    k: int = 50,
    burn_in: int = 2000,
    steps: int = 10_000,
    replacement: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> Stationarity:
    """Go on with SGD from ``model``, on clean images, watched along the Hessian's eigenvectors.

    Args:
        model: in eval mode, so that BatchNorm's statistics stay; its weights are not changed.
        loss: mean loss of a batch.
        batches: the samples of the Hessian and of Σ; where they are the whole training set,
            these are those of the loss that SGD descends.
        draw: the images that SGD sees, by index.
        train_images: n; indices go from 0 to n − 1.
        batch_size: B, at most n.
        lr: η.
        momentum: β of heavy-ball momentum.
        weight_decay: w; SGD descends L + ½w‖θ‖².
        k: leading eigenvectors, at most as many as there are parameters.
        burn_in: steps before the Hessian is taken and the path begins.
        steps: T, those of the path; at least ``BLOCKS``.
        replacement: draw every batch anew, so that the noise of two steps is independent as the
            theory has it; else go through the images in shuffled epochs, as training does, whose
            noise cancels within an epoch and leaves slow directions almost at rest.
        seed: of the batches, and of random vectors.

    Raises:
        ValueError: too few steps or parameters, and a loss that is not finite.
    """
    if steps < BLOCKS:
        raise ValueError(f"steps={steps}: takes at least {BLOCKS}")
    network = copy.deepcopy(model)
    theta = parameters_to_vector(network.parameters()).detach().clone()
    vector_to_parameters(theta, network.parameters())  # views of theta from here on
    chosen = _batches(train_images, batch_size, replacement, seed, theta.device)
    sgd = _Sgd(network, loss, theta, lr, momentum, weight_decay)
    for step in range(burn_in):
        sgd.step(*draw(next(chosen)))
        progress(step, burn_in + steps)
    top, noise, frobenius = _curvature(network, loss, batches, k, seed)
    assert top.eigenvectors is not None
    start, every = theta.clone(), max(1, steps // SHARPNESS_BATCHES)
    scalars = theta.new_zeros(steps, 3, dtype=torch.float64)
    positions = theta.new_zeros(steps, len(top.eigenvectors))
    sharpness = []
    for step in range(steps):
        inputs, targets = draw(next(chosen))
        positions[step] = top.eigenvectors @ (theta - start)
        if step % every == 0:
            sharpness.append(sgd.sharpness(inputs, targets))
        scalars[step] = sgd.step(inputs, targets)
        progress(burn_in + step + 1, burn_in + steps)
    sgd.sharpness(inputs, targets)  # raises where the last steps have diverged
    losses, pull, kick = scalars.T.cpu().numpy()
    return Stationarity(
        path=Path(
            losses=losses,
            pull=pull,
            kick=kick,
            positions=positions.double().cpu().numpy(),
            sharpness=torch.stack(sharpness).cpu().numpy(),
        ),
        lr=lr,
        momentum=momentum,
        batch_size=batch_size,
        weight_decay=weight_decay,
        eigenvalues=top.eigenvalues + weight_decay,
        converged=top.converged,
        noise=noise,
        frobenius=frobenius,
    )


def heavy_ball_variance(
    curvature: Floats, noise: Floats, *, lr: float, momentum: float = 0.0
) -> Floats:
    """Stationary variance of each coordinate of θ ← θ − ηm, m ← βm + λθ + ξ, exact in η.

    Args:
        curvature: λ, 0 < ηλ < 2(1 + β).
        noise: Var ξ, independent from step to step.
    """
    plus, minus = 1 + momentum, 1 - momentum
    variance: Floats = lr * noise * plus / (curvature * minus * (2 * plus - lr * curvature))
    return variance


def passes(
    *, k: int, burn_in: int, steps: int, batch_size: int, replacement: bool, images: int
) -> float:
    """Forward-and-backward passes over all ``images`` that the probes see.

    An eigenvalue takes about 8 products of 2, its noise one more of 2.
    """
    return (burn_in + steps) * batch_size / images + 18.0 * k + 2.0 * TAIL_VECTORS


class _Sgd:
    """SGD with heavy-ball momentum as ``torch.optim.SGD`` has it, over one flat vector."""

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        theta: Tensor,
        lr: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        self.network, self.loss, self.theta = network, loss, theta
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.parameters = list(network.parameters())
        self.buffer = torch.zeros_like(theta)

    def gradient(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of a batch, and g, (p,), weight decay included."""
        value = self.loss(self.network(inputs), targets)
        slopes = torch.autograd.grad(value, self.parameters)
        return value.detach(), parameters_to_vector(slopes) + self.weight_decay * self.theta

    @torch.no_grad()
    def _move(self, gradient: Tensor) -> None:
        self.buffer.mul_(self.momentum).add_(gradient)
        self.theta.add_(self.buffer, alpha=-self.lr)

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """One step; the loss before it, θ·g and ‖m‖², (3,) float64."""
        value, gradient = self.gradient(inputs, targets)
        pull = self.theta.double() @ gradient.double()
        self._move(gradient)
        return torch.stack((value.double(), pull, self.buffer.double().square().sum()))

    def sharpness(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """gᵀH_B g and ‖g‖² of a batch, (2,) float64; H_B is the Hessian of its loss.

        Raises ValueError where SGD has diverged.
        """
        value, gradient = self.gradient(inputs, targets)
        if not bool(torch.isfinite(value)):
            raise ValueError(f"SGD diverged at a learning rate of {self.lr:g}")
        product = HessianOperator(self.network, self.loss, [(inputs, targets)]).matvec(gradient)
        g, squared = gradient.double(), gradient.double().square().sum()
        return torch.stack((g @ product.double() + self.weight_decay * squared, squared))


def _batches(
    images: int, batch_size: int, replacement: bool, seed: int, device: torch.device
) -> Iterator[Tensor]:
    """Indices of each batch, without end, drawn on the CPU: the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        if replacement:
            yield torch.randint(images, (batch_size,), generator=generator).to(device)
        else:
            order = torch.randperm(images, generator=generator).to(device)
            yield from order[: images // batch_size * batch_size].split(batch_size)


def _curvature(
    network: nn.Module, loss: Loss, batches: Batches, k: int, seed: int
) -> tuple[LanczosResult, Floats, float]:
    """Leading eigenpairs of H, v_iᵀΣv_i of each, and ‖H‖_F.

    ‖H‖_F² = Σλ_i² over them + E‖PHz‖², with P the projection off them and z random signs.
    """
    hessian = HessianOperator(network, loss, batches)
    top = lanczos(hessian, k, TOL, seed=seed, eigenvectors=True)
    vectors = top.eigenvectors
    assert vectors is not None
    covariance = GradientCovariance(network, loss, batches)
    noise = [float(v.double() @ covariance.matvec(v).double()) for v in vectors]
    generator = torch.Generator().manual_seed(seed)
    tail = 0.0
    for _ in range(TAIL_VECTORS):
        signs = torch.randint(2, (hessian.size,), generator=generator) * 2 - 1
        product = hessian.matvec(signs.to(vectors))
        tail += float((product - vectors.T @ (vectors @ product)).double().square().sum())
    squared = float(np.square(top.eigenvalues).sum()) + tail / TAIL_VECTORS
    return top, np.array(noise), math.sqrt(squared)


def _jackknife(statistic: Callable[[NDArray[np.intp]], float], length: int) -> tuple[float, float]:
    """``statistic`` of all places 0 … length − 1, and its standard error, a block left out each."""
    places = np.arange(length)
    block = places * BLOCKS // length
    without = np.array([statistic(places[block != b]) for b in range(BLOCKS)])
    spread = (BLOCKS - 1) / BLOCKS * np.square(without - without.mean()).sum()
    return statistic(places), math.sqrt(spread)
