"""Sharpness against the exact maximum and mean on quadratics, and its invariances."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from landscape_sweep.probes import sharpness
from landscape_sweep.probes.measurement import Batches


class Point(nn.Module):
    """A "network" whose output is its parameter, whatever the input."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.theta.expand(len(inputs), -1)


ONE: Batches = [(torch.zeros(3, 1), torch.zeros(3)), (torch.zeros(2, 1), torch.zeros(2))]


def quadratic(A: Tensor, b: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """½θᵀAθ + bᵀθ, the mean over a batch."""
    return lambda theta, _: (0.5 * ((theta @ A) * theta).sum(1) + theta @ b).mean()


def symmetric(eigenvalues: list[float], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    Q, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return Q @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ Q.T


def exact_maximum(A: Tensor, g: Tensor, rho: float) -> float:
    """max of gᵀe + ½eᵀAe over ‖e‖ ≤ ρ by the secular equation e = (μI − A)⁻¹g, ‖e‖ = ρ, μ > λmax.

    The hard case is g orthogonal to the top eigenvector, which g = 0 is: then ½ρ²λmax. Where A is
    negative definite the maximum may lie inside the ball (μ = 0).
    """
    values, vectors = np.linalg.eigh(A.numpy())
    slopes = vectors.T @ g.numpy()
    top = max(values[-1], 0.0)
    if np.allclose(slopes, 0):
        return 0.5 * rho**2 * top

    def excess(mu: float) -> float:
        return float(np.linalg.norm(slopes / (mu - values)) - rho)

    if values[-1] < 0 and excess(0.0) < 0:
        e = slopes / -values
    else:
        above = float(np.linalg.norm(slopes)) / rho
        mu = brentq(excess, top + 1e-12 * max(above, 1), top + above + 1, xtol=1e-14)
        e = slopes / (mu - values)
    return float(slopes @ e + 0.5 * e @ (values * e))


SPECTRA = {
    "outliers": [9.0, 7.0, 5.0, *[0.1] * 17],
    "clustered": [float(v) for v in np.linspace(2.9, 3.1, 20)],
    "saddle": [float(v) for v in np.linspace(-4, 4, 20)],
    "peak": [float(v) for v in np.linspace(-4, -1, 20)],
}


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0])
def test_adversarial_is_the_secular_equations_maximum(spectrum: str, slope: float) -> None:
    A = symmetric(SPECTRA[spectrum], seed=3)
    generator = torch.Generator().manual_seed(4)
    g = slope * torch.nn.functional.normalize(
        torch.randn(20, generator=generator, dtype=torch.float64), dim=0
    )
    theta = torch.randn(20, generator=generator, dtype=torch.float64)
    found = sharpness(Point(theta), quadratic(A, g - A @ theta), ONE, rho=0.2, steps=150, draws=0)
    assert found.adversarial is not None
    exact = exact_maximum(A, g, 0.2)
    assert found.adversarial <= exact * (1 + 1e-9) + 1e-14
    assert found.adversarial == pytest.approx(exact, rel=3e-3, abs=1e-12)


def test_the_default_steps_find_the_maximum_of_an_outlier_spectrum() -> None:
    A, zero = symmetric([30.0, 20.0, *[0.5] * 500], seed=0), torch.zeros(502, dtype=torch.float64)
    found = sharpness(Point(zero), quadratic(A, zero), ONE)  # at its minimum: g = 0
    assert found.sam == 0
    assert found.adversarial == pytest.approx(0.5 * 0.05**2 * 30, rel=0.01)


def test_eq_3_of_a_quadratic_is_its_closed_form() -> None:
    A, g = symmetric([2.0, -1.0], seed=1), torch.tensor([0.3, -0.2], dtype=torch.float64)
    theta = torch.tensor([0.7, -1.1], dtype=torch.float64)
    found = sharpness(Point(theta), quadratic(A, g - A @ theta), ONE, rho=0.3)
    unit = g / g.norm()
    assert found.gradient_norm == pytest.approx(float(g.norm()), rel=1e-12)
    assert found.first_order == pytest.approx(0.3 * float(g.norm()), rel=1e-12)
    expected = 0.3 * g.norm() + 0.5 * 0.3**2 * unit @ A @ unit
    assert found.sam == pytest.approx(float(expected), rel=1e-12)


