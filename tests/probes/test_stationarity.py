"""SGD continued on quadratics, where its stationary law is known exactly."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from landscape_sweep.probes.stationarity import Stationarity, heavy_ball_variance, stationarity

BATCH, LR, IMAGES = 5, 0.1, 200
CURVATURE = np.geomspace(0.5, 8.0, 8)


class Shift(nn.Module):
    """Outputs θ − x, so that ½Σ_j λ_j (θ_j − x_j)² has Hessian diag(λ) at every sample."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.full((len(CURVATURE),), start, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.theta - inputs


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs.square() @ torch.from_numpy(CURVATURE)).mean()


def images(power: float) -> Tensor:
    """(n, d) with mean 0 and such a covariance that Σ = diag(λ^power), exactly over the n."""
    x = torch.randn(
        IMAGES, len(CURVATURE), generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    x -= x.mean(0)
    root = torch.linalg.cholesky(x.T @ x / IMAGES)
    white = torch.linalg.solve_triangular(root, x.T, upper=False).T
    return white * torch.from_numpy(CURVATURE) ** (power / 2 - 1)


@functools.cache
def continued(
    power: float,
    momentum: float = 0.0,
    *,
    steps: int = 4000,
    burn_in: int = 200,
    start: float = 0.0,
    replacement: bool = True,
    weight_decay: float = 0.0,
    centre: float = 0.0,
) -> Stationarity:
    """SGD at ½Σ_j λ_j (θ_j − μ)² with noise diag(λ^power); μ is ``centre``."""
    x, y = images(power) + centre, torch.zeros(IMAGES)
    return stationarity(
        Shift(start).eval(),
        loss,
        [(x[:50], y[:50]), (x[50:], y[50:])],
        draw=lambda chosen: (x[chosen], y[chosen]),
        train_images=IMAGES,
        batch_size=BATCH,
        lr=LR,
        momentum=momentum,
        weight_decay=weight_decay,
        k=len(CURVATURE),
        burn_in=burn_in,
        steps=steps,
        replacement=replacement,
    )


def second_moments(curvature: float, noise: float, momentum: float) -> np.ndarray:
    """Stationary covariance of (θ, m) under θ ← θ − ηm, m ← βm + λθ + ξ, as a linear system."""
    A = np.array([[1 - LR * curvature, -LR * momentum], [curvature, momentum]])
    b = np.array([-LR, 1.0])
    flat = np.linalg.solve(np.eye(4) - np.kron(A, A), noise * np.outer(b, b).ravel())
    return flat.reshape(2, 2)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_heavy_ball_variance_is_the_fixed_point_of_its_recursion(momentum: float) -> None:
    """Var = (ησ²/B)(1+β)/(λ(1−β)(2(1+β)−ηλ)), near the edge of stability too."""
    curvature = np.array([1e-3, 0.7, 1.9 * (1 + momentum) / LR])
    exact = [second_moments(c, 3.0, momentum)[0, 0] for c in curvature]
    found = heavy_ball_variance(curvature, np.full(3, 3.0), lr=LR, momentum=momentum)
    np.testing.assert_allclose(found, exact, rtol=1e-8)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_fluctuation_dissipation_relation_is_exact_on_a_quadratic(momentum: float) -> None:
    """⟨θ·g⟩ = Σ λ Var(θ) equals (1+β)(η/2)⟨‖m‖²⟩, by the exact second moments."""
    moments = [second_moments(c, c**1.5, momentum) for c in CURVATURE]
    pull = sum(c * V[0, 0] for c, V in zip(CURVATURE, moments, strict=True))
    kick = sum(V[1, 1] for V in moments)
    assert pull == pytest.approx((1 + momentum) * LR / 2 * kick, rel=1e-10)


@pytest.mark.parametrize(("power", "momentum"), [(0.0, 0.0), (1.0, 0.0), (2.0, 0.5)])
def test_weights_vary_as_the_exact_law_has_it(power: float, momentum: float) -> None:
    found = continued(power, momentum)
    curvature = CURVATURE[::-1]
    np.testing.assert_allclose(found.eigenvalues, curvature, rtol=1e-4)
    # Σ of the probe has the divisor n − 1; batches drawn with replacement see the divisor n.
    np.testing.assert_allclose(found.noise * (IMAGES - 1) / IMAGES, curvature**power, rtol=1e-3)
    exact = heavy_ball_variance(curvature, curvature**power / BATCH, lr=LR, momentum=momentum)
    relaxations = LR * curvature * 4000 / (1 - momentum)
    deviation = 4 * np.sqrt(2 / relaxations) + 2 / relaxations
    assert (np.abs(found.variances / exact - 1) < deviation).all()
    assert found.variance_ratio == pytest.approx(1, abs=0.1)
    expected = np.polyfit(np.log(curvature), np.log(exact), 1)[0]
    slope, se = found.variance_slope
    assert 0 < se < 0.06
    assert abs(slope - expected) < 4 * se
    assert found.noise_slope == pytest.approx(power, abs=1e-3)
    assert found.fdr_ratio[0] == pytest.approx(1, abs=max(4 * found.fdr_ratio[1], 0.01))
    assert abs(found.loss_drift[0]) < 4 * found.loss_drift[1]


def test_the_ratio_tells_how_far_the_weights_went() -> None:
    """With β = 0 it is 1 − Δ‖θ‖²/(η²Σ‖g‖²), far from 1 while weights still go somewhere."""
    found = continued(1.0, start=30.0, burn_in=0, steps=40)
    first, last = found.path.positions[[1, -1]]
    start = -30 * np.sign(first)  # along each eigenvector, up to whose sign all weights are 30
    gained = float(np.square(start + last).sum() - np.square(start).sum())
    kicks = LR**2 * found.path.kick[:-1].sum()
    pull, kick = found.path.pull[:-1].mean(), found.path.kick[:-1].mean()
    assert pull / (LR / 2 * kick) == pytest.approx(1 - gained / kicks, rel=1e-6)
    assert found.fdr_ratio[0] > 1.5
    assert found.loss_drift[0] < -0.5


def variance_in_epochs(curvature: float, noise: float) -> float:
    """Exact mean variance where an epoch's M batches are parts of one permutation.

    Their means then have variance (S²/B)(1 − B/n) and covariance −1/(M − 1) of it, S² being the
    (n − 1)-normalised variance; epochs are independent.
    """
    M, shrink = IMAGES // BATCH, 1 - LR * curvature
    variance = noise * IMAGES / (IMAGES - 1) / BATCH * (1 - BATCH / IMAGES)
    C = variance * (np.eye(M) * M - np.ones((M, M))) / (M - 1)
    weights = [
        LR * np.concatenate([shrink ** np.arange(t)[::-1], np.zeros(M - t)]) for t in range(M + 1)
    ]
    added = np.array([w @ C @ w for w in weights])
    at_start = added[M] / (1 - shrink ** (2 * M))
    return float(np.mean(shrink ** (2 * np.arange(M)) * at_start + added[:M]))


def test_epochs_leave_slow_directions_almost_at_rest() -> None:
    """Without replacement an epoch's noise sums to zero: steps at ηλ below B/n undo each other."""
    found = continued(1.0, replacement=False)
    exact = np.array([variance_in_epochs(c, c) for c in CURVATURE[::-1]])
    relaxations = LR * CURVATURE[::-1] * 4000
    assert (np.abs(found.variances / exact - 1) < 4 * np.sqrt(2 / relaxations)).all()
    drawn = heavy_ball_variance(CURVATURE[::-1], CURVATURE[::-1] / BATCH, lr=LR)
    assert (exact / drawn)[-1] < 0.5
    assert found.variance_slope[0] > 0.2  # where independent batches give 0


def test_batch_sharpness_and_norm_of_a_quadratic() -> None:
    """⟨gᵀHg⟩/⟨‖g‖²⟩ with ⟨g_j²⟩ = λ_j²Var_j + Σ_jj/B, by the exact law."""
    found = continued(1.0)
    noise = CURVATURE / BATCH
    squared = CURVATURE**2 * heavy_ball_variance(CURVATURE, noise, lr=LR) + noise
    value, se = found.batch_sharpness
    assert abs(value - float(CURVATURE @ squared / squared.sum())) < 4 * se
    assert se < 0.1 * value
    assert found.frobenius == pytest.approx(np.linalg.norm(CURVATURE), rel=1e-5)


def test_weight_decay_is_part_of_the_basin() -> None:
    """And not of the noise: Σ = diag(λ) is proportional to the Hessian of the loss alone."""
    found = continued(1.0, weight_decay=0.5)
    curvature = CURVATURE[::-1] + 0.5
    np.testing.assert_allclose(found.eigenvalues, curvature, rtol=1e-4)
    assert found.variance_ratio == pytest.approx(1, abs=0.1)
    assert found.noise_slope == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_ratio_is_1_where_weight_decay_holds_weights_away_from_0(momentum: float) -> None:
    """At rest at λμ/(λ + w) ≠ 0, where loss and decay pull in opposite directions all the time.

    Exactly: ⟨θ·g⟩ = Σ (λ + w) Var(θ), as the mean of g is 0, by the moments of the decayed basin.
    Without the decay in g it would be Σ (λ Var(θ) + λ(θ̄ − μ)θ̄), which is negative.
    """
    decay, centre = 0.5, 2.0
    found = continued(1.0, momentum, weight_decay=decay, centre=centre)
    moments = [second_moments(c + decay, c / BATCH, momentum) for c in CURVATURE]
    pull = sum((c + decay) * V[0, 0] for c, V in zip(CURVATURE, moments, strict=True))
    kick = sum(V[1, 1] for V in moments)
    assert pull == pytest.approx((1 + momentum) * LR / 2 * kick, rel=1e-10)
    assert found.path.kick.mean() == pytest.approx(kick, rel=0.05)
    ratio, se = found.fdr_ratio
    assert se < 0.05
    assert ratio == pytest.approx(1, abs=4 * se)


def test_frobenius_norm_and_noise_of_a_network_are_those_of_dense_matrices() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)).double().eval()
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randint(3, (30,))
    before = copy.deepcopy(model.state_dict())
    found = stationarity(
        model,
        cross_entropy,
        [(x, y)],
        draw=lambda chosen: (x[chosen], y[chosen]),
        train_images=30,
        batch_size=4,
        lr=0.1,
        k=20,
        burn_in=0,
        steps=20,
    )
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    names = [name for name, _ in model.named_parameters()]
    sizes = [p.numel() for p in model.parameters()]

    def of(theta: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        parts = zip(names, theta.split(sizes), model.parameters(), strict=True)
        values = {name: part.view_as(p) for name, part, p in parts}
        return cross_entropy(torch.func.functional_call(model, values, (inputs,)), targets)

    theta = nn.utils.parameters_to_vector(model.parameters()).detach()
    H = torch.func.hessian(of)(theta, x, y)
    assert found.frobenius == pytest.approx(float(torch.linalg.matrix_norm(H)), rel=0.02)
    values, vectors = torch.linalg.eigh(H)
    gradients = torch.func.vmap(torch.func.grad(of), (None, 0, 0))(theta, x[:, None], y[:, None])
    noise = (torch.cov(gradients.T) @ vectors * vectors).sum(0).flip(0)[:5]
    np.testing.assert_allclose(found.noise[:5], noise, rtol=1e-2)
    np.testing.assert_allclose(found.eigenvalues[:5], values.flip(0)[:5], rtol=1e-3)


def test_directions_beyond_the_edge_of_stability_have_no_expected_variance() -> None:
    """Around the final weights of a network ηλ may be above 2 for a while; a basin has none."""
    found = continued(1.0)
    beyond = found.eigenvalues.copy()
    beyond[0] = 2.5 / LR
    assert replace(found, eigenvalues=beyond).variance_ratio == pytest.approx(1, abs=0.1)
    beyond[:] = 2.5 / LR
    assert np.isnan(replace(found, eigenvalues=beyond).variance_ratio)


def test_too_few_steps_and_divergence_are_told() -> None:
    with pytest.raises(ValueError, match="steps=10"):
        continued(1.0, steps=10)
    with pytest.raises(ValueError, match="diverged"):
        continued(1.0, steps=500, burn_in=0, start=1.0, weight_decay=100.0)  # ηw = 10


def test_directions_that_had_no_time_to_relax_do_not_count() -> None:
    found = continued(1.0, steps=300, burn_in=0)
    assert (found.counted == (LR * found.eigenvalues * 300 >= 100)).all()
    assert 0 < found.counted.sum() < 5
    assert "stationarity/variance_slope" not in found.metrics()
    assert found.metrics()["stationarity/directions"] == found.counted.sum()
