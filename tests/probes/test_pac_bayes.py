"""The PAC-Bayes bound against closed forms, torch.distributions and a case that is solved."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn.functional import cross_entropy

from landscape_sweep.probes.folded import folded
from landscape_sweep.probes.pac_bayes import divergence, kl_inverse, pac_bayes


def test_divergence_is_that_of_torch_distributions() -> None:
    theta = torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = theta.flip(0) * 0.3
    for sigma, prior in [(0.1, 0.4), (0.4, 0.1), (0.2, 0.2)]:
        ours = divergence(7, sigma, prior, float((theta - start).square().sum()))
        posterior = Independent(Normal(theta, torch.full_like(theta, sigma)), 1)
        exact = kl_divergence(
            posterior, Independent(Normal(start, torch.full_like(theta, prior)), 1)
        )
        assert float(ours) == pytest.approx(float(exact), rel=1e-12)


def test_the_best_prior_gives_the_known_penalty() -> None:
    """p = 1e6, ‖θ − θ0‖² = 100, ρ = .01, n = 50,000: √(KL/2n) = 1.86, vacuous."""
    p, squared, rho = 10**6, 100.0, 0.01
    best = float(divergence(p, rho, math.sqrt(rho**2 + squared / p), squared))
    assert best == pytest.approx(p / 2 * math.log(1 + squared / (p * rho**2)), rel=1e-9)
    assert math.sqrt(best / (2 * 50_000)) == pytest.approx(1.86, abs=0.005)


@pytest.mark.parametrize(("mean", "nats"), [(0.0, 0.05), (0.2, 0.01), (0.9, 0.3), (1.0, 0.1)])
def test_kl_inverse_solves_its_equation(mean: float, nats: float) -> None:
    q = kl_inverse(mean, nats)
    if mean == 0:
        assert q == pytest.approx(1 - math.exp(-nats))
    elif mean < 1:
        kl = mean * math.log(mean / q) + (1 - mean) * math.log((1 - mean) / (1 - q))
        assert kl == pytest.approx(nats, rel=1e-9)
    assert q >= mean


def sign_case(n: int) -> tuple[nn.Module, nn.Module, list[tuple[Tensor, Tensor]]]:
    """Two outputs ±wx of one weight w = 1, and samples x = 1 of class 0: an error is w + u < 0."""
    model = nn.Linear(1, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    initial = nn.Linear(1, 2, bias=False).double()
    nn.init.zeros_(initial.weight)
    x, y = torch.ones(n, 1, dtype=torch.float64), torch.zeros(n, dtype=torch.int64)
    return model, initial, [(x[: n // 3], y[: n // 3]), (x[n // 3 :], y[n // 3 :])]


def test_errors_and_bound_of_a_case_that_is_solved() -> None:
    model, initial, batches = sign_case(3000)
    found = pac_bayes(
        model,
        cross_entropy,
        batches,
        initial=initial,
        train_batches=batches,
        test_batches=batches,
        sigma_min=0.1,
        sigma_max=2.0,
        sigmas=4,
        draws=2000,
    )
    assert found.samples == 3000
    # (1 + u1) − (−1 + u2) < 0 with u1 − u2 ~ N(0, 2σ²).
    exact = norm.cdf(-2 / (math.sqrt(2) * found.sigmas))
    np.testing.assert_allclose(found.train_errors, exact, atol=4 * math.sqrt(0.25 / 2000))
    np.testing.assert_array_equal(found.test_errors, found.train_errors)
    # Two parameters at squared distance 2 from θ0: the least KL is ln(1 + 1/σ²).
    np.testing.assert_allclose(found.divergences, np.log(1 + 1 / found.sigmas**2), rtol=1e-3)
    upper = [kl_inverse(e, math.log(4 / 0.025) / 2000) for e in found.train_errors]
    root = np.sqrt((found.divergences + math.log(2 * math.sqrt(3000) / (0.025 / 1000))) / 6000)
    np.testing.assert_allclose(found.bounds, upper + root, rtol=1e-12)
    assert found.metrics()["pac_bayes/bound"] == found.bounds.min()
    assert (found.bounds >= exact).all()  # the error on all x is that on x = 1
    assert found.chance == 0.0  # there is one class
    assert found.metrics()["pac_bayes/sigma"] == found.sigmas[1]
    assert ["guessing has the error 0.00" in note for note in found.notes()] == [True]
    edge = dataclasses.replace(found, bounds=found.bounds[::-1].cumsum(), chance=2.0)
    assert edge.notes()[-1].startswith("the bound is smallest at an end of the grid")


def test_an_optimum_inside_the_grid_is_the_closed_forms() -> None:
    """Of the solved case: Φ(−√2/σ), and a penalty with KL = ln(1 + 1/σ²); only draws are random."""
    model, initial, batches = sign_case(30)
    labelled = [(x, torch.zeros(len(x), dtype=torch.int64)) for x, _ in batches]
    labelled.append((-torch.ones(15, 1).double(), torch.ones(15, dtype=torch.int64)))
    found = pac_bayes(
        *(model, cross_entropy, labelled),
        initial=initial,
        train_batches=labelled,
        test_batches=labelled,
        sigmas=9,
        draws=1000,
    )
    root = np.log(1 + 1 / found.sigmas**2) + math.log(2 * math.sqrt(45) / (0.025 / 1000))
    exact = norm.cdf(-math.sqrt(2) / found.sigmas) + np.sqrt(root / 90)
    assert found.chance == pytest.approx(1 / 3)
    assert 0 < found.best < 8
    assert abs(found.best - int(exact.argmin())) <= 1
    assert not any("end of the grid" in note for note in found.notes())
    assert "guessing has the error 0.33" in found.notes()[0]


def bn_net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        model[1].weight.uniform_(0.5, 2)
        model[1].bias.uniform_(-1, 1)
    model(3 * torch.randn(50, 4) + 1)
    return model.eval()


def test_folded_is_the_same_function_with_constant_statistics() -> None:
    model, x = bn_net(0).double(), torch.randn(20, 4, dtype=torch.float64)
    flat = folded(model)
    torch.testing.assert_close(flat(x), model(x), rtol=1e-10, atol=1e-10)
    assert float(flat[1].running_mean.abs().max()) == 0
    torch.testing.assert_close(flat[1].running_var + flat[1].eps, torch.ones(6).double())
    with pytest.raises(ValueError, match="BatchNorm layer '0'"):
        folded(nn.Sequential(nn.BatchNorm1d(3, affine=False)))


def test_a_batch_norm_network_is_bounded_with_its_statistics_as_parameters() -> None:
    model = bn_net(1)
    x = torch.randn(90, 4)
    batches = [(x, model(x).argmax(1))]  # labels that the network predicts
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = pac_bayes(
        model,
        cross_entropy,
        batches,
        initial=bn_net(2),
        train_batches=batches,
        test_batches=batches,
        draws=20,
    )
    assert found.train_errors[0] < 0.1  # at small σ it is the network itself
    assert found.bounds.min() >= found.train_errors[found.best]
    assert found.notes()  # 57 weights from 90 samples: vacuous, and said so
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    squared = sum(
        float((a - b).detach().square().sum())
        for a, b in zip(folded(model).parameters(), folded(bn_net(2)).parameters(), strict=True)
    )
    p = sum(parameter.numel() for parameter in model.parameters())
    best = [p / 2 * math.log(1 + squared / (p * s**2)) for s in found.sigmas]
    np.testing.assert_allclose(found.divergences, best, rtol=1e-2)


def test_refuses_what_is_no_classification() -> None:
    model, initial, batches = sign_case(6)
    floating = [(x, y.double()) for x, y in batches]
    with pytest.raises(ValueError, match="class indices"):
        pac_bayes(
            model,
            cross_entropy,
            floating,
            initial=initial,
            train_batches=floating,
            test_batches=floating,
        )
