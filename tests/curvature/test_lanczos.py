"""Lanczos against known spectra, dense eigenvalues and SciPy's eigsh."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator as SciPyOperator
from scipy.sparse.linalg import eigsh
from torch import nn

from landscape_sweep.curvature import (
    HessianOperator,
    LanczosDecomposition,
    lanczos,
    lanczos_algorithm_1,
)

OUTLIERS = torch.cat([torch.tensor([483.0, 255, 144, 89, 75]), torch.linspace(-3, 3, 295)]).double()


@pytest.mark.parametrize("which", ["LA", "SA", "LM", "BE"])
def test_equals_eigsh_on_a_network(case, network, which):
    c = case(network)
    H = HessianOperator(c.model, c.loss, c.batches)
    product = lambda v: H.matvec(torch.from_numpy(v).reshape(-1)).numpy()  # noqa: E731
    peer = SciPyOperator((H.size, H.size), matvec=product, dtype=np.float64)
    theirs = eigsh(peer, k=6, which=which, tol=1e-12, return_eigenvectors=False)
    ours = lanczos(H, 6, 1e-9, which)
    assert ours.converged.all()
    scale = np.abs(theirs).max()
    assert np.sort(ours.eigenvalues) == pytest.approx(np.sort(theirs), rel=1e-8, abs=1e-12 * scale)


def test_order_of_what_is_returned(operator_with_spectrum):
    values = torch.tensor([-9.0, -4, -1, 0.5, 2, 5, 7]).double()
    A = operator_with_spectrum(values)
    expected = {
        "LA": [7, 5, 2],
        "SA": [-9, -4, -1],
        "LM": [-9, 7, 5],
        "BE": [7, 5, -9],
    }
    for which, true in expected.items():
        assert lanczos(A, 3, 1e-10, which).eigenvalues == pytest.approx(true, rel=1e-9)


def test_residuals_and_eigenvectors_are_true(operator_with_spectrum):
    A = operator_with_spectrum(OUTLIERS)
    r = lanczos(A, 5, 1e-4, eigenvectors=True)
    V = r.eigenvectors
    assert V.shape == (5, 300)
    torch.testing.assert_close(V @ V.T, torch.eye(5).double())
    theta = torch.from_numpy(r.eigenvalues.copy())
    true = (V @ A.matrix - theta[:, None] * V).norm(dim=1) / theta.abs()
    assert true.numpy() == pytest.approx(r.residuals, rel=1e-3, abs=1e-11)
    # An eigenvalue lies within each residual, and at 1e-4 far closer: the error is quadratic.
    assert r.eigenvalues == pytest.approx([483, 255, 144, 89, 75], rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_ghosts_after_many_steps(operator_with_spectrum, dtype):
    A = operator_with_spectrum(OUTLIERS.to(dtype))
    run = LanczosDecomposition(A)
    for _ in range(150):
        run.extend()
    eps = torch.finfo(dtype).eps
    off = run.basis @ run.basis.T - torch.eye(150, dtype=dtype)
    assert float(off.abs().max()) < 100 * eps
    assert run.top(6).eigenvalues[:5] == pytest.approx([483, 255, 144, 89, 75], rel=20 * eps)
    assert run.top(6).eigenvalues[5] < 3.01


def test_algorithm_1_has_ghosts_where_lanczos_has_none(operator_with_spectrum):
    A = operator_with_spectrum(OUTLIERS.float())
    literal = lanczos_algorithm_1(A, 100)
    assert (np.abs(literal - 483) < 0.1).sum() > 1
    ours = lanczos(A, 20, 1e-6, max_products=100).eigenvalues
    assert (np.abs(ours - 483) < 0.1).sum() == 1


def test_algorithm_1_is_exact_for_k_distinct_values(operator_with_spectrum):
    values = torch.tensor([4.0, 3, 1]).double()
    assert lanczos_algorithm_1(operator_with_spectrum(values), 3) == pytest.approx([4, 3, 1])


def test_restarted_basis_finds_the_same(operator_with_spectrum):
    A = operator_with_spectrum(torch.linspace(-1, 1, 300).double() ** 3 * 50)
    free = lanczos(A, 10, 1e-8)
    bounded = lanczos(A, 10, 1e-8, max_basis=30, max_products=1000)
    assert bounded.converged.all()
    assert bounded.eigenvalues == pytest.approx(free.eigenvalues, rel=1e-10)


def test_a_spent_budget_is_said(operator_with_spectrum):
    r = lanczos(operator_with_spectrum(OUTLIERS), 20, 1e-6, max_products=25)
    assert r.matvecs == 25
    assert r.budget_spent
    assert r.converged[0]
    assert not r.converged[-1]


@pytest.mark.parametrize("which", ["LA", "SA"])
def test_low_rank_breaks_down_and_goes_on(operator_with_spectrum, which):
    """Rank 3 of 40: the first invariant subspace has dimension 4, and k = 10 is asked for."""
    values = torch.zeros(40).double()
    values[:3] = torch.tensor([5.0, 2, 1])
    r = lanczos(operator_with_spectrum(values), 10, 1e-8, which)
    expected = [5, 2, 1] + [0] * 7 if which == "LA" else [0] * 10
    assert r.eigenvalues == pytest.approx(expected, abs=1e-10)
    assert r.converged.all()


def test_multiplicity_when_all_values_are_asked_for(operator_with_spectrum):
    values = torch.tensor([3.0] * 5 + [1.0] * 7).double()
    r = lanczos(operator_with_spectrum(values), 12, 1e-8)
    assert r.eigenvalues == pytest.approx([3] * 5 + [1] * 7)


def test_zero_matrix(operator_with_spectrum):
    r = lanczos(operator_with_spectrum(torch.zeros(5).double()), 2)
    assert r.eigenvalues == pytest.approx([0, 0])
    assert r.converged.all()


def test_negative_count_counts_only_the_proven(operator_with_spectrum):
    values = torch.cat([torch.tensor([100.0, -5, -3, -2]), torch.full((96,), 1e-9)]).double()
    A = operator_with_spectrum(values)
    assert LanczosDecomposition(A).run([(3, "SA")], tol=1e-8).negative_count() == 3
    positive = operator_with_spectrum(torch.linspace(0, 1, 60).double() ** 4)
    assert LanczosDecomposition(positive).run([(10, "SA")]).negative_count() == 0


def test_one_run_serves_both_ends(operator_with_spectrum):
    values = torch.cat([OUTLIERS, torch.tensor([-40.0, -30.0]).double()])
    run = LanczosDecomposition(operator_with_spectrum(values))
    run.run([(5, "LA"), (2, "SA")], tol=1e-6)
    assert run.top(5).eigenvalues == pytest.approx([483, 255, 144, 89, 75], rel=1e-9)
    assert run.bottom(2).eigenvalues == pytest.approx([-40, -30], rel=1e-9)
    assert run.top(5).matvecs == run.matvecs == run.size


def test_deep_orthogonal_network(case):
    """Whitened input, MSE, s·orthogonal weights at interpolation: λ_max = L s^(2L − 2)."""
    torch.manual_seed(0)
    depth, d, s = 3, 4, 1.5
    layers = [nn.Linear(d, d, bias=False) for _ in range(depth)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=s)
    model = nn.Sequential(*layers).double()
    for layer in layers:
        layer.weight.data = s * torch.linalg.qr(layer.weight.data).Q
    X = torch.eye(d).double() * d**0.5
    loss = lambda f, y: 0.5 * (f - y).square().sum(1).mean()  # noqa: E731
    H = HessianOperator(model, loss, [(X, model(X).detach())])
    assert lanczos(H, 1, 1e-8).eigenvalues[0] == pytest.approx(depth * s ** (2 * depth - 2))


def test_warm_start_takes_fewer_products(operator_with_spectrum):
    A = operator_with_spectrum(torch.linspace(0, 1, 200).double() ** 6 * 100)
    cold = lanczos(A, 8, 1e-4, eigenvectors=True)
    warm = lanczos(A, 8, 1e-4, start=cold.eigenvectors.sum(0))
    assert warm.matvecs < 0.75 * cold.matvecs
    assert warm.eigenvalues == pytest.approx(cold.eigenvalues, rel=1e-5)


def test_same_seed_same_result(operator_with_spectrum):
    A = operator_with_spectrum(OUTLIERS.float())
    first, second = (lanczos(A, 5, seed=3) for _ in range(2))
    assert np.array_equal(first.eigenvalues, second.eigenvalues)


def test_progress_is_told(operator_with_spectrum):
    told: list[tuple[int, float]] = []
    r = lanczos(
        operator_with_spectrum(OUTLIERS), 5, 1e-3, progress=lambda n, worst: told.append((n, worst))
    )
    assert told[-1][0] == r.matvecs
    assert told[-1][1] <= 1e-3 < told[0][1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 6}, "k=6"),
        ({"k": 0}, "k=0"),
        ({"tol": 0.0}, "tol"),
        ({"which": "XX"}, "which='XX'"),
        ({"max_products": 1}, "max_products=1"),
        ({"max_basis": 2}, "max_basis=2"),
        ({"start": torch.zeros(5).double()}, "start"),
        ({"start": torch.ones(4).double()}, "start has shape"),
    ],
)
def test_errors(operator_with_spectrum, change, message):
    A = operator_with_spectrum(torch.arange(5).double())
    with pytest.raises(ValueError, match=message):
        lanczos(A, **{"k": 2, **change})


def test_product_that_is_not_finite(operator_with_spectrum):
    A = operator_with_spectrum(torch.arange(5).double())
    A.matrix[0, 0] = float("inf")
    with pytest.raises(ValueError, match="not finite"):
        lanczos(A, 2)
