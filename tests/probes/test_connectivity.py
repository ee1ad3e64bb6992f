"""Paths between networks against closed forms, hand-made passes and a minimiser of SciPy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn

from landscape_sweep.probes import connectivity
from landscape_sweep.probes.alignment import hidden_units, permuted
from landscape_sweep.probes.bezier import train_bend
from landscape_sweep.probes.connectivity import MEASURES, MODES, Along
from landscape_sweep.probes.measurement import Batches, Loss


class Point(nn.Module):
    """A "network" whose output is its parameter, whatever the input."""

    def __init__(self, *theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.theta.expand(len(inputs), -1)


ONE: Batches = [(torch.zeros(3, 1), torch.zeros(3)), (torch.zeros(2, 1), torch.zeros(2))]


def straight(first: Point, second: Point, loss: Loss, points: int = 5) -> Along:
    found = connectivity(first, second, loss, ONE, modes=["naive"], points=points)
    return found.train["naive"]


def bn_net(seed: int, hidden: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    layers = (nn.Linear(4, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 3))
    model = nn.Sequential(*layers).double()
    model(3 * torch.randn(16, 4, dtype=torch.float64) + seed)  # statistics of its own
    return model.eval()


def samples(seed: int) -> Batches:
    """Twenty samples in uneven batches."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (20,), generator=generator)
    return [(x[:8], y[:8]), (x[8:15], y[8:15]), (x[15:], y[15:])]


@pytest.fixture
def batches() -> Batches:
    return samples(1)


def mean_loss(model: nn.Module, batches: Batches) -> float:
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return float(cross_entropy(model(x), y).detach())


# Barriers


def test_the_barrier_of_a_double_well_is_its_hill() -> None:
    found = straight(Point(-1.0), Point(1.0), lambda x, _: ((x**2 - 1) ** 2).mean())
    x = 2 * found.alpha - 1
    np.testing.assert_allclose(found.loss, (x**2 - 1) ** 2, atol=1e-12)
    assert (found.barrier, found.excess) == pytest.approx((1.0, 1.0))


def test_a_slope_has_the_frameworks_barrier_and_no_excess() -> None:
    found = straight(Point(0.0), Point(1.0), lambda x, _: x.mean())
    assert found.barrier == pytest.approx(1.0)
    assert found.excess == pytest.approx(0.0, abs=1e-12)


def test_two_factorisations_of_one_number_are_half_apart() -> None:
    found = straight(
        Point(1.0, 1.0), Point(-1.0, -1.0), lambda uv, _: (0.5 * (uv.prod(1) - 1) ** 2).mean()
    )
    assert (found.barrier, found.excess) == pytest.approx((0.5, 0.5))


def test_a_quadratic_leaves_the_line_between_its_ends_by_its_curvature() -> None:
    """L(α) − (1 − α)L1 − αL2 = −½α(1 − α)ΔᵀAΔ, so that only negative curvature is a barrier."""
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    A = -(A @ A.T)
    first, second = Point(0.3, -1.0, 2.0), Point(-0.5, 0.4, 1.0)
    found = straight(first, second, lambda x, _: (0.5 * ((x @ A) * x).sum(1) + x[:, 0]).mean(), 7)
    delta = (second.theta - first.theta).detach()
    curvature = float(delta @ A @ delta)
    line = (1 - found.alpha) * found.loss[0] + found.alpha * found.loss[-1]
    expected = -0.5 * found.alpha * (1 - found.alpha) * curvature
    np.testing.assert_allclose(found.loss - line, expected, atol=1e-12)
    assert found.excess == pytest.approx(-curvature / 8)


def test_the_accuracy_drop_is_down_to_the_lowest_point() -> None:
    along = Along(np.linspace(0, 1, 4), np.zeros(4), np.array([0.9, 0.2, 0.4, 0.7]))
    assert along.accuracy_drop == pytest.approx(0.8 - 0.2)


# Networks


def test_the_ends_of_a_path_are_the_networks(batches: Batches) -> None:
    first, second = bn_net(1), bn_net(2)
    found = connectivity(first, second, cross_entropy, batches, points=3).train["naive"]
    assert found.loss[0] == pytest.approx(mean_loss(first, batches), rel=1e-12)
    assert found.loss[-1] == pytest.approx(mean_loss(second, batches), rel=1e-12)


def test_reset_evaluates_with_statistics_of_the_batches(batches: Batches) -> None:
    first, second = bn_net(1), bn_net(2)
    before = copy.deepcopy(first.state_dict())
    found = connectivity(first, second, cross_entropy, batches, points=3, test=samples(2))
    middle = copy.deepcopy(first)
    for p, a, b in zip(middle.parameters(), first.parameters(), second.parameters(), strict=True):
        p.data = (a.data + b.data) / 2
    update_bn(batches, middle)
    reset, naive = found.train["reset"].loss[1], found.train["naive"].loss[1]
    assert reset == pytest.approx(mean_loss(middle, batches), rel=1e-10)
    assert abs(naive - reset) > 1e-3  # so that the test can tell them apart
    # Test images are seen with the statistics of the training images.
    assert found.test["reset"].loss[1] == pytest.approx(mean_loss(middle, samples(2)), rel=1e-10)
    assert all(torch.equal(before[name], value) for name, value in first.state_dict().items())


def test_without_batch_norm_nothing_is_re_estimated(batches: Batches) -> None:
    torch.manual_seed(0)
    first, second = (nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)) for _ in range(2))
    found = connectivity(
        *(first.double(), second.double(), cross_entropy, batches), modes=MODES, bezier_steps=2
    )
    assert set(found.train) == {"naive", "aligned", "bezier"}


