"""Networks: the published parameter counts, any image size, and what probes need of them."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from landscape_sweep.models import build, names


@pytest.mark.parametrize(
    ("name", "width", "count"), [("cnn", 64, 1_422_218), ("resnet", 16, 175_258)]
)
def test_parameter_counts(name: str, width: int, count: int) -> None:
    network = build(name, shape=(3, 32, 32), classes=10, width=width)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 13, 9), (4, 40, 40)])
def test_per_sample_gradients_average_to_the_batch_gradient(
    name: str, norm: str, shape: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    network = build(name, shape=shape, classes=5, width=4, norm=norm).double().eval()
    x, y = torch.randn(3, *shape).double(), torch.tensor([0, 4, 2])
    weights = {k: p.detach() for k, p in network.named_parameters()}

    def loss(w: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(network, w, image[None]), label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))(weights, x, y)
    assert network(x).shape == (3, 5)
    F.cross_entropy(network(x), y).backward()
    for key, parameter in network.named_parameters():
        torch.testing.assert_close(each[key].mean(0), parameter.grad)


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match=r"model\.name=vgg"):
        build("vgg", shape=(3, 32, 32), classes=10)
    with pytest.raises(ValueError, match=r"model\.norm=group"):
        build("cnn", shape=(3, 32, 32), classes=10, norm="group")
