"""Conditioning against deep linear networks, and convolutions against their dense matrices."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import cross_entropy, mse_loss

from landscape_sweep.probes.conditioning import conditioning, log_factor
from landscape_sweep.probes.spectra import convolution_spectrum, weight_spectra


def orthogonal(size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]


def deep_linear(weights: list[Tensor]) -> nn.Sequential:
    """x ↦ W_L ⋯ W_1 x."""
    layers = []
    for W in weights:
        layer = nn.Linear(W.shape[1], W.shape[0], bias=False).double()
        with torch.no_grad():
            layer.weight.copy_(W)
        layers.append(layer)
    return nn.Sequential(*layers)


def whitened(size: int) -> list[tuple[Tensor, Tensor]]:
    """n = d inputs with XXᵀ/n = I."""
    return [(math.sqrt(size) * orthogonal(size, 99), torch.zeros(size, size, dtype=torch.float64))]


@pytest.mark.parametrize(("layers", "rhs"), [(2, 5.06), (6, 129.7)])
def test_eq_11_is_broken_by_scaled_orthogonal_layers(layers: int, rhs: float) -> None:
    """W_l = 1.5 · orthogonal: κ⁺ = 1 at every depth, while eq. 11's right side is 1.5^(2L)."""
    model = deep_linear([1.5 * orthogonal(4, seed) for seed in range(layers)])
    found = conditioning(model, mse_loss, whitened(4), samples=4)
    assert found.kappa_plus == pytest.approx(1, rel=1e-9)
    assert found.layers == layers
    assert math.exp(found.log_rhs) == pytest.approx(rhs, rel=1e-3)
    # λmax = L s^(2L − 2), times 2/c of the mean squared error.
    assert float(found.eigenvalues[0]) == pytest.approx(layers * 1.5 ** (2 * layers - 2) / 2)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_a_deep_linear_network_has_the_spectrum_of_its_kronecker_sum(layers: int) -> None:
    """JJᵀ = Σ_l (W_{<l}ᵀW_{<l}) ⊗ (W_{>l}W_{>l}ᵀ), so κ⁺ ≤ max_l Π_{j≠l} κ(W_j)²."""
    generator = torch.Generator().manual_seed(layers)
    weights = [torch.randn(3, 3, generator=generator, dtype=torch.float64) for _ in range(layers)]
    found = conditioning(deep_linear(weights), mse_loss, whitened(3), samples=3)
    identity = torch.eye(3, dtype=torch.float64)
    expected = torch.zeros(9, 9, dtype=torch.float64)
    for place in range(layers):
        before, after = identity, identity
        for W in weights[:place]:
            before = W @ before
        for W in weights[place + 1 :]:
            after = W @ after
        expected += torch.kron(before.T @ before, after @ after.T)
    eigenvalues = torch.linalg.eigvalsh(expected).flip(0) * 2 / 3
    torch.testing.assert_close(found.eigenvalues, eigenvalues, rtol=1e-8, atol=1e-12)
    kappas = [float(torch.linalg.cond(W)) for W in weights]
    bound = max(math.prod(k**2 for j, k in enumerate(kappas) if j != i) for i in range(layers))
    assert found.kappa_plus <= bound * (1 + 1e-9)
    assert found.outlier_ratio == pytest.approx(float(eigenvalues[0] / eigenvalues[2]))
    norms = [float(torch.linalg.matrix_norm(W, 2)) for W in weights]
    log_rhs = sum(math.log(k) + 2 * math.log(s) for k, s in zip(kappas, norms, strict=True))
    assert found.log_rhs == pytest.approx(log_rhs)


def test_softmax_at_zero_weights_has_its_known_spectrum() -> None:
    """eig(XᵀX/n)/c, each c − 1 times."""
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = nn.Linear(4, 3, bias=False).double()
    nn.init.zeros_(model.weight)
    alpha = 0.1
    batches = [(x, torch.arange(6) % 3)]
    found = conditioning(model, cross_entropy, batches, samples=6, alpha=alpha)
    exact = (torch.linalg.eigvalsh(x.T @ x / 6) / 3).repeat_interleave(2).flip(0)
    torch.testing.assert_close(found.eigenvalues[:8], exact, rtol=1e-9, atol=1e-12)
    assert found.rank == 8
    assert found.kappa_plus == pytest.approx(float(exact[0] / exact[-1]))
    assert found.effective_dimension == pytest.approx(float((exact / (exact + alpha)).sum()))
    assert math.isnan(found.log_rhs)  # W = 0 has no condition number
    assert found.notes() == ["4 of 12 eigenvalues lie below 1e-08 of the largest"]


def dense_convolution(module: nn.Conv2d, height: int, width: int) -> Tensor:
    """The matrix of a convolution with circular padding, a column for each input pixel."""
    size = module.in_channels * height * width
    pixels = torch.eye(size, dtype=torch.float64).view(size, module.in_channels, height, width)
    vertical, horizontal = ((k - 1) // 2 for k in module.kernel_size)
    # Padding by index, which also wraps more than once around an image smaller than the kernel.
    rows = torch.arange(-vertical, height + module.kernel_size[0] - 1 - vertical) % height
    columns = torch.arange(-horizontal, width + module.kernel_size[1] - 1 - horizontal) % width
    padded = pixels[:, :, rows][:, :, :, columns]
    out = F.conv2d(padded, module.weight.detach(), stride=module.stride, groups=module.groups)
    return out.flatten(1).T


@pytest.mark.parametrize("side", [(6, 8), (4, 4), (2, 2)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, (3, 5)])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_spectrum_is_that_of_the_dense_circulant_matrix(
    side: tuple[int, int], stride: int, kernel: int | tuple[int, int], groups: int
) -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(2, 4, kernel, stride=stride, groups=groups, bias=False).double()
    found = convolution_spectrum(module, *side).sort().values
    dense = torch.linalg.svdvals(dense_convolution(module, *side)).sort().values
    torch.testing.assert_close(found, dense, rtol=1e-9, atol=1e-9)


def test_layers_are_read_at_the_size_of_their_images() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(2, 3, 3, padding=1), nn.Flatten()
    )
    model.append(nn.Linear(12, 5))
    model = model.double()
    spectra = weight_spectra(model, torch.zeros(1, 1, 4, 4).double())
    assert [len(s) for s in spectra] == [16, 8, 5]
    first, second, head = model[0], model[2], model[4]
    dense = torch.linalg.svdvals(dense_convolution(second, 2, 2))
    torch.testing.assert_close(spectra[1].sort().values, dense.sort().values)
    torch.testing.assert_close(spectra[2], torch.linalg.svdvals(head.weight.detach()))
    assert float(spectra[0].max()) == pytest.approx(
        float(torch.linalg.matrix_norm(dense_convolution(first, 4, 4), 2))
    )


def test_a_singular_layer_makes_the_right_side_infinite() -> None:
    assert log_factor(torch.tensor([2.0, 0.0])) == math.inf
    assert log_factor(torch.tensor([2.0, 0.5])) == pytest.approx(math.log(4) + 2 * math.log(2))


def test_refuses_a_convolution_whose_spectrum_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="dilated"):
        convolution_spectrum(nn.Conv2d(1, 1, 3, dilation=2), 8, 8)
