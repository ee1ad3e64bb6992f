"""BatchNorm folded into convolutions is the same function, with the same derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from landscape_sweep.curvature.folding import FoldedBatchNorm
from landscape_sweep.models import build


class Shared(nn.Module):
    """The convolution's own output is used beside the normalised one."""

    def __init__(self, *, affine: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=bias)
        self.norm = nn.BatchNorm2d(6, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolution(x)
        return (self.norm(y).tanh() + y).flatten(1)


def prepared(model: nn.Module) -> nn.Module:
    """In float64 and eval mode, with statistics and weights that are not the default ones."""
    generator = torch.Generator().manual_seed(1)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
    return model.double().eval()


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Shared(), (3, 4, 6, 6)),
        (Shared(affine=False, bias=False), (3, 4, 6, 6)),
        (nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.Flatten()), (3, 2, 5)),
        (build("resnet", shape=(3, 8, 8), classes=4, width=2), (3, 3, 8, 8)),
    ],
)
def test_values_gradients_and_hessian_products_stay(
    model: nn.Module, shape: tuple[int, ...]
) -> None:
    model = prepared(model)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)

    def derivatives(folded: bool) -> list[Tensor]:
        values = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
        if folded:
            with FoldedBatchNorm():
                outputs = functional_call(model, values, (x,))
        else:
            outputs = functional_call(model, values, (x,))
        leaves = list(values.values())
        loss = F.cross_entropy(outputs / outputs.detach().abs().max(), torch.tensor([0, 1, 2]))
        gradient = torch.autograd.grad(loss, leaves, create_graph=True)
        along = sum((g * torch.sin(g.detach() * 1e3)).sum() for g in gradient)
        product = torch.autograd.grad(along, leaves, materialize_grads=True)
        return [outputs, *gradient, *product]

    for plain, folded in zip(derivatives(False), derivatives(True), strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-9, atol=1e-12)


def test_fewer_activations_are_read_by_batch_norm() -> None:
    """What it is for: no BatchNorm is left in the graph."""
    model = prepared(build("resnet", shape=(3, 8, 8), classes=4, width=2))
    with FoldedBatchNorm():
        node = model(torch.ones(1, 3, 8, 8, dtype=torch.float64)).grad_fn
    waiting, names = [node], set()
    while waiting:
        current = waiting.pop()
        if current is not None and current not in names:
            names.add(current)
            waiting += [parent for parent, _ in current.next_functions]
    assert not any("BatchNorm" in found.name() for found in names)


def test_batch_norm_in_train_mode_is_left_alone() -> None:
    model = prepared(Shared()).train()
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = model(x)
    with FoldedBatchNorm():
        torch.testing.assert_close(model(x), plain, rtol=0, atol=0)
