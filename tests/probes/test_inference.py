"""The rewritten forward pass against the plain one in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape_sweep.models import build
from landscape_sweep.probes import inference
from landscape_sweep.probes.inference import Rewritten


def images(count: int, channels: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, channels, height, width, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def error(model: nn.Module, x: Tensor, fast: Rewritten | None = None) -> float:
    """Largest difference from float64 outputs, as a share of the largest output."""
    exact = copy.deepcopy(model).double()(x.double())
    outputs = (fast or Rewritten(model))(x)
    assert outputs.shape == exact.shape
    return float((outputs - exact).abs().max() / exact.abs().max())


def settled(model: nn.Module) -> nn.Module:
    """BatchNorm with statistics, scales and shifts of its own, in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize(
    ("inputs", "outputs", "height", "width"),
    [(64, 64, 8, 8), (64, 64, 7, 5), (48, 104, 1, 3), (64, 128, 16, 16), (128, 64, 4, 9)],
)
@pytest.mark.parametrize("bias", [True, False])
def test_winograd_is_the_convolution(
    inputs: int,
    outputs: int,
    height: int,
    width: int,
    bias: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference, "MKL_AT_HOME", True)
    torch.manual_seed(0)
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
    x = images(9, inputs, height, width)
    assert error(nn.Sequential(conv), x) < 3e-5
    assert type(Rewritten(nn.Sequential(conv))._convolutions[0]).__name__ == "_Winograd"


@pytest.mark.parametrize(
    "options",
    [
        {"in_channels": 3, "out_channels": 16, "kernel_size": 3, "padding": 1},
        {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "stride": 2, "padding": 1},
        {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 0},
        {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 1, "groups": 4},
        {
            "in_channels": 64,
            "out_channels": 64,
            "kernel_size": 3,
            "padding": 1,
            "padding_mode": "circular",
        },
        {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 2, "dilation": 2},
        {"in_channels": 16, "out_channels": 8, "kernel_size": 1},
    ],
)
def test_other_convolutions_stay_direct(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "MKL_AT_HOME", True)
    torch.manual_seed(0)
    model = settled(
        nn.Sequential(nn.Conv2d(**options), nn.BatchNorm2d(options["out_channels"]), nn.ReLU())
    )
    fast = Rewritten(model)
    assert type(fast._convolutions[0]).__name__ == "_Convolution"
    assert error(model, images(5, options["in_channels"], 8, 8), fast) < 3e-6


@pytest.mark.parametrize("winograd", [True, False])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet", {"width": 16}),
        ("resnet", {"width": 8, "norm": "layer"}),
        ("resnet", {"width": 8, "norm": "none", "skip": False}),
        ("cnn", {"width": 64}),
        ("cnn", {"width": 8, "norm": "batch"}),
    ],
)
def test_networks_follow_their_weights(
    name: str, options: dict[str, object], winograd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "MKL_AT_HOME", winograd)
    torch.manual_seed(0)
    model = settled(build(name, shape=(3, 16, 16), classes=10, **options))
    if options.get("norm") == "none":  # Fixup starts the head at zero
        for p in model.parameters():
            nn.init.normal_(p, std=0.1)
    x = images(6, 3, 16, 16)
    fast = Rewritten(model)
    assert error(model, x, fast) < 3e-5
    with torch.inference_mode():
        before = model(x)
        for p in model.parameters():
            p.mul_(1.1).add_(0.01)
        assert float((model(x) - before).abs().max() / before.abs().max()) > 1e-2
    fast.refresh()
    assert error(model, x, fast) < 3e-5


class Reused(nn.Module):
    """An output that BatchNorm and the sum both take, one convolution called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        result: Tensor = self.norm(y) + y + self.relu(self.norm(self.conv(F.relu(y))))
        return result


def test_what_is_used_elsewhere_stays() -> None:
    torch.manual_seed(0)
    assert error(settled(Reused()), images(4, 8, 6, 6)) < 3e-6


def test_batchnorm_that_takes_statistics_stays() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU()).eval()
    assert error(model, images(4, 3, 6, 6)) < 1e-5


class Branching(nn.Module):
    """A path that depends on the numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Branching(), "can't be traced"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), "no convolution"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "4 channels"),
    ],
)
def test_what_cannot_be_rewritten_is_said(model: nn.Module, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Rewritten(model)
