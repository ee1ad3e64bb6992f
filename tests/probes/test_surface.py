"""Planes against closed forms, hand-moved networks and dense eigenvectors."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import vector_to_parameters
from torch.optim.swa_utils import update_bn

from landscape_sweep.models import build
from landscape_sweep.probes import surface
from landscape_sweep.probes.measurement import Batches
from landscape_sweep.probes.planes import (
    Plane,
    filter_plane,
    hessian_plane,
    networks_plane,
    orthonormal_directions,
    trajectory_plane,
    weights,
)


class Point(nn.Module):
    """A "network" whose output is its parameter, whatever the input."""

    def __init__(self, *theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.theta.expand(len(inputs), -1)


ONE: Batches = [(torch.zeros(3, 1), torch.zeros(3)), (torch.zeros(2, 1), torch.zeros(2))]


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double().eval()


@pytest.fixture
def batches() -> Batches:
    """Twenty samples in uneven batches."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (20,), generator=generator)
    return [(x[:8], y[:8]), (x[8:15], y[8:15]), (x[15:], y[15:])]


def whole(batches: Batches) -> tuple[Tensor, Tensor]:
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


@torch.no_grad()
def scores(model: nn.Module, batches: Batches) -> tuple[float, float]:
    x, y = whole(batches)
    outputs = model(x)
    return float(cross_entropy(outputs, y)), float((outputs.argmax(1) == y).double().mean())


def images(count: int, seed: int = 0) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, 16, 16, generator=generator)
    y = torch.randint(10, (count,), generator=generator)
    return [(x[:40], y[:40]), (x[40:], y[40:])]


# The grid


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_centre_is_the_network_itself(batches: Batches, dtype: torch.dtype) -> None:
    model = net().to(dtype)
    batches = [(x.to(dtype), y) for x, y in batches]
    found = surface(model, cross_entropy, batches, points=5)
    with torch.no_grad():
        losses = [float(cross_entropy(model(x), y)) * len(y) for x, y in batches]
    assert found.alpha[2] == found.beta[2] == 0.0
    assert found.loss[2, 2] == sum(losses) / 20
    assert found.metrics()["surface/centre"] == found.loss[2, 2]


def test_every_point_is_the_loss_at_theta_plus_alpha_d1_plus_beta_d2(batches: Batches) -> None:
    model = net()
    tested = [(x + 1, y) for x, y in batches[:2]]
    keys = {"points": 3, "radius": 0.4, "seed": 7}
    found = surface(model, cross_entropy, batches, test_batches=tested, **keys)
    theta = weights(model)
    reach = 0.4 * float(theta.norm())
    np.testing.assert_allclose(found.alpha, [-reach, 0, reach], rtol=1e-12)
    first, second = orthonormal_directions(theta, 7)
    moved = copy.deepcopy(model)
    assert found.test_loss is not None
    assert found.test_accuracy is not None
    for i, alpha in enumerate(found.alpha):
        for j, beta in enumerate(found.beta):
            at = theta + alpha * first + beta * second
            vector_to_parameters(at, moved.parameters())
            here = found.loss[i, j], found.accuracy[i, j]
            assert here == pytest.approx(scores(moved, batches), rel=1e-12)
            there = found.test_loss[i, j], found.test_accuracy[i, j]
            assert there == pytest.approx(scores(moved, tested), rel=1e-12)
    table = found.tables()["surface/surface.csv"]
    assert table["loss"][1] == found.loss[0, 1]
    assert table["test_accuracy"][1] == found.test_accuracy[0, 1]
    assert (table["alpha"][1], table["beta"][1]) == (found.alpha[0], found.beta[1])
    assert table["beta_label"][1] == "random direction 2"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet", {"width": 4}),
        ("resnet", {"width": 16}),
        ("cnn", {"width": 64}),
        ("resnet", {"width": 3, "norm": "layer", "skip": False}),
        ("resnet", {"width": 2, "norm": "none"}),
        ("cnn", {"width": 4}),
        ("cnn", {"width": 3, "norm": "batch"}),
        ("mlp", {"width": 8, "norm": "layer"}),
    ],
)
def test_the_fast_forward_pass_agrees_with_the_plain_one(
    name: str, options: dict[str, object]
) -> None:
    batches = images(70)
    torch.manual_seed(0)
    model = build(name, shape=(3, 16, 16), classes=10, **options)
    with torch.no_grad():
        model(batches[0][0])  # BatchNorm statistics of its own
    model.eval()
    found = surface(model, cross_entropy, batches, points=3, directions="filter", radius=0.7)
    plane = filter_plane(model)
    moved = copy.deepcopy(model)
    for i, alpha in enumerate(found.alpha):
        for j, beta in enumerate(found.beta):
            at = plane.centre + float(alpha) * plane.first + float(beta) * plane.second
            vector_to_parameters(at, moved.parameters())
            loss, accuracy = scores(moved, batches)
            assert found.loss[i, j] == pytest.approx(loss, rel=1e-4)
            assert found.accuracy[i, j] == pytest.approx(accuracy, abs=1.5 / 70)


