"""The loss along single lines through the weights, and the curvature that it shows there."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from landscape_sweep.curvature import HessianOperator
from landscape_sweep.probes.forward import Evaluator, Moved
from landscape_sweep.probes.measurement import Batches, Loss, Measurement, Progress, silent
from landscape_sweep.probes.planes import leading_eigenvectors, weights

STEPS = tuple(10.0**-k for k in range(6))
"""Steps of the second difference, as shares of the profile's reach: 1, 0.1, … 1e-5."""

DIFFERS = 0.01
"""A relative difference of the two curvatures above this is said in a note."""


@dataclass(frozen=True)
class Line:
    """L(θ + t d), d of length 1, with its curvature at 0 by two independent ways.

    Attributes:
        name: ``gradient``, ``eigenvector_1`` …, ``random_1`` …
        distance: (points,) t, in parameter space; the middle one is 0.
        loss: (points,) NaN and inf are kept.
        accuracy: (points,) 0 to 1.
        slope: dᵀ∇L(θ), in float64.
        product: dᵀHd by an exact product, in float64.
        steps: (m,) h, distances.
        differences: (m,) [L(h) − 2L(0) + L(−h)] / h², in float64.
    """

    name: str
    distance: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    slope: float
    product: float
    steps: np.ndarray
    differences: np.ndarray

    @property
    def chosen(self) -> int:
        """The step whose second difference agrees best with that of the next shorter step.

        Longer steps see higher derivatives and the kinks of ReLU, shorter ones rounding; dᵀHd
        has no part in the choice.
        """
        changes = np.abs(np.diff(self.differences))
        return int(np.argmin(np.where(np.isfinite(changes), changes, np.inf))) + 1

    @property
    def curvature(self) -> float:
        """The second difference at the ``chosen`` step."""
        return float(self.differences[self.chosen])

    @property
    def relative_difference(self) -> float:
        """|curvature − dᵀHd| / |dᵀHd|."""
        return abs(self.curvature - self.product) / max(abs(self.product), np.finfo(float).tiny)

    @property
    def quadratic(self) -> np.ndarray:
        """L(0) + t dᵀ∇L + ½t² dᵀHd, (points,)."""
        t = self.distance
        middle: float = self.loss[len(t) // 2]
        return middle + self.slope * t + 0.5 * self.product * t**2


@dataclass(frozen=True)
class Profile(Measurement):
    """Lines through one network.

    Attributes:
        lines: the gradient first, then eigenvectors, then random directions.
    """

    lines: Sequence[Line]

    def metrics(self) -> dict[str, float]:
        """``profile/<direction>/…``, in units of the loss over squared distance."""
        found = {}
        for line in self.lines:
            found[f"profile/{line.name}/curvature"] = line.curvature
            found[f"profile/{line.name}/product"] = line.product
            found[f"profile/{line.name}/relative_difference"] = line.relative_difference
        return found

    def tables(self) -> Mapping[str, Mapping[str, Sequence[float | str]]]:
        """``profile/profile.csv``, one row a point; ``profile/curvature.csv``, one a step."""
        points: dict[str, list[float | str]] = {}
        steps: dict[str, list[float | str]] = {}
        for line in self.lines:
            columns = {
                "distance": line.distance,
                "loss": line.loss,
                "accuracy": line.accuracy,
                "quadratic": line.quadratic,
            }
            _append(points, line.name, columns)
            columns = {
                "step": line.steps,
                "second_difference": line.differences,
                "product": np.full(len(line.steps), line.product),
                "chosen": np.arange(len(line.steps)) == line.chosen,
            }
            _append(steps, line.name, columns)
        return {"profile/profile.csv": points, "profile/curvature.csv": steps}

    def notes(self) -> list[str]:
        """Where the profile's curvature is not that of the Hessian."""
        return [
            f"{line.name}: the profile's curvature {line.curvature:.4g} differs from vᵀHv = "
            f"{line.product:.4g} by {line.relative_difference:.1%} at a step of "
            f"{line.steps[line.chosen]:.2g}"
            for line in self.lines
            if line.relative_difference > DIFFERS
        ]


def _append(
    table: dict[str, list[float | str]], name: str, columns: Mapping[str, np.ndarray]
) -> None:
    rows = len(next(iter(columns.values())))
    table.setdefault("direction", []).extend([name] * rows)
    for column, values in columns.items():
        table.setdefault(column, []).extend(values.tolist())


def profile(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    points: int = 21,
    rise: float = 1.0,
    eigenvectors: int = 2,
    random: int = 2,
    seed: int = 0,
    progress: Progress = silent,
) -> Profile:
    """The loss along the gradient, the leading eigenvectors and random directions.

    Args:
        model: in eval mode; it is copied, so its weights are not touched.
        loss: mean loss of a batch.
        batches: the samples over which L is the mean.
        points: points of a line, odd.
        rise: a line reaches as far as |t dᵀ∇L| + ½t²|dᵀHd| = ``rise``, in units of the loss, but
            no farther than ‖θ‖: so each shows its own scale.
        eigenvectors: of the largest eigenvalues of the Hessian.
        random: Gaussian directions of length 1.
        seed: of the random directions and of Lanczos.

    The curvature of each line is measured twice, both in float64 over the same samples: by second
    differences of the loss at steps from the reach down to 1e-5 of it, and by an exact
    Hessian-vector product. In a ReLU network the two differ at every step that crosses a kink,
    where the slope jumps: the product leaves that out, the loss does not.

    Raises:
        ValueError: an even or too small number of points, a loss that is not finite.
    """
    if points < 3 or points % 2 == 0:
        raise ValueError(f"points={points}: takes an odd number ≥ 3")
    model_in_double = copy.deepcopy(model).double().requires_grad_()
    in_double = [(x.double() if x.is_floating_point() else x, y) for x, y in batches]
    hessian = HessianOperator(model_in_double, loss, in_double)
    gradient, theta = hessian.gradient(), weights(model_in_double)
    leading: Sequence[Tensor] = ()
    if eigenvectors:
        _, leading = leading_eigenvectors(model, loss, batches, eigenvectors, seed=seed)
    directions = {
        **_along("gradient", [gradient] if bool(gradient.any()) else []),
        **_along("eigenvector", leading),
        **_along("random", _random(theta, random, seed)),
    }
    evaluations = len(directions) * (points + 2 * len(STEPS))
    lines: list[Line] = []

    def told(done: int) -> None:
        progress(len(lines) * (points + 2 * len(STEPS)) + done, evaluations)

    for name, direction in directions.items():
        slope, product = float(direction @ gradient), float(direction @ hessian.matvec(direction))
        reach = min(_reach(slope, product, rise), float(torch.linalg.vector_norm(theta)))
        steps = reach * np.array(STEPS)
        differences = _second_differences(model_in_double, loss, in_double, direction, steps)
        told(2 * len(STEPS))
        distance = np.linspace(-reach, reach, points)
        distance[points // 2] = 0.0
        at = Moved(model, weights(model), [direction.to(weights(model))])
        evaluate, values = Evaluator(at.model, loss, batches), np.empty((2, points))
        for i, t in enumerate(distance):
            at.to(float(t))
            values[:, i] = evaluate(plain=t == 0)
            told(2 * len(STEPS) + i + 1)
        lines.append(Line(name, distance, values[0], values[1], slope, product, steps, differences))
    return Profile(lines)


def _second_differences(
    model: nn.Module, loss: Loss, batches: Batches, direction: Tensor, steps: np.ndarray
) -> np.ndarray:
    """[L(h) − 2L(0) + L(−h)] / h² for every step h, along a unit ``direction``."""
    at = Moved(model, weights(model), [direction])
    evaluate = Evaluator(at.model, loss, batches)

    def value(t: float) -> float:
        at.to(t)
        return evaluate()[0]

    middle = value(0.0)
    return np.array([(value(h) - 2 * middle + value(-h)) / h**2 for h in steps.tolist()])


def _reach(slope: float, curvature: float, rise: float) -> float:
    """t > 0 at which |slope| t + ½ |curvature| t² = ``rise``; inf where both are 0."""
    root = abs(slope) + math.sqrt(slope**2 + 2 * abs(curvature) * rise)
    return 2 * rise / root if root else math.inf


def _random(like: Tensor, count: int, seed: int) -> Sequence[Tensor]:
    """Gaussian vectors, drawn on the CPU so that a seed names the same ones on every device."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, like.numel(), generator=generator, dtype=torch.float64)
    return list(drawn.to(like.device))


def _along(kind: str, vectors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Directions of length 1 in float64 by their names; those of one kind are numbered."""
    units = [v.double() / torch.linalg.vector_norm(v.double()) for v in vectors]
    names = [kind] if kind == "gradient" else [f"{kind}_{i + 1}" for i in range(len(units))]
    return dict(zip(names, units, strict=False))


def passes(*, points: int, rise: float, eigenvectors: int, random: int) -> float:
    """Forward-and-backward passes over the batches; float64 takes about twice as long."""
    directions = 1 + eigenvectors + random
    return directions * (points / 3 + 2 * 2 * len(STEPS) / 3 + 5) + 150 * bool(eigenvectors)
