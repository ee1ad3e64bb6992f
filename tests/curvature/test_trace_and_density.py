"""Traces against dense Hessians, and spectral densities against known spectra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from landscape_sweep.curvature import (
    BatchNormWarning,
    GaussNewtonOperator,
    HessianOperator,
    LanczosDecomposition,
    hessian_trace,
    spectral_density,
)


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_trace_of_hessian(case, network, loss):
    c = case(network, loss=loss)
    t = hessian_trace(HessianOperator(c.model, c.loss, c.batches), relative_error=0.02, seed=1)
    true = float(c.dense_hessian().trace())
    if c.piecewise_linear:
        assert t.method == "exact"
        assert t.reason is None
        assert t.value == pytest.approx(true, rel=1e-11)
        assert t.standard_error == 0
    else:
        assert t.method == "hutchinson"
        assert t.reason
        assert abs(t.value - true) < 4 * t.standard_error


def test_condition_is_of_the_selected_parameters(case):
    """The layer after a tanh is linear in its own weights: its block has an exact trace."""
    c = case("tanh")
    H = HessianOperator(c.model, c.loss, c.batches, parameters="2")
    t = hessian_trace(H)
    assert t.method == "exact"
    assert t.value == pytest.approx(float(c.dense_hessian().diagonal()[-32:].sum()), rel=1e-11)


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_gauss_newton_trace_is_always_exact(case, network, loss):
    c = case(network, loss=loss)
    G = GaussNewtonOperator(c.model, c.loss, c.batches)
    true = sum(float(G.matvec(e) @ e) for e in torch.eye(G.size).double())
    t = hessian_trace(G)
    assert t.method == "exact"
    assert t.value == pytest.approx(true, rel=1e-11)


def test_softmax_regression_formula():
    X = torch.randn(12, 5, dtype=torch.float64)
    model = nn.Linear(5, 4, bias=False).double()
    H = HessianOperator(model, F.cross_entropy, [(X, torch.arange(12) % 4)])
    with torch.no_grad():
        p = model(X).softmax(1)
    true = float((X.square().sum(1) * (1 - p.square().sum(1))).mean())
    assert hessian_trace(H).value == pytest.approx(true, rel=1e-12)


def test_float32_trace(case):
    c = case("residual_batch_norm", torch.float32)
    value = hessian_trace(HessianOperator(c.model, c.loss, c.batches)).value
    c.model.double()
    c.inputs = c.inputs.double()
    assert value == pytest.approx(float(c.dense_hessian().trace()), rel=1e-5)


@pytest.mark.parametrize(
    "middle", [nn.GELU(), nn.Softmax(1), nn.GroupNorm(1, 6), nn.Sigmoid(), nn.Softplus()]
)
def test_smooth_layers_are_not_called_piecewise_linear(middle):
    model = nn.Sequential(nn.Linear(4, 6), middle, nn.Linear(6, 3)).double()
    H = HessianOperator(model, F.cross_entropy, [(torch.randn(8, 4).double(), torch.arange(8) % 3)])
    assert hessian_trace(H, max_products=2).method == "hutchinson"


class Gated(nn.Module):
    """W x ⊙ W x: piecewise linear operations only, but a product of a value with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 3)

    def forward(self, x):
        h = self.first(x)
        return h * h.relu()


def test_gates_and_train_mode_are_not_called_piecewise_linear(case):
    x, y = torch.randn(8, 4).double(), torch.arange(8) % 3
    t = hessian_trace(HessianOperator(Gated().double(), F.cross_entropy, [(x, y)]), max_products=2)
    assert "first.weight" in t.reason or "first.bias" in t.reason
    c = case("residual_batch_norm")
    c.model.train()
    with pytest.warns(BatchNormWarning):
        H = HessianOperator(c.model, c.loss, c.batches)
    assert hessian_trace(H, max_products=2).reason == "the loss couples the samples of a batch"


def test_hutchinson_standard_error_is_calibrated(operator_with_spectrum):
    """Over 200 seeds, errors in units of the standard error have deviation 1, near enough."""
    A = operator_with_spectrum(torch.linspace(-1, 3, 60).double())
    z = []
    for seed in range(200):
        t = hessian_trace(A, relative_error=0.0, max_products=30, seed=seed)
        assert t.products == 30
        assert not t.reached
        z.append((t.value - 60) / t.standard_error)
    assert abs(np.mean(z)) < 0.3
    assert 0.8 < np.std(z) < 1.3