@pytest.mark.parametrize("theta", [(0.3, 0.4), (3.0, 4.0)])
def test_the_half_width_of_a_bowl_is_the_radius_at_which_it_has_risen(
    theta: tuple[float, float],
) -> None:
    """½λr² = 0.5 at r = 1/√λ, here with λ = 100 about the centre, in units of ‖θ‖."""
    centre = torch.tensor(theta, dtype=torch.float64)

    def bowl(at: Tensor, _: Tensor) -> Tensor:
        return 2.0 + 50.0 * (at - centre).square().sum(1).mean()

    found = surface(Point(*theta), bowl, ONE, points=41, radius=0.3 / float(centre.norm()))
    expected = 0.1 / float(centre.norm())
    assert found.metrics()["surface/half_width"] == pytest.approx(expected, rel=0.01)


def test_the_half_width_of_a_valley_is_the_median_over_directions() -> None:
    """Along angle φ a valley ½λx² has risen by 0.5 at 1/(√λ |cos φ|)."""

    def valley(at: Tensor, _: Tensor) -> Tensor:
        return 50.0 * (at[:, 0] - 1.0).square().mean()

    plane = Plane(torch.tensor([1.0, 0.0]), torch.eye(2)[0], torch.eye(2)[1], ("", ""), 1.0)
    found = surface(Point(1.0, 0.0), valley, ONE, points=81, radius=0.4, directions=plane)
    angles = 2 * np.pi * np.arange(20) / 20
    assert found.half_width == pytest.approx(np.median(0.1 / np.abs(np.cos(angles))), rel=0.01)


def test_a_basin_beyond_the_grid_has_no_half_width() -> None:
    found = surface(Point(1.0), lambda at, _: at.square().mean(), ONE, points=3, radius=0.01)
    assert "surface/half_width" not in found.metrics()
    assert "larger probe.surface.radius" in found.notes()[0]


def test_surface_keeps_what_is_not_finite() -> None:
    def log(theta: Tensor, _: Tensor) -> Tensor:
        return theta.sum(1).log().mean()  # NaN below 0

    found = surface(Point(0.5, 0.1), log, ONE, points=5, radius=3.0)
    assert np.isnan(found.loss).any()
    assert np.isfinite(found.loss[2, 2])
    assert any(math.isnan(v) for v in found.tables()["surface/surface.csv"]["loss"])


