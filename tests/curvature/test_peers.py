"""Agreement with other libraries, where they are installed (the extra ``peers``)."""

from __future__ import annotations

import pytest
import torch

from landscape_sweep.curvature import GaussNewtonOperator, HessianOperator, lanczos


@pytest.mark.parametrize("kind", ["Hessian", "GGN"])
def test_curvlinops(case, network, kind):
    curvlinops = pytest.importorskip("curvlinops")
    if (network, kind) == ("layer_norm", "Hessian"):
        pytest.skip("curvlinops uses torch.func, whose second derivative of LayerNorm is wrong")
    c = case(network)
    loss = torch.nn.CrossEntropyLoss()
    mine = {"Hessian": HessianOperator, "GGN": GaussNewtonOperator}[kind](c.model, loss, c.batches)
    theirs = getattr(curvlinops, f"{kind}LinearOperator")(
        c.model, loss, list(c.model.parameters()), c.batches, check_deterministic=False
    )
    v = torch.randn(mine.size, dtype=torch.float64)
    torch.testing.assert_close(mine.matvec(v), theirs @ v, rtol=1e-8, atol=1e-10)


def test_hessian_eigenthings(case):
    eigenthings = pytest.importorskip("hessian_eigenthings")
    operators = pytest.importorskip("hessian_eigenthings.operators")
    c = case("conv")
    # One batch, since it averages uneven batches without weights.
    theirs = operators.HessianOperator(
        c.model,
        [(c.inputs, c.targets)],
        eigenthings.supervised_loss(c.loss),
    )
    v = torch.randn(theirs.size, dtype=torch.float64)
    mine = HessianOperator(c.model, c.loss, c.batches)
    torch.testing.assert_close(mine.matvec(v), theirs.matvec(v), rtol=1e-8, atol=1e-10)
    assert lanczos(mine, 1, 1e-8).converged.all()