def test_a_permuted_copy_is_far_on_the_line_and_at_no_distance_when_aligned() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)).double()
    x = torch.randn(64, 4, dtype=torch.float64)
    y = (x @ torch.randn(4, 3, dtype=torch.float64)).argmax(1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        cross_entropy(net(x), y).backward()
        optimizer.step()
    net.eval()
    twin = permuted(net, [torch.randperm(group.size) for group in hidden_units(net)])
    found = connectivity(net, twin, cross_entropy, [(x, y)], modes=MODES[:4], points=9)
    measured = found.metrics()
    for mode in ("naive", "reset"):
        assert measured[f"connectivity/{mode}/excess"] > 0.1
        assert measured[f"connectivity/{mode}/accuracy_drop"] > 0.05
    for mode in ("aligned", "aligned_reset"):
        assert measured[f"connectivity/{mode}/barrier"] == pytest.approx(0, abs=1e-12)
        assert measured[f"connectivity/{mode}/accuracy_drop"] == 0


def test_the_names_are_those_of_the_design(batches: Batches) -> None:
    found = connectivity(
        *(bn_net(1), bn_net(2), cross_entropy, batches),
        modes=MODES,
        test=samples(2),
        points=3,
        bezier_steps=1,
    )
    assert set(found.metrics()) == {
        f"connectivity/{mode}/{prefix}{measure}"
        for mode in ("naive", "reset", "aligned", "aligned_reset", "bezier")
        for prefix in ("", "test_")
        for measure in ("barrier", "excess", "accuracy_drop")
    }
    assert MEASURES == ("barrier", "excess", "accuracy_drop")
    table = found.tables()["connectivity/aligned.csv"]
    assert table["test_loss"] == found.test["aligned"].loss.tolist()
    assert len(table["alpha"]) == 3


def test_progress_counts_points_and_steps(batches: Batches) -> None:
    seen: list[tuple[int, int]] = []
    connectivity(
        *(bn_net(1), bn_net(2), cross_entropy, batches),
        modes=MODES,
        points=4,
        bezier_steps=6,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i, 5 * 4 + 6) for i in range(1, 27)]


def test_networks_of_two_widths_are_refused_by_what_differs(batches: Batches) -> None:
    with pytest.raises(ValueError, match=r"0\.weight is \(5, 4\) in the first and \(6, 4\)"):
        connectivity(bn_net(1), bn_net(1, hidden=6), cross_entropy, batches)


def test_an_unknown_mode_is_refused(batches: Batches) -> None:
    with pytest.raises(ValueError, match="modes=straight: takes some of naive, reset"):
        connectivity(bn_net(1), bn_net(2), cross_entropy, batches, modes=["straight"])


# Bézier curves


def ring(x: Tensor, _: Tensor) -> Tensor:
    """Zero on the unit circle, 1 at its centre."""
    return (((x**2).sum(1) - 1) ** 2).mean()


def test_the_trained_curve_is_the_best_quadratic_one_around_a_ring() -> None:
    a, b = np.array([1.0, 0.0]), np.array([np.cos(2.0), np.sin(2.0)])
    t = np.linspace(0, 1, 401)[:, None]

    def mean_along(bend: np.ndarray) -> float:
        phi = (1 - t) ** 2 * a + 2 * t * (1 - t) * bend + t**2 * b
        return float(np.mean(((phi**2).sum(1) - 1) ** 2))

    best = minimize(mean_along, (a + b) / 2).x
    first, second = Point(*a), Point(*b)
    trained = train_bend(first, second, ring, ONE, steps=1500, lr=0.03)
    np.testing.assert_allclose(trained.get_parameter("theta").detach(), best, atol=0.02)
    assert (first.theta.tolist(), second.theta.tolist()) == (a.tolist(), b.tolist())
    found = connectivity(
        first, second, ring, ONE, modes=["naive", "bezier"], bezier_steps=1500, points=41
    ).train
    middle = ((a + b) / 2 @ (a + b) / 2 - 1) ** 2
    assert found["naive"].barrier == pytest.approx(middle)
    phi = (1 - t) ** 2 * a + 2 * t * (1 - t) * best + t**2 * b
    highest = (((phi**2).sum(1) - 1) ** 2).max()
    assert found["bezier"].barrier == pytest.approx(highest, abs=0.005)
    assert highest < 0.05 < found["naive"].barrier


def test_no_curve_gets_around_a_hill_that_has_no_way_around() -> None:
    """½(uv − 1)²: every path from (1, 1) to (−1, −1) meets uv = 0, where the loss is ½."""
    found = connectivity(
        *(Point(1.0, 1.0), Point(-1.0, -1.0)),
        lambda uv, _: (0.5 * (uv.prod(1) - 1) ** 2).mean(),
        ONE,
        modes=["bezier"],
        bezier_steps=200,
        points=101,
    ).train["bezier"]
    assert found.barrier >= 0.499


def test_a_curve_between_batch_norm_networks_is_re_estimated_and_keeps_its_ends(
    batches: Batches,
) -> None:
    found = connectivity(
        *(bn_net(1), bn_net(2), cross_entropy, batches),
        modes=["reset", "bezier"],
        points=3,
        bezier_steps=100,
    ).train
    assert found["bezier"].loss[0] == pytest.approx(found["reset"].loss[0], rel=1e-12)
    assert found["bezier"].loss[-1] == pytest.approx(found["reset"].loss[-1], rel=1e-12)
    assert found["bezier"].loss[1] < found["reset"].loss[1]