def test_weights_are_as_before_even_after_an_exception(batches: Batches) -> None:
    model, calls = net(), 0
    before = copy.deepcopy(model.state_dict())

    def breaks(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise KeyboardInterrupt
        return cross_entropy(outputs, targets)

    with pytest.raises(KeyboardInterrupt):
        surface(model, breaks, batches, points=5)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("points", [1, 4])
def test_surface_refuses_a_grid_without_a_centre(points: int) -> None:
    with pytest.raises(ValueError, match=f"points={points}.*odd"):
        surface(Point(1.0), lambda theta, _: theta.mean(), ONE, points=points)


def test_surface_refuses_what_it_does_not_know(batches: Batches) -> None:
    with pytest.raises(ValueError, match=r"directions='pca'.*trajectory"):
        surface(net(), cross_entropy, batches, directions="pca")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs the weights along training"):
        surface(net(), cross_entropy, batches, directions="trajectory")
    other = Plane(torch.zeros(2), torch.eye(2)[0], torch.eye(2)[1], ("", ""), 1.0)
    with pytest.raises(ValueError, match="2 parameters for a model of 43"):
        surface(net(), cross_entropy, batches, directions=other)


# The directions


def test_random_directions_are_orthonormal_and_named_by_their_seed() -> None:
    like = torch.zeros(300, dtype=torch.float64)
    first, second = orthonormal_directions(like, 3)
    assert float(first.norm()) == pytest.approx(1, abs=1e-12)
    assert float(second.norm()) == pytest.approx(1, abs=1e-12)
    assert abs(float(first @ second)) < 1e-12
    assert torch.equal(first, orthonormal_directions(like, 3)[0])
    assert not torch.equal(first, orthonormal_directions(like, 4)[0])


def test_filter_normalised_directions_have_the_norms_of_the_filters() -> None:
    torch.manual_seed(0)
    model = build("resnet", shape=(3, 16, 16), classes=10, width=4)
    plane = filter_plane(model, seed=1)
    copies = []
    for direction in (plane.first, plane.second):
        assert float(direction.norm()) == pytest.approx(1, rel=1e-6)
        copies.append(copy.deepcopy(model))
        vector_to_parameters(direction * plane.unit, copies[-1].parameters())
    for copied in copies:
        for direction, value in zip(copied.parameters(), model.parameters(), strict=True):
            if value.ndim == 1:  # biases and BatchNorm
                assert not direction.any()
                continue
            for d, w in zip(direction.detach(), value.detach(), strict=True):
                assert float(d.norm()) == pytest.approx(float(w.norm()), rel=1e-5)
    cosine = float(plane.first.double() @ plane.second.double())
    assert plane.cosine == cosine
    assert 1e-6 < abs(cosine) < 0.1
    assert f"{cosine:+.4f}" in plane.labels[1]


def test_filter_normalised_radius_is_in_relative_units(batches: Batches) -> None:
    model = net()
    filters = [p for p in model.parameters() if p.ndim > 1]
    unit = math.sqrt(sum(float((p.detach() ** 2).sum()) for p in filters))
    found = surface(model, cross_entropy, batches, points=3, radius=1.0, directions="filter")
    assert found.alpha[-1] == pytest.approx(unit, rel=1e-12)


def test_hessian_directions_are_the_leading_eigenvectors(batches: Batches) -> None:
    model = net()
    model[0].bias.requires_grad_(False)
    plane = hessian_plane(model, cross_entropy, batches)
    free = [n for n, p in model.named_parameters() if p.requires_grad]
    x, y = whole(batches)

    def of(*values: Tensor) -> Tensor:
        return cross_entropy(
            torch.func.functional_call(model, dict(zip(free, values, strict=True)), (x,)), y
        )

    parts = tuple(p.detach() for p in model.parameters() if p.requires_grad)
    blocks = torch.autograd.functional.hessian(of, parts)
    dense = torch.cat(
        [
            torch.cat([b.reshape(p.numel(), -1) for b in row], 1)
            for p, row in zip(parts, blocks, strict=True)
        ]
    )
    values, vectors = torch.linalg.eigh(dense)
    kept = torch.cat([torch.full((p.numel(),), p.requires_grad) for p in model.parameters()])
    for direction, rank in ((plane.first, -1), (plane.second, -2)):
        assert not direction[~kept].any()
        assert abs(float(direction[kept] @ vectors[:, rank])) == pytest.approx(1, abs=1e-3)
    assert abs(plane.cosine) < 1e-12
    assert f"λ = {float(values[-1]):.4g}" in plane.labels[0]
    assert plane.unit == pytest.approx(float(plane.centre.norm()))  # nothing rises by 4 before
    steep = hessian_plane(model, lambda outputs, y: 50 * cross_entropy(outputs, y), batches)
    assert 0.5 * 50 * float(values[-1]) * steep.unit**2 == pytest.approx(4, rel=1e-3)


def test_trajectory_directions_are_the_singular_vectors_of_the_path(batches: Batches) -> None:
    model = net()
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(6, 43, generator=generator, dtype=torch.float64)
    path = [*(weights(model) + steps.cumsum(0).flip(0)), weights(model)]
    found = surface(model, cross_entropy, batches, points=7, directions="trajectory",
                    trajectory=path)  # fmt: skip
    offsets = torch.stack(path) - path[-1]
    _, singular, right = torch.linalg.svd(offsets, full_matrices=False)
    shares = singular**2 / (singular**2).sum()
    assert f"{float(shares[0]):.1%}" in found.labels[0]
    assert f"{float(shares[1]):.1%}" in found.labels[1]
    coordinates = np.array([(m.alpha, m.beta) for m in found.marks])
    expected = (offsets @ right[:2].T).numpy()
    np.testing.assert_allclose(np.abs(coordinates), np.abs(expected), atol=1e-10)
    rest = offsets - offsets @ right[:2].T @ right[:2]
    np.testing.assert_allclose([m.distance for m in found.marks], rest.norm(dim=1), atol=1e-10)
    assert coordinates[0].min() > 0
    for axis, along in ((found.alpha, coordinates[:, 0]), (found.beta, coordinates[:, 1])):
        assert axis.min() < along.min() < along.max() < axis.max()
        assert 0.0 in axis
    assert found.loss[found.centre] == pytest.approx(scores(model, batches)[0], rel=1e-12)
    assert found.tables()["surface/marks.csv"]["name"][0] == "epoch 0"


@pytest.mark.parametrize("moments", [1, 2])
def test_a_path_too_short_for_a_plane_is_completed_and_said(moments: int) -> None:
    path = [torch.arange(5.0) + t for t in range(moments)]
    plane = trajectory_plane(path)
    assert plane.labels[1].startswith("random direction")
    assert abs(plane.cosine) < 1e-6
    assert plane.marks[-1].distance == pytest.approx(0, abs=1e-6)


def test_a_plane_through_three_networks_holds_them(batches: Batches) -> None:
    three = [net(seed) for seed in range(3)]
    plane = networks_plane(three)
    vectors = [weights(m) for m in three]
    for mark, vector in zip(plane.marks, vectors, strict=True):
        at = plane.centre + mark.alpha * plane.first + mark.beta * plane.second
        torch.testing.assert_close(at, vector, rtol=0, atol=1e-12)
        assert mark.distance < 1e-12
    assert plane.marks[1].alpha == pytest.approx(float((vectors[1] - vectors[0]).norm()))
    assert abs(plane.marks[1].beta) < 1e-12
    assert plane.marks[2].beta > 0
    found = surface(three[0], cross_entropy, batches, points=5, directions=plane)
    assert found.loss[found.centre] == pytest.approx(scores(three[0], batches)[0], rel=1e-12)
    with pytest.raises(ValueError, match="on one line"):
        networks_plane([three[0], three[1], three[0]])
    with pytest.raises(ValueError, match="takes 3 of them, not 2"):
        networks_plane(three[:2])


def test_statistics_are_re_estimated_where_asked(batches: Batches) -> None:
    def make(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
        return model.double().eval()

    model = make(0)
    found = surface(model, cross_entropy, batches, points=3, reset=True)
    plane = surface(model, cross_entropy, batches, points=3)
    first, second = orthonormal_directions(weights(model), 0)
    moved = copy.deepcopy(model)
    vector_to_parameters(
        weights(model) + found.alpha[0] * first + found.beta[2] * second, moved.parameters()
    )
    assert plane.loss[0, 2] == pytest.approx(scores(moved, batches)[0], rel=1e-12)
    update_bn(batches, moved)
    assert found.loss[0, 2] == pytest.approx(scores(moved.eval(), batches)[0], rel=1e-12)


def test_a_long_plane_tells_how_far_it_is(batches: Batches) -> None:
    told: list[tuple[int, int]] = []
    progress: Callable[[int, int], None] = lambda done, total: told.append((done, total))  # noqa: E731
    surface(net(), cross_entropy, batches, points=3, progress=progress)
    assert told == [(i, 9) for i in range(1, 10)]
