"""Networks: the published parameter counts, any image size, and what probes need of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import functional as F

from landscape_sweep.models import ModelError, build, names
from landscape_sweep.models._norm import norm_1d, norm_2d

NORMS = ("none", "batch", "layer")
VARIANTS = [
    *({"name": "cnn", "norm": norm} for norm in NORMS),
    *(
        {"name": "resnet", "norm": norm, "skip": skip}
        for norm, skip in itertools.product(NORMS, (True, False))
    ),
    *(
        {"name": "mlp", "depth": 4, "norm": norm, "skip": skip}
        for norm, skip in itertools.product(NORMS, (True, False))
    ),
]


def label(keys: dict[str, Any]) -> str:
    return "-".join(map(str, keys.values()))


def small(shape: tuple[int, int, int] = (2, 8, 9), seed: int = 0, **keys: Any) -> nn.Module:
    """A narrow network of 3 classes in float64, with no parameter left at zero or one."""
    torch.manual_seed(seed)
    network = build(shape=shape, classes=3, **({"width": 4} | keys)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(0.5 * torch.rand_like(buffer))
    return network


def count(name: str, **keys: Any) -> int:
    network = build(name, shape=(3, 32, 32), classes=10, **keys)
    return sum(p.numel() for p in network.parameters())


# ---------------------------------------------------------------- the architectures


@pytest.mark.parametrize(
    ("name", "width", "parameters"), [("cnn", 64, 1_422_218), ("resnet", 16, 175_258)]
)
def test_parameter_counts(name: str, width: int, parameters: int) -> None:
    assert count(name, width=width) == parameters


def test_parameter_counts_of_the_variants() -> None:
    # Norms have a scale and a shift a channel; without one, convolutions have a bias instead.
    channels = 16 + 4 * (16 + 32 + 64) + 32 + 64  # stem, blocks, 1x1 skips
    assert count("resnet", width=16, norm="layer") == 175_258
    assert count("resnet", width=16, norm="none") == 175_258 - channels
    assert count("resnet", width=16, skip=False) == 175_258 - 32 * (16 + 2) - 64 * (32 + 2)
    assert count("cnn", norm="batch") == 1_422_218 + 64 + 128 + 256
    assert count("mlp", depth=1) == 3072 * 10 + 10
    assert count("mlp", depth=4, width=20) == (3072 + 1) * 20 + 2 * 21 * 20 + 21 * 10
    assert count("mlp", depth=4, width=20, norm="layer") == 3072 * 20 + 2 * 400 + 3 * 40 + 21 * 10


def test_the_resnet_has_six_blocks_with_two_at_each_width() -> None:
    network = build("resnet", shape=(3, 32, 32), classes=10)
    blocks = network.get_submodule("blocks")
    sizes, x = [], network.get_submodule("stem")(torch.zeros(1, 3, 32, 32))
    for block in blocks.children():
        x = block(x)
        sizes.append((x.shape[1], x.shape[2]))
    assert sizes == [(64, 32), (64, 32), (128, 16), (128, 16), (256, 8), (256, 8)]


@pytest.mark.parametrize("keys", VARIANTS, ids=label)
def test_any_image_from_8x8_up_gives_one_logit_a_class(keys: dict[str, Any]) -> None:
    for channels, side in itertools.product((1, 3, 4), (8, 9, 13, 28, 32, 40)):
        network = build(shape=(channels, side, side + 1), classes=7, **({"width": 2} | keys))
        assert network(torch.randn(2, channels, side, side + 1)).shape == (2, 7)


def test_layer_is_layer_norm_over_channels_and_positions() -> None:
    x = torch.randn(3, 4, 5, 6)
    torch.testing.assert_close(norm_2d("layer", 4)(x), F.layer_norm(x, (4, 5, 6)))
    h = torch.randn(3, 7)
    torch.testing.assert_close(norm_1d("layer", 7)(h), F.layer_norm(h, (7,)))
    assert torch.equal(norm_2d("none", 4)(x), x)


@pytest.mark.parametrize("norm", NORMS)
def test_without_skips_the_resnet_is_a_plain_chain(norm: str) -> None:
    network = small(name="resnet", norm=norm, skip=False).eval()
    x = torch.randn(3, 2, 8, 9, dtype=torch.float64)
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, nn.ReLU)
    chain = [module for module in network.modules() if isinstance(module, kinds)]
    # modules() goes by registration: the stem, then block by block.
    plain = x
    for module in sorted(chain, key=lambda module: _position(network, module)):
        plain = module(plain)
    plain = network.get_submodule("head")(plain.mean((2, 3)))
    torch.testing.assert_close(network(x), plain)


def _position(network: nn.Module, module: nn.Module) -> tuple[int, ...]:
    """Where the paper has it: stem, its ReLU, then conv1, relu1, conv2, relu2 of each block."""
    name = next(name for name, other in network.named_modules() if other is module)
    stage, *rest = name.split(".")
    if stage in ("stem", "relu"):
        return (-1, ("stem", "relu").index(stage), int(rest[0]) if rest else 0)
    part = ("conv1", "relu1", "conv2", "relu2").index(rest[1])
    return (int(rest[0]), part, int(rest[2]) if len(rest) > 2 else 0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_skip_adds_its_input(norm: str) -> None:
    """With all branches at zero, a ResNet is its stem and its 1x1 convolutions."""
    network = small(name="resnet", norm=norm).eval()
    blocks = network.get_submodule("blocks")
    x = torch.randn(3, 2, 8, 9, dtype=torch.float64)
    expected = network.get_submodule("stem")(x).relu()
    with torch.no_grad():
        for block in blocks.children():
            for parameter in block.get_submodule("conv2").parameters():
                parameter.zero_()
            for name, buffer in block.get_submodule("conv2").named_buffers():
                if name.endswith("running_mean"):
                    buffer.zero_()
            expected = block.get_submodule("skip")(expected).relu()
    expected = network.get_submodule("head")(expected.mean((2, 3)))
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_the_mlp_is_its_formula(activation: str, skip: bool) -> None:
    network = small(name="mlp", depth=4, activation=activation, skip=skip)
    W = [p for name, p in network.named_parameters() if name.endswith("weight")]
    b = [p for name, p in network.named_parameters() if name.endswith("bias")]
    a = getattr(torch.nn.functional, activation)
    x = torch.randn(5, 2, 8, 9, dtype=torch.float64)
    h1 = x.flatten(1) @ W[0].T + b[0]
    h2 = a(h1) @ W[1].T + b[1] + (h1 if skip else 0)
    h3 = a(h2) @ W[2].T + b[2] + (h2 if skip else 0)
    torch.testing.assert_close(network(x), a(h3) @ W[3].T + b[3])


# ---------------------------------------------------------------- what probes need


@pytest.mark.parametrize("keys", VARIANTS, ids=label)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 13, 9), (4, 40, 40)])
def test_per_sample_gradients_average_to_the_batch_gradient(
    keys: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    network = small(shape, **keys).eval()
    x, y = torch.randn(3, *shape, dtype=torch.float64), torch.tensor([0, 2, 1])
    weights = {k: p.detach() for k, p in network.named_parameters()}

    def loss(w: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(network, w, image[None]), target[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))(weights, x, y)
    F.cross_entropy(network(x), y).backward()
    for key, parameter in network.named_parameters():
        torch.testing.assert_close(each[key].mean(0), parameter.grad)


@pytest.mark.parametrize("keys", VARIANTS, ids=label)
def test_forward_and_backward_second_derivatives_agree(keys: dict[str, Any]) -> None:
    """Hessian-vector products by double backward and by forward over backward."""
    network = small(**keys).eval()
    x, y = torch.randn(4, 2, 8, 9, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    weights = {k: p.detach() for k, p in network.named_parameters()}
    v = {k: torch.randn_like(p) for k, p in weights.items()}
    gradient = grad(lambda w: F.cross_entropy(functional_call(network, w, x), y))
    _, forward = jvp(gradient, (weights,), (v,))
    parameters = list(network.parameters())
    first = torch.autograd.grad(F.cross_entropy(network(x), y), parameters, create_graph=True)
    backward = torch.autograd.grad(first, parameters, grad_outputs=list(v.values()))
    for key, product in zip(weights, backward, strict=True):
        torch.testing.assert_close(forward[key], product)


def second_derivatives_by_tensor(network: nn.Module) -> Iterator[float]:
    """Largest second derivative of the logits along a random direction in each single tensor."""
    x = torch.randn(3, 2, 8, 9, dtype=torch.float64)
    for key, parameter in network.named_parameters():
        weight, v = parameter.detach(), torch.randn_like(parameter)

        def logits(w: Tensor, key: str = key) -> Tensor:
            return functional_call(network, {key: w}, x)

        def slope(w: Tensor, v: Tensor = v, logits: Any = logits) -> Tensor:
            return jvp(logits, (w,), (v,))[1]

        yield jvp(slope, (weight,), (v,))[1].abs().max().item()


@pytest.mark.parametrize("keys", [keys for keys in VARIANTS if keys["norm"] != "layer"], ids=label)
def test_relu_networks_are_piecewise_linear_in_each_tensor(keys: dict[str, Any]) -> None:
    """The condition of the exact trace: no curvature of the logits within one tensor."""
    network = small(**keys).eval()
    assert max(second_derivatives_by_tensor(network)) < 1e-9


def test_tanh_and_layer_norm_are_not() -> None:
    for keys in ({"name": "mlp", "activation": "tanh"}, {"name": "cnn", "norm": "layer"}):
        assert max(second_derivatives_by_tensor(small(**keys).eval())) > 1e-6


def test_permuting_hidden_channels_changes_nothing() -> None:
    """The symmetry that aligning two networks works with, inside one residual block."""
    network = small(name="resnet").eval()
    x = torch.randn(3, 2, 8, 9, dtype=torch.float64)
    before = network(x)
    block = network.get_submodule("blocks.3")
    order = torch.randperm(8)
    with torch.no_grad():
        for tensor in (
            *block.get_submodule("conv1").parameters(),
            *block.get_submodule("conv1").buffers(),
        ):
            if tensor.dim():
                tensor.copy_(tensor[order])
        weight = block.get_parameter("conv2.0.weight")
        weight.copy_(weight[:, order])
    torch.testing.assert_close(network(x), before)


def test_nothing_works_in_place_and_nothing_is_tied() -> None:
    for keys in VARIANTS:
        network = build(shape=(1, 8, 8), classes=3, width=2, **keys)
        assert not any(getattr(module, "inplace", False) for module in network.modules())
        every = [p for module in network.modules() for p in module.parameters(recurse=False)]
        assert len(every) == len({id(p) for p in every})


# ---------------------------------------------------------------- initialisation and training


@pytest.mark.parametrize("keys", VARIANTS, ids=label)
def test_weights_follow_the_callers_seed(keys: dict[str, Any]) -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        network = build(shape=(1, 8, 8), classes=3, **keys)
        return nn.utils.parameters_to_vector(network.parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("keys", VARIANTS, ids=label)
def test_parameters_are_counted_without_memory(keys: dict[str, Any]) -> None:
    with torch.device("meta"):
        network = build(shape=(3, 32, 32), classes=10, **keys)
    assert all(p.is_meta for p in network.parameters())


def test_a_resnet_without_norm_starts_as_fixup_has_it() -> None:
    torch.manual_seed(0)
    network = build("resnet", shape=(3, 16, 16), classes=10, norm="none")
    logits = network(torch.randn(4, 3, 16, 16))
    assert torch.equal(logits, torch.zeros(4, 10))
    for block in network.get_submodule("blocks").children():
        weight = block.get_parameter("conv1.0.weight")
        assert block.get_parameter("conv2.0.weight").abs().max() == 0
        # L^(-1/(2m-2)) times He's deviation, for L = 6 branches of m = 2 layers.
        expected = 6**-0.5 * math.sqrt(2 / weight[0].numel())
        assert weight.std().item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("keys", VARIANTS, ids=label)
def test_every_network_learns_and_every_parameter_takes_part(keys: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = build(shape=(1, 8, 8), classes=4, width=8, **keys)
    y = torch.arange(32) % 4
    x = torch.randn(4, 1, 8, 8)[y] + 0.3 * torch.randn(32, 1, 8, 8)  # four patterns and noise
    # Adam: momentum SGD at one rate for all is chaotic in the plain ResNet without norm, where
    # the number of threads then decides between 0.0 and 0.3.
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    moved = {name: p.detach().clone() for name, p in network.named_parameters()}
    first = F.cross_entropy(network(x), y).item()
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    assert F.cross_entropy(network(x), y).item() < 0.2 * first
    for name, parameter in network.named_parameters():
        assert not torch.equal(parameter, moved[name]), name


@pytest.mark.parametrize("norm", NORMS)
def test_a_deep_mlp_with_skips_keeps_its_signal(norm: str) -> None:
    torch.manual_seed(0)
    network = build("mlp", shape=(1, 8, 8), classes=10, depth=32, width=64, norm=norm, skip=True)
    logits = network(torch.randn(100, 1, 8, 8))
    assert 0.05 < logits.std().item() < 2


# ---------------------------------------------------------------- bad options, devices, configs


@pytest.mark.parametrize(
    ("keys", "key", "allowed"),
    [
        ({"name": "vgg"}, "model.name", "cnn, mlp, resnet"),
        ({"name": "_norm"}, "model.name", "cnn, mlp, resnet"),
        ({"name": "cnn", "norm": "group"}, "model.norm", "none, batch, layer"),
        ({"name": "resnet", "width": 0}, "model.width", "1 or more"),
        ({"name": "mlp", "depth": 0}, "model.depth", "1 or more"),
        ({"name": "mlp", "activation": "elu"}, "model.activation", "relu, tanh, gelu"),
        ({"name": "cnn", "shape": (1, 7, 8)}, "shape", "8x8 or more"),
        ({"name": "cnn", "classes": 1}, "classes", "2 or more"),
    ],
)
def test_wrong_options_are_named(keys: dict[str, Any], key: str, allowed: str) -> None:
    with pytest.raises(ModelError) as caught:
        build(**({"shape": (3, 32, 32), "classes": 10} | keys))
    assert caught.value.key == key
    assert allowed in caught.value.allowed
    assert str(caught.value) == f"{key}={caught.value.value}: allowed: {caught.value.allowed}"


def test_an_option_of_another_family_is_refused() -> None:
    with pytest.raises(TypeError, match="skip"):
        build("cnn", shape=(3, 32, 32), classes=10, skip=True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("keys", VARIANTS, ids=label)
def test_cuda_computes_the_same(keys: dict[str, Any]) -> None:
    network = small(**keys).eval()
    x = torch.randn(3, 2, 8, 9, dtype=torch.float64)
    here = network(x)
    torch.testing.assert_close(network.cuda()(x.cuda()).cpu(), here)


@pytest.mark.parametrize("name", names())
def test_every_family_has_a_config_with_a_comment_on_every_key(name: str) -> None:
    text = (Path(__file__).parents[2] / "conf" / "model" / f"{name}.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines[0].split("#")[0].strip() == f"name: {name}"
    assert all(" # " in line for line in lines)
