"""The covariance of per-sample gradients against gradients taken one by one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from landscape_sweep.curvature import BatchNormWarning, GradientCovariance, lanczos, two_batch_noise
from landscape_sweep.curvature.gradient_noise import _jackknife_of_scale


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_trace_and_products(case, network, loss):
    c = case(network, loss=loss)
    g = c.sample_gradients()
    true = torch.cov(g.T)
    S = GradientCovariance(c.model, c.loss, c.batches, chunk=4)
    v = torch.randn(S.size, dtype=torch.float64)
    torch.testing.assert_close(S.matvec(v), true @ v)
    noise = S.noise()
    assert noise.trace == pytest.approx(float(true.trace()), rel=1e-10)
    distances = (g - g.mean(0)).square().sum(1)
    assert noise.standard_error == pytest.approx(float(distances.std()) / math.sqrt(13))
    assert noise.mean_squared_norm == pytest.approx(float(g.mean(0).square().sum()))
    assert noise.squared_norm == pytest.approx(noise.mean_squared_norm - noise.trace / 13)


def test_top_eigenvalues(case):
    c = case("conv")
    true = torch.linalg.eigvalsh(torch.cov(c.sample_gradients().T)).flip(0)[:5]
    r = lanczos(GradientCovariance(c.model, c.loss, c.batches), 5, 1e-8)
    assert r.eigenvalues == pytest.approx(true.tolist(), rel=1e-8)


def test_scale(case):
    model = nn.Linear(3, 2).double()
    nn.init.zeros_(model.weight)
    x = torch.randn(40, 3, dtype=torch.float64) + 5
    noise = GradientCovariance(model, F.cross_entropy, [(x, torch.zeros(40).long())]).noise()
    assert noise.squared_norm > 0
    assert noise.scale == pytest.approx(noise.trace / noise.squared_norm)


def test_jackknife_of_the_scale_is_that_of_leaving_samples_out_one_by_one(case):
    c = case("conv")
    g = c.sample_gradients() + 3 * c.sample_gradients().mean(0)  # a clear mean gradient

    def scale(rows: torch.Tensor) -> float:
        trace = float(torch.cov(rows.T).trace())
        return trace / (float(rows.mean(0).square().sum()) - trace / len(rows))

    left_out = torch.tensor([scale(torch.cat([g[:i], g[i + 1 :]])) for i in range(len(g))])
    n = len(g)
    expected = math.sqrt((n - 1) ** 2 / n * float(left_out.double().var()))
    mean = g.mean(0)
    found = _jackknife_of_scale(g.square().sum(1), g @ mean, float(mean @ mean))
    assert found == pytest.approx(expected, rel=1e-5)


def test_jackknife_says_when_the_denominator_is_not_positive():
    g = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    assert _jackknife_of_scale(g.square().sum(1), g @ g.mean(0), 0.0) == math.inf


def test_two_batch_estimator_is_unbiased_over_partitions(case):
    """Averaged over many random partitions of all samples it gives the (n − 1)-normalised trace."""
    c = case("relu")
    g = c.sample_gradients()[:12]
    big = float(g.mean(0).square().sum())
    generator = torch.Generator().manual_seed(0)
    small = 0.0
    for _ in range(4000):
        order = torch.randperm(12, generator=generator)
        small += float(g[order].view(4, 3, -1).mean(1).square().sum(1).mean()) / 4000
    found = two_batch_noise(small, big, 3, 12)
    true = float(torch.cov(g.T).trace())
    assert found.trace == pytest.approx(true, rel=0.01)
    assert found.squared_norm == pytest.approx(big - true / 12, rel=0.02, abs=0.01 * true / 12)


def test_two_batch_estimator_on_expected_norms():
    """E|G_B|² = |G|² + tr Σ / B, put in exactly, comes out exactly."""
    result = two_batch_noise(4 + 30 / 8, 4 + 30 / 64, 8, 64)
    assert (result.trace, result.squared_norm) == pytest.approx((30, 4))
    assert result.scale == pytest.approx(7.5)
    with pytest.raises(ValueError, match="small"):
        two_batch_noise(1, 1, 8, 8)


def test_refusals(case):
    c = case("residual_batch_norm")
    c.model.train()
    with pytest.warns(BatchNormWarning), pytest.raises(ValueError, match=r"model\.eval"):
        GradientCovariance(c.model, c.loss, c.batches)
    c = case("relu")
    with pytest.raises(ValueError, match="at least 2"):
        GradientCovariance(c.model, c.loss, [(c.inputs[:1], c.targets[:1])])