def test_average_of_a_quadratic_is_its_weighted_trace() -> None:
    A = symmetric([3.0, 2.0, -1.0, 0.5, 0.2], seed=2)
    theta = torch.tensor([1.0, -2.0, 0.5, 3.0, -0.1], dtype=torch.float64)
    b = torch.full((5,), 10.0, dtype=torch.float64)  # a gradient that ±u must cancel
    found = sharpness(Point(theta), quadratic(A, b), ONE, sigma=0.3, draws=500, steps=0)
    exact = 0.5 * 0.3**2 * float((theta**2 * A.diagonal()).sum())
    assert found.average is not None
    assert found.average_se is not None
    # Var of ½σ²vᵀAv, v = |θ|⊙u: ½σ⁴‖TAT‖_F² (twice the squared norm of the symmetric matrix / 4).
    T = torch.diag(theta.abs())
    deviation = 0.3**2 * float((T @ A @ T).norm()) / 2**0.5
    assert found.average_se == pytest.approx(deviation / 500**0.5, rel=0.15)
    assert abs(found.average - exact) < 4 * found.average_se


def test_adversarial_is_never_below_eq_3() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
        batches = [(torch.randn(9, 4), torch.randint(3, (9,)))]
        found = sharpness(model, cross_entropy, batches, rho=0.5, steps=3, draws=0)
        assert found.adversarial is not None
        assert found.adversarial >= found.sam


def relu_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()


def bn_net() -> nn.Sequential:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8, eps=1e-14), nn.ReLU(), nn.Linear(8, 3)
    ).double()
    model(3 * torch.randn(64, 4, dtype=torch.float64))
    return model.eval()


def rescaled_relu(model: nn.Sequential, a: float) -> nn.Sequential:
    """w1 → a w1, b1 → a b1, w2 → w2 / a (Dinh et al. 2017): the same function."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other[0].parameters():
            parameter.mul_(a)
        other[2].weight.div_(a)
    return other


def rescaled_bn(model: nn.Sequential, a: float) -> nn.Sequential:
    """Weights before BatchNorm times a; its statistics follow: the same function."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.mul_(a)
        other[1].running_mean.mul_(a)
        other[1].running_var.mul_(a**2)
    return other


@pytest.mark.parametrize(
    ("network", "rescaled"),
    [(relu_net, rescaled_relu), (bn_net, rescaled_bn)],
    ids=["relu", "batch norm"],
)
def test_adaptive_and_average_do_not_see_a_rescaling_that_leaves_the_function(
    network: Callable[[], nn.Sequential],
    rescaled: Callable[[nn.Sequential, float], nn.Sequential],
) -> None:
    model = network()
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    batches = [(x, torch.randint(3, (30,), generator=generator))]
    other = rescaled(model, 7.0)
    torch.testing.assert_close(other(x), model(x), rtol=1e-12, atol=1e-12)
    before = sharpness(model, cross_entropy, batches)
    after = sharpness(other, cross_entropy, batches)
    assert after.adaptive == pytest.approx(before.adaptive, rel=1e-9)
    assert after.average == pytest.approx(before.average, rel=1e-9)
    assert after.adversarial is not None
    # The raw maximum does see it, so the test can tell them apart.
    assert after.adversarial != pytest.approx(before.adversarial, rel=0.05)


def test_what_is_not_asked_for_is_left_out() -> None:
    A, b = torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    found = sharpness(Point(torch.zeros(2).double()), quadratic(A, b), ONE, steps=0, draws=0)
    assert found.metrics() == {
        "sharpness/sam": 0.0,  # 0/0 of eq. 3: no step
        "sharpness/first_order": 0.0,
        "sharpness/gradient_norm": 0.0,
    }


def test_one_draw_has_no_standard_error() -> None:
    A, b = torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    with pytest.raises(ValueError, match="draws=1"):
        sharpness(Point(torch.zeros(2).double()), quadratic(A, b), ONE, draws=1)
