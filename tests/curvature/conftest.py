"""Small networks whose dense Hessian can be formed, and operators with known spectra."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn import functional as F

CLASSES = 4


@dataclass
class Case:
    """A model, its loss and batches of uneven sizes."""

    name: str
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    inputs: Tensor
    targets: Tensor
    piecewise_linear: bool

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        return [
            (self.inputs[:9], self.targets[:9]),
            (self.inputs[9:], self.targets[9:]),
        ]

    def flat(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self.model.parameters()])

    def loss_at(self, flat: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss as a function of the flat parameters, by torch alone."""
        named = dict(self.model.named_parameters())
        parts = flat.split([p.numel() for p in named.values()])
        state = {k: v.view_as(p) for (k, p), v in zip(named.items(), parts, strict=True)}
        return self.loss(functional_call(self.model, state, (inputs,)), targets)

    def dense_hessian(self) -> Tensor:
        """(p, p), row by row.

        Not by torch.func.hessian, whose result for LayerNorm isn't symmetric and is off by 7%
        from finite differences (torch 2.14).
        """
        return hessian(lambda flat: self.loss_at(flat, self.inputs, self.targets), self.flat())

    def sample_gradients(self) -> Tensor:
        """(n, p), one reverse pass for each sample."""
        rows = []
        for x, y in zip(self.inputs, self.targets, strict=True):
            flat = self.flat().requires_grad_()
            rows.append(torch.autograd.grad(self.loss_at(flat, x[None], y[None]), flat)[0])
        return torch.stack(rows)


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class TwiceUsed(nn.Module):
    """One weight used twice in a row: ReLU, but quadratic in that weight."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(8, 8)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.shared(self.shared(x).relu()).relu())


class FunctionalUse(nn.Module):
    """A layer's weight used without calling the layer, beside calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu() + F.linear(x, self.first.weight))


def _networks() -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool]]:
    flat, image = (8,), (2, 6, 6)
    return {
        "relu": (
            lambda: nn.Sequential(nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, CLASSES)),
            flat,
            True,
        ),
        "conv": (
            lambda: nn.Sequential(
                nn.Conv2d(2, 4, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
                nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(24, CLASSES),
            ),
            image,
            True,
        ),
        "residual_batch_norm": (
            lambda: nn.Sequential(
                nn.Conv2d(2, 4, 3, padding=1, bias=False),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                Residual(
                    nn.Sequential(
                        nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()
                    )
                ),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(4, CLASSES),
            ),
            image,
            True,
        ),
        "tanh": (
            lambda: nn.Sequential(nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, CLASSES)),
            flat,
            False,
        ),
        "layer_norm": (
            lambda: nn.Sequential(
                nn.Linear(8, 7), nn.LayerNorm(7), nn.ReLU(), nn.Linear(7, CLASSES)
            ),
            flat,
            False,
        ),
        "twice_used": (TwiceUsed, flat, False),
        "functional_use": (FunctionalUse, flat, True),
    }


NETWORKS = tuple(_networks())


def make_case(name: str, dtype: torch.dtype = torch.float64, loss: str = "ce") -> Case:
    """The network ``name`` with random weights and data, BatchNorm in eval mode."""
    build, shape, piecewise = _networks()[name]
    torch.manual_seed(len(name))
    model = build().to(dtype)
    inputs = torch.randn(13, *shape, dtype=dtype)
    model(2 * inputs + 1)  # gives BatchNorm statistics that aren't 0 and 1
    model.eval()
    if loss == "ce":
        return Case(name, model, F.cross_entropy, inputs, torch.randint(CLASSES, (13,)), piecewise)
    targets = torch.randn(13, CLASSES, dtype=dtype)
    return Case(name, model, F.mse_loss, inputs, targets, piecewise)


class Dense:
    """An explicit matrix as an operator."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.size, self.dtype, self.device = len(matrix), matrix.dtype, matrix.device

    def matvec(self, vector: Tensor) -> Tensor:
        return self.matrix @ vector


def with_spectrum(values: Tensor, seed: int = 0) -> Dense:
    """A dense operator with these eigenvalues in a random basis."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(noise).Q
    matrix = basis @ torch.diag(values.double()) @ basis.T
    return Dense(((matrix + matrix.T) / 2).to(values.dtype))


@pytest.fixture
def case() -> Callable[..., Case]:
    return make_case


@pytest.fixture
def operator_with_spectrum() -> Callable[..., Dense]:
    return with_spectrum


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that take ``network`` once for each network."""
    if "network" in metafunc.fixturenames:
        metafunc.parametrize("network", NETWORKS)
