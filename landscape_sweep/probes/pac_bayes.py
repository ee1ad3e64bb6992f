"""Theorem 2 corrected: a PAC-Bayes bound on the error of the perturbed network that holds.

Eq. 10 centres the prior at θ, which the data chose, and eq. 9 has no derivation. Here the prior is
centred at the initial weights, the loss is the 0-1 error, and the union over what is chosen
afterwards is paid for (Langford and Caruana 2002; Dziugaite and Roy 2017):

    E_u err(θ + u) ≤ E_u err_train(θ + u) + √((KL + ln(2√n/δ')) / (2n)),   u ~ N(0, σ²I),

with KL = KL(N(θ, σ²I) ‖ N(θ0, s²I)), by McAllester's theorem in Maurer's form (2004).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from landscape_sweep.probes.folded import folded
from landscape_sweep.probes.measurement import Batches, Loss, Measurement, Progress, silent

WIPED_OUT = 0.95
"""Share of a guess's error from which on a perturbation is said to have left nothing learnt."""

PRIOR_SIGMAS = np.geomspace(1e-5, 10.0, 1000)
"""s, the prior's deviations that the union is over: ln 1000 nats for a KL close to its optimum."""


@dataclass(frozen=True)
class PacBayes(Measurement):
    """The bound at each σ of a grid; all arrays are (sigmas,).

    Attributes:
        sigmas: σ, deviation of each weight's perturbation.
        train_errors: mean training error of the draws.
        test_errors: mean test error of the draws.
        divergences: KL in nats, at the best s of ``PRIOR_SIGMAS``.
        penalties: the square root.
        bounds: on E err: penalty + upper confidence limit of E err_train.
        samples: n.
        chance: training error of always naming the most frequent class.
    """

    sigmas: np.ndarray
    train_errors: np.ndarray
    test_errors: np.ndarray
    divergences: np.ndarray
    penalties: np.ndarray
    bounds: np.ndarray
    samples: int
    chance: float

    @property
    def best(self) -> int:
        """The place of the smallest bound."""
        return int(np.argmin(self.bounds))

    def metrics(self) -> dict[str, float]:
        """``pac_bayes/…`` at the σ of the smallest bound; errors from 0 to 1."""
        columns = {
            "bound": self.bounds,
            "train_error": self.train_errors,
            "test_error": self.test_errors,
            "sigma": self.sigmas,
            "kl": self.divergences,
            "penalty": self.penalties,
        }
        found = {f"pac_bayes/{name}": float(v[self.best]) for name, v in columns.items()}
        return found | {"pac_bayes/chance": self.chance}

    def tables(self) -> dict[str, Mapping[str, Sequence[float]]]:
        """``pac_bayes/sigmas.csv``: one row a σ."""
        columns = {
            "sigma": self.sigmas,
            "train_error": self.train_errors,
            "test_error": self.test_errors,
            "kl": self.divergences,
            "penalty": self.penalties,
            "bound": self.bounds,
        }
        return {"pac_bayes/sigmas.csv": {name: v.tolist() for name, v in columns.items()}}

    def notes(self) -> list[str]:
        """Whether the bound says anything, and whether the grid of σ was wide enough."""
        bound, sigma = float(self.bounds[self.best]), float(self.sigmas[self.best])
        error = float(self.train_errors[self.best])
        found = []
        if bound >= self.chance:
            found.append(
                f"the PAC-Bayes bound {bound:.2f} is vacuous: guessing has the error "
                f"{self.chance:.2f}"
            )
        if error >= WIPED_OUT * self.chance > 0:
            found.append(
                f"the bound is smallest where the perturbation has wiped out what was learnt "
                f"(sigma {sigma:.3g}, training error {error:.2f})"
            )
        if self.best in (0, len(self.sigmas) - 1) and len(self.sigmas) > 1:
            end = "sigma_max" if self.best else "sigma_min"
            found.append(
                f"the bound is smallest at an end of the grid, probe.pac_bayes.{end}={sigma:.3g}: "
                "beyond it may be smaller"
            )
        return found


