"""Profiles against polynomials whose slopes and curvatures are known, and dense Hessians."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from landscape_sweep import models
from landscape_sweep.curvature import HessianOperator
from landscape_sweep.probes import profile
from landscape_sweep.probes.forward import Moved
from landscape_sweep.probes.measurement import Batches
from landscape_sweep.probes.planes import weights


class Point(nn.Module):
    """A "network" whose output is its parameter, whatever the input."""

    def __init__(self, *theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.theta.expand(len(inputs), -1)


ONE: Batches = [(torch.zeros(3, 1), torch.zeros(3)), (torch.zeros(2, 1), torch.zeros(2))]
A = torch.tensor([[2.0, 0.5, 0.0], [0.5, -1.0, 0.0], [0.0, 0.0, 4.0]])
b = torch.tensor([0.25, -0.5, 0.125])


def quadratic(theta: Tensor, _: Tensor) -> Tensor:
    """½θᵀAθ + bᵀθ, the mean over a batch."""
    return (0.5 * ((theta @ A.to(theta)) * theta).sum(1) + theta @ b.to(theta)).mean()


def net(activation: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), activation, nn.Linear(16, 3)).eval()


@pytest.fixture
def batches() -> Batches:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 4, generator=generator)
    return [(x[:40], torch.arange(40) % 3), (x[40:], torch.arange(20) % 3)]


def test_a_quadratic_is_its_own_profile() -> None:
    model = Point(0.5, -1.0, 0.25)
    found = profile(model, quadratic, ONE, points=5, eigenvectors=1, random=1, rise=0.5)
    theta = model.theta.detach().double()
    gradient = A.double() @ theta + b.double()
    values, vectors = torch.linalg.eigh(A.double())
    assert [line.name for line in found.lines] == ["gradient", "eigenvector_1", "random_1"]
    along = found.lines[0]
    d = gradient / gradient.norm()
    assert along.slope == pytest.approx(float(gradient.norm()), rel=1e-12)
    assert along.product == pytest.approx(float(d @ A.double() @ d), rel=1e-12)
    assert along.curvature == pytest.approx(along.product, rel=1e-6)
    np.testing.assert_allclose(along.loss, along.quadratic, rtol=1e-5)
    assert found.lines[1].product == pytest.approx(float(values[-1]), rel=1e-6)
    assert abs(found.lines[1].slope) == pytest.approx(abs(float(vectors[:, -1] @ gradient)))
    for line in found.lines:
        assert line.relative_difference < 1e-5
        reach = min(line.distance[-1], float(theta.norm()))
        rise = abs(line.slope) * reach + 0.5 * abs(line.product) * reach**2
        assert rise == pytest.approx(0.5) or reach == pytest.approx(float(theta.norm()))
        assert line.loss[2] == float(quadratic(model.theta.detach()[None], theta))
    assert found.notes() == []


def test_a_smooth_network_has_the_curvature_of_its_dense_hessian(batches: Batches) -> None:
    model = net(nn.Tanh())
    before = copy.deepcopy(model.state_dict())
    found = profile(model, cross_entropy, batches, points=3)
    assert [line.name for line in found.lines] == [
        *("gradient", "eigenvector_1", "eigenvector_2", "random_1", "random_2")
    ]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    smooth = copy.deepcopy(model).double()
    x = torch.cat([x for x, _ in batches]).double()
    y = torch.cat([y for _, y in batches])
    theta = parameters_to_vector(smooth.parameters()).detach()

    def of(vector: Tensor) -> Tensor:
        parts = vector.split([p.numel() for p in smooth.parameters()])
        shaped = [v.view_as(p) for v, p in zip(parts, smooth.parameters(), strict=True)]
        names = [name for name, _ in smooth.named_parameters()]
        values = dict(zip(names, shaped, strict=True))
        return cross_entropy(torch.func.functional_call(smooth, values, (x,)), y)

    H = torch.func.hessian(of)(theta)
    g = torch.func.grad(of)(theta)
    d = g / g.norm()
    assert found.lines[0].product == pytest.approx(float(d @ H @ d), rel=1e-9)
    top = torch.linalg.eigvalsh(H).flip(0)
    for line, value in zip(found.lines[1:3], top, strict=False):
        assert line.product == pytest.approx(float(value), rel=1e-3)
    for line in found.lines:
        assert line.relative_difference < 1e-5
    # Every point is the loss of a network moved by hand, here at the far end of the gradient.
    end = found.lines[0].distance[-1]
    assert found.lines[0].loss[-1] == pytest.approx(float(of(theta + end * d)), rel=1e-5)


def test_kinks_are_reported_where_a_step_crosses_them(batches: Batches) -> None:
    """|θ| has vᵀHv = 0 at θ = 0.1, but a second difference of 2 (h − 0.1) / h² beyond 0.1."""
    found = profile(
        Point(0.1), lambda theta, _: theta.abs().mean(), ONE, points=3, eigenvectors=0, random=0
    )
    (line,) = found.lines
    h = line.steps
    np.testing.assert_allclose(
        line.differences, np.where(h > 0.1, 2 * (h - 0.1) / h**2, 0.0), atol=1e-5
    )
    assert line.product == 0.0
    relu = profile(net(nn.ReLU()), cross_entropy, batches, points=3, eigenvectors=1, random=0)
    first = relu.lines[1]
    coarse = abs(first.differences[0] / first.product - 1)
    assert coarse > 0.01  # long steps see the kinks
    assert first.relative_difference < coarse / 10  # short ones between them do not


def convolutional(name: str, activation: type[nn.Module], norm: str, images: Batches) -> nn.Module:
    """A network of the project, briefly trained, smooth where the activation is not ReLU."""
    torch.manual_seed(0)
    model = models.build(name, shape=(3, 8, 8), classes=10, width=4, norm=norm)
    for parent in list(model.modules()):
        for child, module in list(parent.named_children()):
            if isinstance(module, nn.ReLU):
                setattr(parent, child, activation())
            elif isinstance(module, nn.MaxPool2d) and activation is not nn.ReLU:
                setattr(parent, child, nn.AvgPool2d(module.kernel_size))
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.05, momentum=0.9)
    for _ in range(15):
        for x, y in images:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval()


def images(*sizes: int) -> Batches:
    generator = torch.Generator().manual_seed(2)
    return [(torch.randn(n, 3, 8, 8, generator=generator), torch.arange(n) % 10) for n in sizes]


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.Softplus])
@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_smooth_convolutional_networks_have_the_curvature_of_their_hessian(
    name: str, activation: type[nn.Module], norm: str
) -> None:
    """Where nothing has a kink the profile is within 1e-6 of vᵀHv, at its chosen step 1e-5."""
    batches = images(20, 10)
    found = profile(
        convolutional(name, activation, norm, batches), cross_entropy, batches, points=3
    )
    assert len(found.lines) == 5
    for line in found.lines:
        # Richardson's extrapolation of two steps takes away the fourth derivative.
        extrapolated = (100 * line.differences[1:] - line.differences[:-1]) / 99
        assert np.min(np.abs(extrapolated / line.product - 1)) < 1e-6
        assert line.relative_difference < 1e-5


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_kinks_alone_part_the_curvature_of_a_relu_network_from_its_hessian(norm: str) -> None:
    """Where no unit turns on or off within a step, the two agree as in a smooth network."""
    batches = images(3)
    model = convolutional("resnet", nn.ReLU, norm, batches)
    found = profile(model, cross_entropy, batches, points=3)
    hessian = HessianOperator(copy.deepcopy(model).double(), cross_entropy, in_double(batches))
    line, direction = found.lines[0], hessian.gradient()
    assert line.name == "gradient"
    moved = Moved(
        copy.deepcopy(model).double(), weights(model).double(), [direction / direction.norm()]
    )
    active: list[Tensor] = []
    for module in moved.model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _, inputs, __: active.append(inputs[0] > 0))

    def pattern(t: float) -> Tensor:
        active.clear()
        moved.to(t)
        moved.model(in_double(batches)[0][0])
        return torch.cat([units.flatten() for units in active])

    at_rest = pattern(0.0)
    smooth = [
        torch.equal(pattern(h), at_rest) and torch.equal(pattern(-h), at_rest)
        for h in line.steps.tolist()
    ]
    assert any(smooth)
    assert not all(smooth)
    off = np.abs(line.differences / line.product - 1)
    assert off[smooth].min() < 1e-6
    assert off[smooth].max() < 1e-3  # the third and fourth derivative, and rounding
    assert off[~np.array(smooth)].max() > 0.1


def in_double(batches: Batches) -> Batches:
    return [(x.double(), y) for x, y in batches]


def test_a_difference_is_said() -> None:
    """At the kink itself the slope jumps by 2, so no step agrees with vᵀHv."""
    found = profile(
        Point(1e-12, 1.0),
        lambda theta, _: theta[:, 0].abs().mean() + 0.5 * (theta[:, 0] ** 2).mean(),
        ONE,
        points=3,
        eigenvectors=1,
        random=0,
    )
    assert any("eigenvector_1: the profile's curvature" in note for note in found.notes())


def test_tables_hold_every_point_and_step(batches: Batches) -> None:
    found = profile(net(nn.Tanh()), cross_entropy, batches, points=5, eigenvectors=0, random=1)
    table = found.tables()["profile/profile.csv"]
    assert table["direction"] == ["gradient"] * 5 + ["random_1"] * 5
    assert table["loss"][5:] == found.lines[1].loss.tolist()
    steps = found.tables()["profile/curvature.csv"]
    assert sum(steps["chosen"][:6]) == 1
    line = found.lines[0]
    assert steps["second_difference"][line.chosen] == line.curvature
    assert found.metrics()["profile/random_1/product"] == found.lines[1].product


@pytest.mark.parametrize("points", [1, 4])
def test_profile_refuses_a_line_without_a_centre(points: int) -> None:
    with pytest.raises(ValueError, match=f"points={points}.*odd"):
        profile(Point(1.0), quadratic, ONE, points=points)