def test_hutchinson_variance(operator_with_spectrum):
    """Rademacher probes: 2(‖A‖_F² − Σ a_ii²), and none for a diagonal matrix."""
    A = operator_with_spectrum(torch.linspace(-1, 3, 40).double())
    t = hessian_trace(A, relative_error=0.0, max_products=4000)
    true = 2 * float(A.matrix.square().sum() - A.matrix.diagonal().square().sum())
    assert 4000 * t.standard_error**2 == pytest.approx(true, rel=0.1)
    A.matrix = torch.diag(torch.arange(40).double())
    assert hessian_trace(A).value == pytest.approx(780)


def test_deflation_leaves_a_smaller_error(operator_with_spectrum):
    values = torch.cat([torch.tensor([500.0, 300, 200]), torch.linspace(-1, 1, 97)]).double()
    A = operator_with_spectrum(values)
    run = LanczosDecomposition(A).run([(3, "LA")])
    options = {"relative_error": 0.0, "max_products": 20}
    plain, deflated = hessian_trace(A, **options), hessian_trace(A, decomposition=run, **options)
    assert deflated.standard_error < 0.1 * plain.standard_error
    assert abs(deflated.value - 1000) < 5 * deflated.standard_error


def test_stops_at_the_error_asked_for(operator_with_spectrum):
    A = operator_with_spectrum(torch.linspace(1, 3, 100).double())
    loose, tight = (hessian_trace(A, relative_error=e) for e in (0.01, 0.002))
    assert loose.reached
    assert tight.reached
    assert loose.standard_error <= 0.01 * loose.value
    assert tight.standard_error <= 0.002 * tight.value
    assert loose.products < tight.products


@pytest.mark.parametrize("change", [{"relative_error": -1.0}, {"max_products": 1}])
def test_trace_errors(operator_with_spectrum, change):
    with pytest.raises(ValueError, match=next(iter(change))):
        hessian_trace(operator_with_spectrum(torch.ones(3).double()), **change)


SPECTRUM = torch.cat([torch.tensor([100.0, 60, 40]), torch.linspace(-1, 2, 197)]).double()


@pytest.mark.parametrize("given", [False, True])
def test_density_is_the_spectrum(operator_with_spectrum, given):
    A = operator_with_spectrum(SPECTRUM)
    run = LanczosDecomposition(A).run([(3, "LA")], tol=1e-6) if given else None
    d = spectral_density(A, probes=10, seed=0, steps=40, decomposition=run)
    assert d.weights.sum() == pytest.approx(1, abs=1e-12)
    assert (d.weights >= 0).all()
    assert d.products == (360 if given else 400)
    # The cumulative distribution of the bulk, against the true one.
    for point in (-0.5, 0.5, 1.5):
        true = float((SPECTRUM.le(point)).double().mean())
        assert d.weights[d.nodes <= point].sum() == pytest.approx(true, abs=0.05)
    if given:
        assert d.outliers == pytest.approx([40, 60, 100], rel=1e-6)
        assert d.weights[d.nodes > 30] == pytest.approx([1 / 200] * 3)


def test_density_has_no_ghosts(operator_with_spectrum):
    A = operator_with_spectrum(SPECTRUM.float())
    d = spectral_density(A, probes=1, steps=100)
    assert (d.nodes > 30).sum() == 3


def test_moments_of_a_single_probe_are_exact(operator_with_spectrum):
    """Gauss quadrature with m nodes integrates polynomials to degree 2m − 1."""
    A = operator_with_spectrum(torch.linspace(-1, 2, 50).double())
    run = LanczosDecomposition(A, seed=5)
    start = run._next.clone()
    for _ in range(4):
        run.extend()
    ritz = run.ritz()
    power = start
    for degree in range(1, 8):
        power = A.matvec(power)
        assert ritz.weights @ ritz.values**degree == pytest.approx(float(start @ power), rel=1e-9)


def test_density_refuses_what_it_cannot_use(operator_with_spectrum):
    A = operator_with_spectrum(SPECTRUM)
    restarted = LanczosDecomposition(A, max_basis=20).run([(5, "BE")], tol=1e-9, max_products=60)
    with pytest.raises(ValueError, match="restarted"):
        spectral_density(A, decomposition=restarted)
    with pytest.raises(ValueError, match="probes"):
        spectral_density(A, probes=0)
    with pytest.raises(ValueError, match="steps"):
        spectral_density(A, steps=0)
