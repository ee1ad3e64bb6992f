"""The analytic cases against closed forms (and the numbers that theory gives for them)."""

from __future__ import annotations

import numpy as np
import pytest

from landscape_sweep.claims import counterexamples as cases


def test_theorem_1() -> None:
    # tr = 55, 2 L0/(ηT) = 2 · 27.5 / (0.05 · 1000) = 1.1
    assert cases.descent_on_a_quadratic(1000) == pytest.approx(50)
    assert cases.rescaling_exponent() == pytest.approx(1)
    assert [cases.stationary_slope(k) for k in (0, 1, 2)] == pytest.approx([-1, 0, 1], abs=1e-3)
    noisy, quiet = cases.label_noise_traces((1, 16))
    assert 1.5 < noisy < quiet < 9 + 1 / 9  # from u² + v² at the start towards 2, at u = v = 1
    assert cases.gradient_bound_ratio(100, 8) <= 1


def test_two_factors_of_a_number_lose_their_imbalance_as_theory_says() -> None:
    """½(uv − y)²: Q = u² − v² obeys Q' = Q(1 − η²e²) exactly, tr H = √(Q² + 4(uv)²) at a minimum,
    and with label noise of variance s²/B the imbalance decays at the rate η²s²/B."""
    rng = np.random.default_rng(0)
    lr, variance, chains, steps = 0.02, 0.5, 2000, 1000
    u, v = np.full(chains, 2.0), np.full(chains, 0.5)
    first = u**2 - v**2
    for _ in range(steps):
        before, e = u**2 - v**2, u * v - 1 - rng.normal(scale=variance**0.5, size=chains)
        u, v = u - lr * e * v, v - lr * e * u
        np.testing.assert_allclose(u**2 - v**2, before * (1 - (lr * e) ** 2), rtol=1e-9)
    rate = -np.log((u**2 - v**2) / first).mean() / steps
    assert rate == pytest.approx(
        lr**2 * variance, rel=0.1
    )  # e also has the variance of uv, η small
    u, v = 1.7, 1 / 1.7
    hessian = np.array([[v * v, 2 * u * v - 1], [2 * u * v - 1, u * u]])
    assert np.trace(hessian) == pytest.approx(np.sqrt((u * u - v * v) ** 2 + 4))


def test_the_trace_falls_at_the_rate_that_noise_sets() -> None:
    """Q falls by η²⟨e²⟩ a step; ⟨e²⟩ = (s²/B) 2/(2 − η tr), noise and what it stirs up in uv.

    The latter is the stationary variance of SGD along the one curved direction, λ = tr H.
    """
    lr, batch, steps = 0.1, 64, 400
    Q = 3.0**2 - (1 / 3) ** 2
    for _ in range(steps):
        trace = np.hypot(Q, 2)
        Q *= 1 - lr**2 / batch * 2 / (2 - lr * trace)
    (found,) = cases.label_noise_traces((batch,), steps)
    fallen = 9 + 1 / 9 - np.hypot(Q, 2)
    assert fallen > 0.5
    assert 9 + 1 / 9 - found == pytest.approx(fallen, rel=0.08)


@pytest.mark.parametrize(("d", "batch"), [(3, 4), (10, 2)])
def test_stationary_error_of_gaussian_regression(d: int, batch: int) -> None:
    """E‖θ − θ*‖² = ηs²d/B / (2 − η(1 + (d + 1)/B)) for SGD on fresh Gaussian samples."""
    rng, lr, s, chains = np.random.default_rng(4), 0.2, 0.7, 4000
    error, squared = np.zeros((chains, d)), []
    for step in range(120):
        x = rng.normal(size=(chains, batch, d))
        residual = np.einsum("cbd,cd->cb", x, error) - s * rng.normal(size=(chains, batch))
        error -= lr * np.einsum("cb,cbd->cd", residual, x) / batch
        if step >= 60:  # (1 − η)^120 of the start is left in the square: none
            squared.append(np.square(error).sum(1))
    expected = lr * s**2 * d / batch / (2 - lr * (1 + (d + 1) / batch))
    by_chain = np.mean(squared, axis=0)
    assert abs(by_chain.mean() - expected) < 4 * by_chain.std() / np.sqrt(chains)
    assert by_chain.std() / np.sqrt(chains) < 0.03 * expected


def test_theorem_2() -> None:
    kl = 0.5 * 1e6 * (0.05**2 - 1 - np.log(0.05**2))
    assert cases.eq_10_penalty(1e6, 0.05, 0, 50_000) == pytest.approx(np.sqrt(kl / 1e5))
    assert cases.eq_10_penalty(1e6, 0.05, 0, 50_000) == pytest.approx(5.0, abs=0.01)
    gap, right = cases.memoriser()
    assert gap > 2 * right


def test_proposition_1() -> None:
    for layers, right in ((2, 1.5**4), (6, 1.5**12)):
        weights = cases.orthogonal_layers(layers)
        assert cases.linear_network_condition(weights) == pytest.approx(1)
        assert cases.eq_11(weights) == pytest.approx(right)
    assert cases.worst_upper_bound_ratio() <= 1


def test_the_gram_of_a_linear_network_is_that_of_its_jacobian() -> None:
    rng = np.random.default_rng(1)
    weights = list(rng.normal(size=(3, 3, 3)))
    flat = np.concatenate([W.ravel() for W in weights])

    def outputs(theta: np.ndarray) -> np.ndarray:
        first, second, third = theta.reshape(3, 3, 3)
        return (third @ second @ first).ravel()

    step = 1e-6
    J = np.stack(
        [(outputs(flat + step * e) - outputs(flat - step * e)) / (2 * step) for e in np.eye(27)], 1
    )
    spectrum = np.linalg.eigvalsh(J @ J.T)
    condition = cases.linear_network_condition(weights)
    assert condition == pytest.approx(spectrum[-1] / spectrum[0], rel=1e-4)


def test_proposition_2() -> None:
    assert cases.regression_rank(10, 20, 3) == 30
    assert cases.softmax_rank(10, 20, 3) == 20


def test_scale_is_not_function() -> None:
    assert cases.rescaled_correlation() == pytest.approx((-0.8, 1.0))
    assert cases.normalised_trace_ratio(10.0) == pytest.approx(0.01, rel=1e-4)
    assert cases.steps_against_curvature() < -0.95


def test_barriers() -> None:
    assert cases.barrier(cases.double_well()) == pytest.approx(1)
    assert cases.barrier(cases.product()) == pytest.approx(0.5)
    permuted, matched = cases.permuted_copy()
    assert cases.barrier(permuted) > 0.1
    assert cases.barrier(matched) == pytest.approx(0, abs=1e-12)
    line = np.linspace(0, 1, 9)
    assert cases.barrier(line) == 1
    assert cases.excess(line) == pytest.approx(0)
