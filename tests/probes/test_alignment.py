"""Alignment: the function stays, a permuted copy is found again, and small cases by brute force."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from landscape_sweep import models
from landscape_sweep.probes import connectivity
from landscape_sweep.probes.alignment import align, hidden_units, match, permuted

NORMS = ("none", "batch", "layer")
ARCHITECTURES: list[tuple[str, dict[str, Any]]] = [
    *(("cnn", {"width": 3, "norm": norm}) for norm in NORMS),
    *(
        ("resnet", {"width": 3, "norm": norm, "skip": skip})
        for norm in NORMS
        for skip in (True, False)
    ),
    *(
        ("mlp", {"width": 9, "depth": depth, "activation": activation, "norm": norm, "skip": skip})
        for depth, activation in ((1, "relu"), (3, "relu"), (6, "tanh"))
        for norm in NORMS
        for skip in (True, False)
    ),
]


def network(name: str, options: dict[str, Any], seed: int) -> nn.Module:
    """In float64, with no parameter and no BatchNorm statistic at its initial value."""
    torch.manual_seed(seed)
    built = models.build(name, shape=(3, 16, 16), classes=4, **options).double()
    with torch.no_grad():
        for p in built.parameters():
            p.add_(0.1 * torch.randn_like(p))
    built(2 * images() + 1)
    return built.eval()


def images() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(6, 3, 16, 16, generator=generator, dtype=torch.float64)


def shuffled(net: nn.Module, seed: int = 3) -> tuple[nn.Module, list[Tensor]]:
    torch.manual_seed(seed)
    order = [torch.randperm(group.size) for group in hidden_units(net)]
    return permuted(net, order), order


def distance(a: nn.Module, b: nn.Module) -> float:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return sum(float((x - y).abs().sum()) for x, y in pairs)


@pytest.mark.parametrize(("name", "options"), ARCHITECTURES)
def test_a_permuted_network_is_the_same_function_and_is_found_again(
    name: str, options: dict[str, Any]
) -> None:
    net = network(name, options, seed=0)
    copy, order = shuffled(net)
    assert distance(net, copy) > 1 or not order  # one layer has no hidden units
    torch.testing.assert_close(copy(images()), net(images()), rtol=1e-12, atol=1e-12)
    for back, there in zip(match(net, copy), order, strict=True):
        assert torch.equal(there[back], torch.arange(len(there)))
    assert distance(net, align(net, copy)) == 0


@pytest.mark.parametrize(("name", "options"), ARCHITECTURES)
def test_between_a_network_and_its_permuted_copy_there_is_no_barrier_once_aligned(
    name: str, options: dict[str, Any]
) -> None:
    net = network(name, options, seed=0)
    copy, order = shuffled(net)
    with torch.no_grad():
        labels = net(images()).argmax(1)  # a network that is right everywhere
    found = connectivity(
        *(net, copy, nn.functional.cross_entropy, [(images(), labels)]),
        modes=["naive", "aligned"],
        points=5,
    ).train
    assert found["aligned"].barrier == pytest.approx(0, abs=1e-12)
    assert found["aligned"].excess == pytest.approx(0, abs=1e-12)
    assert found["aligned"].accuracy_drop == 0
    # Not so without: an untrained network's loss may fall on the way, but it does not stay.
    assert np.ptp(found["naive"].loss) > 1e-3 or not order


def test_in_float32_and_at_a_real_size_a_permuted_resnet_differs_by_rounding_alone() -> None:
    torch.manual_seed(0)
    net = models.build("resnet", shape=(3, 32, 32), classes=10, width=16).eval()
    copy, _ = shuffled(net)
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(copy(x), net(x), rtol=1e-4, atol=1e-5)
    assert distance(net, align(net, copy)) == 0


@pytest.mark.parametrize(("name", "options"), ARCHITECTURES)
def test_every_hidden_unit_has_its_place_in_every_layer(name: str, options: dict[str, Any]) -> None:
    """All hidden axes of all weights are in a group, once; inputs and outputs are in none."""
    net = network(name, options, seed=0)
    counted = [place for group in hidden_units(net) for place in group.axes]
    assert len(counted) == len(set(counted))
    weights = [n for n, p in net.named_parameters() if p.ndim > 1]
    vectors = [n for n, t in net.state_dict().items() if t.ndim == 1]
    last_bias = weights[-1].replace("weight", "bias")
    expected = {(n, axis) for n in weights for axis in (0, 1)} | {(n, 0) for n in vectors}
    expected -= {(weights[0], 1), (weights[-1], 0), (last_bias, 0)}
    assert set(counted) == expected


def test_a_stage_of_a_resnet_shares_one_order_and_its_branches_have_their_own() -> None:
    groups = hidden_units(network("resnet", {"width": 3}, seed=0))
    assert sorted(group.size for group in groups) == [3, 3, 3, 6, 6, 6, 12, 12, 12]
    (stream,) = (group for group in groups if ("stem.0.weight", 0) in group.axes)
    assert {(n, a) for n, a in stream.axes if n.endswith("0.weight")} == {
        *(("stem.0.weight", 0), ("blocks.0.conv1.0.weight", 1), ("blocks.0.conv2.0.weight", 0)),
        *(("blocks.1.conv1.0.weight", 1), ("blocks.1.conv2.0.weight", 0)),
        *(("blocks.2.conv1.0.weight", 1), ("blocks.2.skip.0.weight", 1)),
    }


def test_one_layer_is_matched_as_well_as_by_trying_every_permutation() -> None:
    torch.manual_seed(0)
    first, second = (
        nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double() for _ in range(2)
    )

    def squared(net: nn.Module) -> float:
        pairs = zip(first.parameters(), net.parameters(), strict=True)
        return sum(float(((a - b) ** 2).sum().detach()) for a, b in pairs)

    every = [squared(permuted(second, [torch.tensor(p)])) for p in itertools.permutations(range(5))]
    assert len(set(every)) == 120
    assert squared(align(first, second)) == min(every)


def test_alignment_brings_unrelated_networks_nearer() -> None:
    first, second = (network("resnet", {"width": 3}, seed) for seed in (0, 1))

    def squared(net: nn.Module) -> float:
        pairs = zip(first.parameters(), net.parameters(), strict=True)
        return sum(float(((a - b) ** 2).sum().detach()) for a, b in pairs)

    aligned = align(first, second)
    assert squared(aligned) < squared(second)
    torch.testing.assert_close(aligned(images()), second(images()), rtol=1e-12, atol=1e-12)
    assert all(map(torch.equal, match(first, second), match(first, second)))  # no chance in it


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 4, 1, groups=2), nn.GroupNorm(2, 4), nn.PixelShuffle(2)]
)
def test_a_layer_with_an_order_of_its_own_is_refused_by_name(layer: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), layer, nn.ReLU(), nn.Conv2d(4, 2, 1))
    with pytest.raises(ValueError, match=r"does not know how 1 \(\w+.*orders its units"):
        hidden_units(net)


def test_an_operation_with_an_order_of_its_own_is_refused() -> None:
    class Concatenated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, self.layer(x)], 1)

    with pytest.raises(ValueError, match=r"does not know how .*cat"):
        hidden_units(Concatenated())