def pac_bayes(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    initial: nn.Module,
    train_batches: Batches,
    test_batches: Batches,
    sigma_min: float = 1e-3,
    sigma_max: float = 10.0,
    sigmas: int = 13,
    draws: int = 100,
    delta: float = 0.05,
    seed: int = 0,
    progress: Progress = silent,
) -> PacBayes:
    """The bound, and the errors of the perturbed network, over a grid of σ.

    Holds with probability 1 − δ over the training set and the draws: half of δ pays for the
    union over the priors, half for the estimate of E err_train from its draws at all σ. Each draw
    sees one random batch of the training set, so draws are independent values in [0, 1].
    BatchNorm's statistics count as parameters (see ``folded``), for they were learnt too.

    Args:
        model: the trained network; its weights are not changed.
        loss: not used: the bound is on the 0-1 error.
        batches: not used: the bound needs the whole training set.
        initial: the network before training, independent of the training images.
        train_batches: the n training samples, with class indices as targets.
        test_batches: samples on which the perturbed network's test error is estimated.
        sigma_min, sigma_max, sigmas: ends and number of the geometric grid of σ.
        draws: perturbations.
        delta: δ, the probability with which the bound may fail.
        seed: seed of the draws.

    Raises:
        ValueError: networks of different shapes, targets that are not class indices, or bounds
            of the grid out of order.
    """
    if not 0 < sigma_min <= sigma_max:
        raise ValueError(f"sigma_min={sigma_min}, sigma_max={sigma_max}: takes 0 < min <= max")
    moved = folded(model)
    theta = parameters_to_vector(moved.parameters()).detach()
    start = parameters_to_vector(folded(initial).parameters()).detach()
    if theta.shape != start.shape:
        raise ValueError(f"initial has {len(start)} parameters, the network {len(theta)}")
    grid = np.geomspace(sigma_min, sigma_max, sigmas)
    generator = torch.Generator().manual_seed(seed)
    train, test = _Sampler(train_batches, generator), _Sampler(test_batches, generator)
    errors = np.empty((2, sigmas, draws))
    for draw in range(draws):
        noise = torch.randn(theta.shape, generator=generator).to(theta)
        parts = train.draw(), test.draw()
        for i, sigma in enumerate(grid):
            vector_to_parameters(theta + float(sigma) * noise, moved.parameters())
            errors[:, i, draw] = [_error(moved, *part) for part in parts]
        progress(draw + 1, draws)
    train_errors, test_errors = errors.mean(2)
    squared = float((theta.double() - start.double()).square().sum())
    divergences = np.array([_least_divergence(len(theta), float(s), squared) for s in grid])
    n, prior_delta = train.samples, delta / 2 / len(PRIOR_SIGMAS)
    penalties = np.sqrt((divergences + math.log(2 * math.sqrt(n) / prior_delta)) / (2 * n))
    nats = math.log(sigmas / (delta / 2)) / draws
    upper = np.array([kl_inverse(float(e), nats) for e in train_errors])
    labels = torch.cat([targets for _, targets in train_batches])
    chance = 1 - int(labels.bincount().max()) / n
    return PacBayes(
        *(grid, train_errors, test_errors, divergences, penalties, upper + penalties, n, chance)
    )


def divergence(
    parameters: int, sigma: float, prior_sigma: float | np.ndarray, squared_distance: float
) -> np.ndarray:
    """KL(N(θ, σ²I) ‖ N(θ0, s²I)) = ½[p(σ²/s² − 1 − ln σ²/s²) + ‖θ − θ0‖²/s²], in nats.

    Least at s² = σ² + ‖θ − θ0‖²/p, where it is (p/2) ln(1 + ‖θ − θ0‖²/(pσ²)).
    """
    ratio = (sigma / np.asarray(prior_sigma)) ** 2
    found: np.ndarray = 0.5 * (
        parameters * (ratio - 1 - np.log(ratio)) + squared_distance * ratio / sigma**2
    )
    return found


def _least_divergence(parameters: int, sigma: float, squared_distance: float) -> float:
    return float(divergence(parameters, sigma, PRIOR_SIGMAS, squared_distance).min())


def kl_inverse(mean: float, nats: float) -> float:
    """The largest q with kl(mean ‖ q) ≤ nats, kl between coins.

    For the mean of m independent values in [0, 1] and nats = ln(1/δ)/m it is an upper limit of
    their expectation with probability 1 − δ (Chernoff's bound, Langford and Caruana 2002).
    """

    def excess(q: float) -> float:
        miss = (1 - mean) * math.log((1 - mean) / (1 - q)) if mean < 1 else 0.0
        return (mean * math.log(mean / q) if mean > 0 else 0.0) + miss - nats

    almost_one = 1 - 1e-15
    if mean >= almost_one or excess(almost_one) <= 0:
        return 1.0
    return float(brentq(excess, max(mean, 1e-300), almost_one, xtol=1e-15))


class _Sampler:
    """Random batches, each with a chance in proportion to its samples."""

    def __init__(self, batches: Batches, generator: torch.Generator) -> None:
        self._batches, self._generator = batches, generator
        sizes = [len(targets) for _, targets in batches]
        self.samples = sum(sizes)
        self._weights = torch.tensor(sizes, dtype=torch.float64)

    def draw(self) -> tuple[Tensor, Tensor]:
        chosen = torch.multinomial(self._weights, 1, generator=self._generator)
        batch: tuple[Tensor, Tensor] = self._batches[int(chosen)]
        return batch


@torch.no_grad()
def _error(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Share of samples whose largest output is not their class."""
    outputs = model(inputs)
    if outputs.ndim != 2 or targets.is_floating_point():
        raise ValueError("pac_bayes takes outputs (n, classes) and class indices as targets")
    return float((outputs.argmax(1) != targets).double().mean())


def passes(
    *,
    sigma_min: float,
    sigma_max: float,
    sigmas: int,
    draws: int,
    delta: float,
    images: int,
) -> float:
    """Forward-and-backward passes over all ``images`` that the probes see, at 256 a batch."""
    return 2 * sigmas * draws * 256 / images / 3
