"""Ranks of curvature matrices against those that are known exactly, and dense matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn.functional import cross_entropy, mse_loss

from landscape_sweep.curvature import GaussNewtonOperator
from landscape_sweep.probes.output_geometry import output_geometry
from landscape_sweep.probes.rank import numerical_rank, rank


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classified(n: int, d: int, c: int) -> list[tuple[Tensor, Tensor]]:
    labels = torch.arange(n) % c
    return [
        (gaussian(n, d)[: n // 2], labels[: n // 2]),
        (gaussian(n, d)[n // 2 :], labels[n // 2 :]),
    ]


def regression(n: int, d: int, c: int) -> list[tuple[Tensor, Tensor]]:
    return [(gaussian(n, d), gaussian(n, c, seed=1))]


def linear(d: int, c: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(d, c, bias=False).double()


@pytest.mark.parametrize(("n", "d", "c"), [(10, 20, 3), (30, 7, 4), (8, 8, 2)])
def test_linear_regression_has_rank_c_min_n_d(n: int, d: int, c: int) -> None:
    """H = I_c ⊗ XᵀX/n: eq. 12's n + c is broken by 3 outputs, n = 10, d = 20 (30 > 13)."""
    found = rank(linear(d, c), mse_loss, regression(n, d, c), samples=n)
    exact = c * min(n, d)
    assert found.ggn.rank == found.ggn_mse.rank == exact
    assert found.hessian is not None
    assert found.hessian.rank == exact
    assert found.ggn.certain
    assert found.hessian.certain
    assert (found.metrics()["rank/samples"], found.metrics()["rank/classes"]) == (n, c)
    assert found.notes() == []


@pytest.mark.parametrize(("n", "d", "c"), [(10, 20, 3), (6, 30, 5)])
def test_softmax_regression_has_rank_n_c_minus_1(n: int, d: int, c: int) -> None:
    found = rank(linear(d, c), cross_entropy, classified(n, d, c), samples=n)
    assert found.ggn.rank == n * (c - 1)
    assert found.ggn_mse.rank == n * c
    assert found.hessian is not None
    assert found.hessian.rank == n * (c - 1)  # linear in θ: H = G


def test_a_confident_softmax_keeps_its_rank() -> None:
    model = linear(20, 3)
    with torch.no_grad():
        model.weight.mul_(60)  # logits of ±60
    found = rank(model, cross_entropy, classified(10, 20, 3), samples=10)
    probabilities = model(classified(10, 20, 3)[0][0]).softmax(1)
    assert float(probabilities.detach().min()) < 1e-20
    assert found.ggn.rank == 20
    assert found.ggn.certain


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_a_wide_network_reaches_the_bounds(activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 60), activation(), nn.Linear(60, 4)).double()
    found = rank(model, cross_entropy, classified(12, 6, 4), samples=12)
    assert found.ggn.rank == 12 * 3  # n(c − 1), beyond n + c = 16
    assert found.ggn_mse.rank == 12 * 4
    assert found.ggn.certain
    assert found.ggn_mse.certain


def conv_net() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 3),
    ).double()
    model(gaussian(20, 1, 4, 4))
    return model.eval()


@pytest.mark.parametrize("outputs_loss", [cross_entropy, "mse"])
def test_gram_has_the_spectrum_of_the_dense_gauss_newton_matrix(outputs_loss: object) -> None:
    model = conv_net()
    x = gaussian(9, 1, 4, 4, seed=3)
    y: Tensor = torch.arange(9) % 3
    loss = cross_entropy
    if outputs_loss == "mse":
        loss, y = mse_loss, gaussian(9, 3, seed=4)
    batches = [(x[:5], y[:5]), (x[5:], y[5:])]
    operator = GaussNewtonOperator(model, loss, batches)
    dense = torch.stack([operator.matvec(e) for e in torch.eye(operator.size).double()])
    expected = torch.linalg.eigvalsh(dense)
    found = output_geometry(model, loss, batches, 9)
    eigenvalues = torch.linalg.eigvalsh(found.gauss_newton_gram())
    size = min(len(eigenvalues), len(expected))
    torch.testing.assert_close(
        eigenvalues[-size:], expected[-size:], rtol=1e-9, atol=1e-12 * float(expected[-1])
    )
    measured = rank(model, loss, batches, samples=9)
    positive = expected[expected > 1e-12 * expected[-1]]
    assert measured.effective == pytest.approx(
        float(positive.sum() ** 2 / positive.square().sum()), rel=1e-8
    )
    assert measured.outliers == int((expected > 1e-3 * expected[-1]).sum())


def test_gram_is_put_together_from_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """With memory for two samples' rows only, and in float32: K = JJᵀ of the float64 network."""
    model = conv_net()
    x, y = gaussian(7, 1, 4, 4, seed=3), torch.arange(7) % 3
    names = [name for name, _ in model.named_parameters()]

    def outputs(*values: Tensor) -> Tensor:
        return functional_call(model, dict(zip(names, values, strict=True)), (x,))

    parts = jacrev(outputs, tuple(range(len(names))))(*model.parameters())
    J = torch.cat([part.flatten(2) for part in parts], 2).flatten(0, 1)
    row_bytes = 8 * 3 * J.shape[1]
    monkeypatch.setattr(
        "landscape_sweep.probes.output_geometry.free_bytes", lambda device: 16 * row_bytes
    )
    calls: list[tuple[int, int]] = []
    found = output_geometry(
        model, cross_entropy, [(x, y)], 7, lambda done, total: calls.append((done, total))
    )
    torch.testing.assert_close(found.jacobian_gram(), J @ J.T, rtol=1e-10, atol=1e-10)
    assert calls[-1] == (10, 10)  # four blocks: ten pairs


def test_without_a_gap_the_rank_is_called_a_lower_bound() -> None:
    eigenvalues = torch.logspace(0, -16, 60, dtype=torch.float64)
    counted = numerical_rank(eigenvalues, 60)
    assert not counted.certain
    assert counted.rank < 60
    assert numerical_rank(torch.zeros(3, dtype=torch.float64), 3).rank == 0
    certain = numerical_rank(torch.tensor([2.0, -1.0, 1e-17], dtype=torch.float64), 3)
    assert (certain.rank, certain.certain) == (2, True)


def test_a_float32_network_is_measured_in_float64() -> None:
    model = linear(20, 3).float()
    batches = [(x.float(), y) for x, y in classified(10, 20, 3)]
    found = rank(model, cross_entropy, batches, samples=10)
    assert found.ggn.rank == 20
    assert found.ggn.certain
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_refuses_more_samples_than_there_are() -> None:
    with pytest.raises(ValueError, match="samples=11: takes 1 to 10"):
        rank(linear(20, 3), cross_entropy, classified(10, 20, 3), samples=11)
