"""Probes against closed forms, hand-made passes and dense matrices."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from landscape_sweep.probes import gradient_noise, hessian, sharpness, surface
from landscape_sweep.probes.measurement import Batches


def net() -> nn.Module:
    torch.manual_seed(0)
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


def mean_loss(model: nn.Module, batches: Batches) -> float:
    x, y = whole(batches)
    with torch.no_grad():
        return float(cross_entropy(model(x), y))


def dense_hessian(model: nn.Module, batches: Batches) -> Tensor:
    x, y = whole(batches)
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]

    def of(theta: Tensor) -> Tensor:
        parts = theta.split([s.numel() for s in shapes])
        values = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return cross_entropy(functional_call(model, values, (x,)), y)

    found: Tensor = torch.func.hessian(of)(parameters_to_vector(model.parameters()).detach())
    return found


@pytest.mark.parametrize("probe", [sharpness, surface, hessian, gradient_noise])
def test_a_probe_leaves_weights_gradients_and_mode_alone(
    probe: Callable[..., object], batches: Batches
) -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    keys = {surface: {"points": 3}, hessian: {"k": 3}}.get(probe, {})
    probe(model, cross_entropy, batches, **keys)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not model.training


# Hessian


def test_hessian_agrees_with_the_dense_matrix(batches: Batches) -> None:
    model = net()
    eigenvalues = torch.linalg.eigvalsh(dense_hessian(model, batches)).flip(0).numpy()
    found = hessian(model, cross_entropy, batches, k=5, tol=1e-6, iterations=43)
    assert found.top.converged.all()
    np.testing.assert_allclose(found.top.eigenvalues, eigenvalues[:5], rtol=1e-6)
    assert found.bottom.eigenvalues[0] == pytest.approx(eigenvalues[-1], rel=1e-5)
    # tanh has no exact trace formula: an estimate, with the standard error that was asked for.
    assert found.trace.standard_error <= 0.02 * abs(found.trace.value)
    assert abs(found.trace.value - eigenvalues.sum()) <= 4 * found.trace.standard_error + 1e-9
    assert 0 < found.negative_count <= (eigenvalues < 0).sum()
    assert found.condition_number == pytest.approx(eigenvalues[0] / abs(eigenvalues[-1]), rel=1e-5)


def test_the_trace_of_a_relu_network_is_exact(batches: Batches) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double().eval()
    trace = float(dense_hessian(model, batches).trace())
    found = hessian(model, cross_entropy, batches, k=1)
    assert found.metrics()["hessian/trace"] == pytest.approx(trace, rel=1e-9)
    assert found.metrics()["hessian/trace_se"] == 0.0


def test_hessian_says_how_wrong_finite_differences_are(batches: Batches) -> None:
    model = net()
    largest = float(torch.linalg.eigvalsh(dense_hessian(model, batches))[-1])
    found = hessian(model, cross_entropy, batches, k=1, tol=1e-3, product="finite_difference")
    assert 0 < found.product_error < 1e-2
    assert found.top.eigenvalues[0] == pytest.approx(largest, rel=1e-2)
    # Residuals of another matrix certify nothing of this one.
    assert "hessian/negative_count" not in found.metrics()
    assert "hessian/condition_number" not in found.metrics()
    assert any("finite differences are off by" in note for note in found.notes())


def test_hessian_tells_what_is_not_certain(batches: Batches) -> None:
    short = hessian(net(), cross_entropy, batches, k=5, iterations=6, tol=1e-9)
    assert "hessian/condition_number" not in short.metrics()
    assert "0 of 5 eigenvalues converged" in short.notes()
    assert any("λmin has not converged" in note for note in short.notes())
    long = hessian(net(), cross_entropy, batches, k=5, iterations=43)
    assert any("is negative" in note for note in long.notes())


def test_hessian_shows_how_far_algorithm_1_is_off(batches: Batches) -> None:
    """Five steps find the largest value roughly and the fifth not at all."""
    model = net()
    true = torch.linalg.eigvalsh(dense_hessian(model, batches)).flip(0).numpy()[:5]
    found = hessian(model, cross_entropy, batches, k=5, tol=1e-6, iterations=43, algorithm_1=True)
    assert found.algorithm_1 is not None
    error = np.abs(found.algorithm_1 / true - 1).max()
    assert found.metrics()["hessian/algorithm_1_error"] == pytest.approx(error, rel=1e-3)
    assert error > 0.1
    table = found.tables()["hessian/algorithm_1.csv"]
    np.testing.assert_allclose(table["eigenvalue"], true, rtol=1e-6)
    assert any("algorithm 1 as written is off by" in note for note in found.notes())


def test_one_lanczos_run_gives_the_density_too(batches: Batches) -> None:
    """Its first moment is tr H / p, as far as one start vector tells; outliers are eigenvalues."""
    model = net()
    true = torch.linalg.eigvalsh(dense_hessian(model, batches)).numpy()
    without = hessian(model, cross_entropy, batches, k=5)
    found = hessian(model, cross_entropy, batches, k=5, density=1)
    assert found.top.matvecs == without.top.matvecs
    assert found.density is not None
    table = {
        name: np.array(column) for name, column in found.tables()["hessian/density.csv"].items()
    }
    assert table["weight"].sum() == pytest.approx(1)
    outliers = table["node"][table["outlier"].astype(bool)]
    assert len(outliers) > 0
    nearest = np.abs(outliers[:, None] - true).min(axis=1)
    assert (nearest <= 1e-2 * np.abs(outliers)).all()


def test_hessian_refuses_more_eigenvalues_than_parameters(batches: Batches) -> None:
    with pytest.raises(ValueError, match="k=44: takes 1 to 43"):
        hessian(net(), cross_entropy, batches, k=44)  # the net has 43


# Gradient noise


def test_gradient_noise_agrees_with_the_gradient_of_each_sample(batches: Batches) -> None:
    model = net()
    x, y = whole(batches)
    rows = []
    for i in range(len(x)):
        gradient = torch.autograd.grad(
            cross_entropy(model(x[i : i + 1]), y[i : i + 1]), list(model.parameters())
        )
        rows.append(torch.cat([g.flatten() for g in gradient]))
    G = torch.stack(rows)
    deviations = G - G.mean(0)
    measured = gradient_noise(model, cross_entropy, batches, k=2)
    found = measured.noise
    trace = float((deviations**2).sum()) / (len(x) - 1)
    assert found.trace == pytest.approx(trace, rel=1e-8)
    # ‖ḡ‖² overestimates ‖G‖² by tr Σ / n (McCandlish et al. 2018, appendix A.1).
    squared = float((G.mean(0) ** 2).sum()) - trace / len(x)
    assert found.scale == pytest.approx(trace / squared if squared > 0 else math.inf, rel=1e-6)
    spread = float((deviations**2).sum(1).std()) / math.sqrt(len(x))
    assert found.standard_error == pytest.approx(spread, rel=0.1)
    top = torch.linalg.eigvalsh(torch.cov(G.T)).flip(0)[:2].tolist()
    assert measured.series()["noise/eigenvalue"] == pytest.approx(top, rel=1e-3)
    assert measured.metrics()["noise/lambda_max"] == pytest.approx(top[0], rel=1e-3)
    assert measured.notes() == []
