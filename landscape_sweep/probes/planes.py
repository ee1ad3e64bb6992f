"""Planes in weight space: a centre and two directions, chosen in the ways the field draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from landscape_sweep.curvature import HessianOperator, LanczosResult, lanczos
from landscape_sweep.probes.measurement import Batches, Loss, euclidean_norm

RISE = 4.0
"""Rise of the loss along the leading eigenvector at one unit of its plane: 1 at the half unit that
is the default radius."""

_COLUMNS = 2**20
"""Parameters handled at once in float64."""


@dataclass(frozen=True)
class Mark:
    """Weights that a plane was laid through, as seen in it.

    Attributes:
        name: what they are, for example ``epoch 3``.
        alpha, beta: coordinates of their projection, in parameter space.
        distance: from the plane to the weights themselves.
    """

    name: str
    alpha: float
    beta: float
    distance: float


@dataclass(frozen=True)
class Plane:
    """θ + α d1 + β d2.

    Attributes:
        centre: (p,) θ, all parameters in the model's order.
        first: (p,) d1, of length 1, so that α is a distance in parameter space.
        second: (p,) d2, of length 1.
        labels: what the two axes are called.
        unit: the distance that ``radius`` multiplies: ‖θ‖ where the kind has none of its own.
        marks: weights to be shown in the plane; the grid then reaches over them.
    """

    centre: Tensor
    first: Tensor
    second: Tensor
    labels: tuple[str, str]
    unit: float
    marks: Sequence[Mark] = field(default=())

    @property
    def cosine(self) -> float:
        """d1ᵀd2: 0 up to rounding, but for filter-normalised directions."""
        return float(self.first.double() @ self.second.double())


def weights(model: nn.Module) -> Tensor:
    """All parameters of ``model`` as one vector, (p,), a copy."""
    with torch.no_grad():
        return parameters_to_vector(model.parameters()).detach()


def random_plane(model: nn.Module, *, seed: int = 0) -> Plane:
    """Two Gaussian directions, orthonormal by Gram-Schmidt (framework, section 4.4)."""
    theta = weights(model)
    first, second = orthonormal_directions(theta, seed)
    labels = ("random direction 1", "random direction 2")
    return Plane(theta, first, second, labels, unit=euclidean_norm(theta))


def orthonormal_directions(like: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Two random orthonormal vectors of the shape, dtype and device of ``like``.

    Gaussian vectors, orthogonalised by Gram-Schmidt in float64; drawn on the CPU, so that a seed
    names the same plane on every device.
    """
    first, second = _orthonormal(_gaussian(like, seed))
    return first.to(like), second.to(like)


def filter_plane(model: nn.Module, *, seed: int = 0) -> Plane:
    """Two filter-normalised directions (Li et al. 2018, section 4).

    A Gaussian direction is scaled filter by filter (the weights of one output channel or unit) to
    the norm that the filter has in θ; biases and normalisation layers (all parameters of one
    dimension) are 0 in it. That is the rule of the authors' published code. Both directions have
    then the same length u, which is one relative unit of their figures and ``unit`` here. They
    are almost orthogonal but not quite; the label tells the cosine.
    """
    parameters = list(model.parameters())
    theta = weights(model)
    sizes = [p.numel() for p in parameters]
    directions = []
    for drawn in _gaussian(theta, seed):
        parts = [
            _filter_normalised(part.view(p.shape), p.detach().cpu().double())
            for part, p in zip(drawn.split(sizes), parameters, strict=True)
        ]
        directions.append(torch.cat([part.reshape(-1) for part in parts]))
    unit = euclidean_norm(directions[0])
    if not unit:
        raise ValueError("filter-normalised directions need a weight of two or more dimensions")
    first, second = (d / unit for d in directions)
    labels = (
        f"filter-normalised direction 1 (1 relative unit = {unit:.4g})",
        f"filter-normalised direction 2 (cosine with 1: {float(first @ second):+.4f})",
    )
    return Plane(theta, first.to(theta), second.to(theta), labels, unit)


def _filter_normalised(direction: Tensor, value: Tensor) -> Tensor:
    if value.ndim <= 1:
        return torch.zeros_like(direction)
    rows, filters = direction.flatten(1), value.flatten(1)
    length = filters.norm(dim=1, keepdim=True) / rows.norm(dim=1, keepdim=True)
    scaled: Tensor = rows * length
    return scaled.view_as(direction)


def hessian_plane(model: nn.Module, loss: Loss, batches: Batches, *, seed: int = 0) -> Plane:
    """The eigenvectors of the two largest eigenvalues of the Hessian over ``batches``.

    Parameters that don't require a gradient stay where they are. A label tells the eigenvalue,
    and its relative residual where that is above 1%. ``unit`` is the distance at which the
    quadratic model has risen by ``RISE`` along the first: a share of ‖θ‖ would reach far beyond
    the basin in directions that are this steep.
    """
    found, vectors = leading_eigenvectors(model, loss, batches, 2, seed=seed)
    theta = weights(model)
    first, second = _orthonormal([v.cpu().double() for v in vectors])
    labels = [
        f"eigenvector {rank} (λ = {value:.4g}{'' if done else f', residual {residual:.0%}'})"
        for rank, value, residual, done in zip(
            (1, 2), found.eigenvalues, found.residuals, found.converged, strict=True
        )
    ]
    norm, steepest = euclidean_norm(theta), float(found.eigenvalues[0])
    unit = min(norm, (2 * RISE / steepest) ** 0.5) if steepest > 0 else norm
    return Plane(theta, first.to(theta), second.to(theta), (labels[0], labels[1]), unit)


