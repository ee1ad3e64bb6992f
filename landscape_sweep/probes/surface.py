"""Loss and accuracy on a plane through the weights (framework, section 4.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.interpolate import RegularGridInterpolator
from torch import Tensor, nn

from landscape_sweep.probes.forward import Evaluator, Moved
from landscape_sweep.probes.measurement import (
    Batches,
    Loss,
    Measurement,
    Progress,
    silent,
)
from landscape_sweep.probes.planes import (
    Mark,
    Plane,
    filter_plane,
    hessian_plane,
    random_plane,
    trajectory_plane,
    weights,
)

Directions = Literal["random", "filter", "hessian", "trajectory"]
"""Planes that one network, or its training path, defines."""

HALF_RISE = 0.5
"""Rise of the loss at which a basin is measured to be half as wide as it is."""

RAYS = 20
"""Directions in the plane along which its half-width is measured."""

MARGIN = 0.15
"""Free space beyond the outermost mark, as a share of the distance between the outermost two."""


@dataclass(frozen=True)
class Surface(Measurement):
    """L(θ + α d1 + β d2) on a grid; NaN and inf are kept.

    Attributes:
        alpha: (points,) distances along d1, in parameter space; one of them is 0.
        beta: (points,) distances along d2.
        loss: (points, points), indexed by alpha, then beta, over the batches.
        accuracy: (points, points), 0 to 1.
        test_loss, test_accuracy: the same over the test batches; None where there were none.
        labels: what the two axes are called.
        cosine: d1ᵀd2.
        marks: weights that the plane was laid through.
        unit: one relative unit in parameter space, as in ``Plane``.
    """

    alpha: np.ndarray
    beta: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    test_loss: np.ndarray | None
    test_accuracy: np.ndarray | None
    labels: tuple[str, str]
    cosine: float
    marks: Sequence[Mark]
    unit: float

    @property
    def centre(self) -> tuple[int, int]:
        """Indices of the grid point that is the network itself."""
        return int(np.argmin(np.abs(self.alpha))), int(np.argmin(np.abs(self.beta)))

    @property
    def half_width(self) -> float:
        """Distance at which the loss is ``HALF_RISE`` above the centre's, in relative units.

        The median over ``RAYS`` evenly spaced directions, bilinear between grid points. A ray on
        which the loss stays lower up to the border counts as infinite; so may the median.
        """
        rise = self.loss - self.loss[self.centre]
        rise = np.where(np.isfinite(rise), rise, 1e6 * HALF_RISE)
        at = RegularGridInterpolator((self.alpha, self.beta), rise)
        reach = min(-self.alpha[0], self.alpha[-1], -self.beta[0], self.beta[-1])
        distances = np.linspace(0, reach, 20 * len(self.alpha))
        angles = 2 * np.pi * np.arange(RAYS) / RAYS
        ends = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        risen = at(distances[:, None, None] * ends) >= HALF_RISE  # (distances, RAYS)
        first = np.where(risen.any(0), distances[risen.argmax(0)], np.inf)
        return float(np.median(first)) / self.unit

    def metrics(self) -> dict[str, float]:
        """The loss at the centre, how far it rises on the grid, and the half-width if inside."""
        centre = self.loss[self.centre]
        found = {
            "surface/centre": float(centre),
            "surface/mean_rise": float(np.mean(self.loss - centre)),
            "surface/max_rise": float(np.max(self.loss - centre)),
        }
        width = self.half_width
        return found | ({"surface/half_width": width} if np.isfinite(width) else {})

    def notes(self) -> list[str]:
        """Whether the grid is too small for the half-width."""
        if self.marks or np.isfinite(self.half_width):
            return []
        return [
            f"the loss rises by less than {HALF_RISE} along half of the directions in the plane: "
            "no half-width; a larger probe.surface.radius would show it"
        ]

    def tables(self) -> dict[str, Mapping[str, Sequence[float | str]]]:
        """``surface/surface.csv``, one row a grid point; ``surface/marks.csv`` where there are."""
        alpha, beta = np.meshgrid(self.alpha, self.beta, indexing="ij")
        columns = {"alpha": alpha, "beta": beta, "loss": self.loss, "accuracy": self.accuracy}
        if self.test_loss is not None and self.test_accuracy is not None:
            columns |= {"test_loss": self.test_loss, "test_accuracy": self.test_accuracy}
        grid: dict[str, Sequence[float | str]] = {k: v.ravel().tolist() for k, v in columns.items()}
        for name, label in zip(("alpha_label", "beta_label"), self.labels, strict=True):
            grid[name] = [label] * alpha.size
        tables: dict[str, Mapping[str, Sequence[float | str]]] = {"surface/surface.csv": grid}
        if self.marks:
            tables["surface/marks.csv"] = {
                "name": [m.name for m in self.marks],
                "alpha": [m.alpha for m in self.marks],
                "beta": [m.beta for m in self.marks],
                "distance": [m.distance for m in self.marks],
            }
        return tables


def surface(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    *,
    points: int = 15,
    radius: float = 0.5,
    directions: Directions | Plane = "random",
    trajectory: Sequence[Tensor] | None = None,
    test_batches: Batches | None = None,
    reset: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> Surface:
    """Evaluate the loss on a plane through the weights of ``model``.

    Args:
        model: in eval mode; it is copied, so its weights are not touched.
        loss: mean loss of a batch.
        batches: the samples over which L is the mean.
        points: grid points a side, odd.
        radius: half side of the square, as a multiple of ‖θ‖; for filter-normalised directions
            in relative units, so that 1 is the square of Li et al.; for eigenvectors of the
            distance at which the quadratic model has risen by 4. A plane with marks reaches over
            these instead.
        directions: ``random`` (orthonormal), ``filter`` (filter-normalised), ``hessian`` (two
            leading eigenvectors), ``trajectory`` (principal components of the training path), or
            any plane, for example ``networks_plane([a, b, c])``.
        trajectory: weights at successive epochs, the trained network last; for ``trajectory``.
        test_batches: evaluated too, where given.
        reset: re-estimate BatchNorm statistics on ``batches`` at every point (as Garipov et al.
            2018 do in planes through several networks). Otherwise they stay the network's own.
        seed: seed of random directions.

    The value at the centre is the network's own, to the last bit; other points agree with
    the plain evaluation to rounding (``Evaluator``).

    Raises:
        ValueError: an even or too small number of points, directions that are not known, a
            trajectory that is missing, or a plane of another size than the model.
    """
    if points < 3 or points % 2 == 0:
        raise ValueError(f"points={points}: takes an odd number ≥ 3")
    plane = _plane(model, loss, batches, directions, trajectory, seed)
    if plane.centre.shape != plane.first.shape or len(plane.centre) != len(weights(model)):
        raise ValueError(
            f"a plane of {len(plane.centre)} parameters for a model of {len(weights(model))}"
        )
    alpha, beta = _axes(plane, points, radius)
    moved = Moved(model, plane.centre, (plane.first, plane.second))
    sets = [batches] if test_batches is None else [batches, test_batches]
    evaluators = [Evaluator(moved.model, loss, part, batches if reset else None) for part in sets]
    values = np.empty((2 * len(sets), points, points))
    for i, a in enumerate(alpha):
        for j, b in enumerate(beta):
            moved.to(float(a), float(b))
            plain = a == 0 and b == 0
            values[:, i, j] = [v for at in evaluators for v in at(plain=plain)]
            progress(i * points + j + 1, points * points)
    tested = test_batches is not None
    return Surface(
        alpha=alpha,
        beta=beta,
        loss=values[0],
        accuracy=values[1],
        test_loss=values[2] if tested else None,
        test_accuracy=values[3] if tested else None,
        labels=plane.labels,
        cosine=plane.cosine,
        marks=plane.marks,
        unit=plane.unit,
    )


def _plane(
    model: nn.Module,
    loss: Loss,
    batches: Batches,
    directions: Directions | Plane,
    trajectory: Sequence[Tensor] | None,
    seed: int,
) -> Plane:
    if isinstance(directions, Plane):
        return directions
    if directions == "random":
        return random_plane(model, seed=seed)
    if directions == "filter":
        return filter_plane(model, seed=seed)
    if directions == "hessian":
        return hessian_plane(model, loss, batches, seed=seed)
    if directions == "trajectory":
        if not trajectory:
            raise ValueError("directions='trajectory' needs the weights along training")
        path = [w.to(weights(model)) for w in trajectory]
        return trajectory_plane([*path[:-1], weights(model)], seed=seed)
    allowed = ", ".join(get_args(Directions))
    raise ValueError(f"directions={directions!r}: takes a plane or one of {allowed}")


def _axes(plane: Plane, points: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Grid coordinates: the square of ``radius``, or a rectangle over all marks."""
    reach = radius * plane.unit
    if not plane.marks:
        return _axis(-reach, reach, points), _axis(-reach, reach, points)
    coordinates = np.array([(m.alpha, m.beta) for m in plane.marks])
    low, high = coordinates.min(0), coordinates.max(0)
    # An axis along which the marks hardly differ still gets some width.
    width = np.maximum(high - low, max(0.1 * float((high - low).max()), 1e-3 * plane.unit))
    low, high = low - MARGIN * width, low + (1 + MARGIN) * width
    return _axis(low[0], high[0], points), _axis(low[1], high[1], points)


def _axis(low: float, high: float, points: int) -> np.ndarray:
    """Evenly spaced over [low, high], moved by up to half a step so that 0 is one of them."""
    step = (high - low) / (points - 1)
    below = min(max(round(-low / step), 0), points - 1)
    return step * (np.arange(points) - below)


def passes(*, points: int, radius: float, directions: Directions) -> float:
    """Forward-and-backward passes over the batches; a forward alone is about a third.

    Once for training and once for test images; the eigenvectors cost products on top.
    """
    return 2 * points * points / 3 + (150 if directions == "hessian" else 0)
