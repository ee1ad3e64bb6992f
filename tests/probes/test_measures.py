"""Norm and margin measures against NumPy, and against the network they are folded from."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from landscape_sweep.models import build
from landscape_sweep.probes.measures import measures


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double().eval()


def test_measures_of_two_layers_are_numpys() -> None:
    model = two_layers()
    x, y = torch.randn(50, 4, dtype=torch.float64), torch.randint(3, (50,))
    found = measures(model, cross_entropy, [(x[:20], y[:20]), (x[20:], y[20:])])
    W, b, V, c = (p.detach().numpy() for p in model.parameters())
    for measured, norm in ((found.log_spectral, 2), (found.log_frobenius, "fro")):
        expected = sum(2 * np.log(np.linalg.norm(M, norm)) for M in (W, V))
        assert measured == pytest.approx(expected)
    ratios = [np.linalg.norm(M) ** 2 / np.linalg.norm(M, 2) ** 2 for M in (W, V)]
    assert found.stable_rank == pytest.approx(sum(ratios))
    paths = sum(
        (V[k, j] * W[j, i]) ** 2 for k, j, i in itertools.product(range(3), range(5), range(4))
    )
    paths += ((V * b) ** 2).sum() + (c**2).sum()
    assert found.log_path == pytest.approx(np.log(paths))
    outputs = model(x).detach().numpy()
    margins = [f[k] - np.delete(f, k).max() for f, k in zip(outputs, y.numpy(), strict=True)]
    assert found.margin == pytest.approx(np.quantile(margins, 0.1))
    assert "measure/log_path_over_margin" not in found.metrics()  # labels are random: γ < 0


def test_a_rescaling_that_leaves_the_function_leaves_paths_and_the_product_of_norms() -> None:
    """(W, b, V) → (aW, ab, V/a): path norms see the function's scale alone."""
    model = two_layers()
    x = torch.randn(30, 4, dtype=torch.float64)
    batches = [(x, model(x).argmax(1))]
    before = measures(model, cross_entropy, batches).metrics()
    with torch.no_grad():
        model[0].weight.mul_(3)
        model[0].bias.mul_(3)
        model[2].weight.div_(3)
    after = measures(model, cross_entropy, batches).metrics()
    assert after == pytest.approx(before)
    assert before["measure/margin"] > 0
    over = before["measure/log_spectral"] - 2 * np.log(before["measure/margin"])
    assert before["measure/log_spectral_over_margin"] == pytest.approx(over)


def test_convolutions_and_batch_norm_are_measured_and_weights_stay() -> None:
    torch.manual_seed(1)
    model = build("resnet", shape=(3, 8, 8), classes=4, width=2)
    model(torch.randn(20, 3, 8, 8))
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = measures(model, cross_entropy, [(torch.randn(9, 3, 8, 8), torch.arange(9) % 4)])
    assert all(np.isfinite(value) for value in found.metrics().values())
    assert found.log_frobenius >= found.log_spectral
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_refuses_what_is_no_classification() -> None:
    with pytest.raises(ValueError, match="class indices"):
        measures(two_layers(), cross_entropy, [(torch.randn(2, 4).double(), torch.randn(2))])