def leading_eigenvectors(
    model: nn.Module, loss: Loss, batches: Batches, count: int, *, seed: int = 0
) -> tuple[LanczosResult, list[Tensor]]:
    """The largest eigenvalues of the Hessian, and their vectors over all parameters, (p,) each."""
    operator = HessianOperator(model, loss, batches)
    found = lanczos(operator, k=count, tol=1e-2, seed=seed, max_products=200, eigenvectors=True)
    assert found.eigenvectors is not None
    return found, [_embedded(model, operator, v) for v in found.eigenvectors]


def _embedded(model: nn.Module, operator: HessianOperator, vector: Tensor) -> Tensor:
    """An eigenvector over all parameters: 0 where none is differentiated, its largest entry > 0."""
    parts = operator.objective.vector.split(vector)
    moved = dict(zip(operator.objective.vector.names, parts, strict=True))
    whole = parameters_to_vector(
        [moved.get(name, torch.zeros_like(p)) for name, p in model.named_parameters()]
    ).detach()
    return whole if float(whole[whole.abs().argmax()]) > 0 else -whole


def trajectory_plane(path: Sequence[Tensor], *, seed: int = 0) -> Plane:
    """The plane through the last weights that lies closest to the whole training path.

    Principal components of θ_t − θ_T, about the last weights rather than the mean, so that the
    plane holds the trained network (Li et al. 2018, section 7). A label tells the share of
    Σ‖θ_t − θ_T‖² along its axis. High shares are no finding of their own: a random walk in many
    dimensions has them too (Antognini and Sohl-Dickstein 2018). A path of fewer dimensions than
    two is completed by random directions, and the label says so.

    Args:
        path: weights at successive epochs, the trained network last, each (p,).
        seed: of a direction that completes the plane.
    """
    last = path[-1]
    gram = np.zeros((len(path), len(path)))
    for start in range(0, last.numel(), _COLUMNS):
        block = torch.stack([(w[start : start + _COLUMNS]).double() for w in path])
        block -= block[-1].clone()
        gram += (block @ block.T).cpu().numpy()
    values, vectors = np.linalg.eigh(gram)
    total = max(float(values.sum()), np.finfo(float).tiny)
    spanning = [i for i in (-1, -2) if len(path) > -i and values[i] > 1e-9 * values[-1] > 0]
    found = [_combined(vectors[:, i], [w - last for w in path]) for i in spanning]
    labels = [f"principal component {-i} ({values[i] / total:.1%} of variance)" for i in spanning]
    for number in range(len(found), 2):
        found.append(_gaussian(last, seed)[number])
        labels.append("random direction (the path has no more dimensions)")
    first, second = _orthonormal(found)
    begin = (path[0] - last).double().cpu()  # where the path begins, the axes are positive
    first, second = (d if float(d @ begin) >= 0 else -d for d in (first, second))
    plane = Plane(
        last, first.to(last), second.to(last), (labels[0], labels[1]), euclidean_norm(last)
    )
    return _marked(plane, [(f"epoch {t}", w) for t, w in enumerate(path)])


def networks_plane(
    three: Sequence[nn.Module], names: Sequence[str] = ("network 1", "network 2", "network 3")
) -> Plane:
    """The plane through three networks of one architecture; the first is its centre.

    d1 points from the first to the second; d2 is at right angles to it, on the third one's side
    (Garipov et al. 2018, section 3).

    Raises:
        ValueError: not three networks, or three that lie on one line.
    """
    if len(three) != 3:
        raise ValueError(f"a plane through networks takes 3 of them, not {len(three)}")
    theta, second_network, third_network = (weights(m) for m in three)
    sides = [(w - theta).double().cpu() for w in (second_network, third_network)]
    first, second = _orthonormal(sides)
    if not float(second @ sides[1]) > 1e-6 * euclidean_norm(sides[1]):
        raise ValueError("the three networks lie on one line, which is no plane")
    labels = (f"the line from {names[0]} to {names[1]}", f"the normal to {names[2]}")
    plane = Plane(theta, first.to(theta), second.to(theta), labels, euclidean_norm(theta))
    return _marked(plane, [(name, weights(m)) for name, m in zip(names, three, strict=True)])


def _marked(plane: Plane, points: Sequence[tuple[str, Tensor]]) -> Plane:
    """The same plane with the projections of ``points`` on it."""
    marks = []
    for name, point in points:
        offset = (point - plane.centre).double()
        alpha, beta = (float(offset @ d.double()) for d in (plane.first, plane.second))
        rest = offset - alpha * plane.first.double() - beta * plane.second.double()
        marks.append(Mark(name, alpha, beta, euclidean_norm(rest)))
    return Plane(plane.centre, plane.first, plane.second, plane.labels, plane.unit, tuple(marks))


def _combined(coefficients: np.ndarray, vectors: Sequence[Tensor]) -> Tensor:
    """Σ c_i v_i in float64, on the CPU."""
    total = torch.zeros(vectors[0].numel(), dtype=torch.float64)
    for c, vector in zip(coefficients, vectors, strict=True):
        total.add_(vector.cpu(), alpha=float(c))
    return total


def _gaussian(like: Tensor, seed: int) -> Tensor:
    """Two Gaussian vectors of the length of ``like``, (2, p), float64, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, like.numel(), generator=generator, dtype=torch.float64)


def _orthonormal(two: Sequence[Tensor] | Tensor) -> tuple[Tensor, Tensor]:
    """Gram-Schmidt on two float64 vectors; the second is taken twice, against cancellation."""
    first = two[0] / torch.linalg.vector_norm(two[0])
    second = two[1]
    for _ in range(2):
        second = second - (first @ second) * first
        second = second / torch.linalg.vector_norm(second).clamp_min(torch.finfo(torch.double).tiny)
    return first, second
