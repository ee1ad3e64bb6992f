"""A curve of low loss between two networks, found by training (Garipov et al. 2018)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from landscape_sweep.probes.measurement import Loss, Progress, silent


def bezier_point(first: Tensor, bend: Tensor, second: Tensor, t: float) -> Tensor:
    """φ(t) = (1 − t)²θ1 + 2t(1 − t)θ_b + t²θ2, the quadratic Bézier curve (their eq. 4)."""
    return (1 - t) ** 2 * first + 2 * t * (1 - t) * bend + t**2 * second


def train_bend(
    first: nn.Module,
    second: nn.Module,
    loss: Loss,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    steps: int = 100,
    lr: float = 0.03,
    seed: int = 0,
    progress: Progress = silent,
) -> nn.Module:
    """The network θ_b that bends the curve from ``first`` to ``second`` around what lies between.

    SGD with momentum 0.9 on E_t L(φ(t)), t uniform over [0, 1] and drawn anew at each step; the
    ends stay. The curve starts as the straight line. Networks are in train mode here: BatchNorm
    takes the statistics of each batch, so those of φ(t) must be re-estimated before it is used.

    Args:
        first: θ1; not changed.
        second: θ2, of the same architecture; not changed.
        loss: mean loss of a batch.
        batches: training images; taken from the start again when they end.
        steps: SGD steps. The rate is ``lr`` in the first half and falls linearly to a
            hundredth of it until 90%, as in the authors' code.
        lr: learning rate of the first half.
        seed: seed of the t that are drawn.
    """
    bend = copy.deepcopy(first).train()
    ends = [
        {name: p.detach() for name, p in network.named_parameters()} for network in (first, second)
    ]
    with torch.no_grad():
        for name, p in bend.named_parameters():
            p.copy_((ends[0][name] + ends[1][name]) / 2)
    optimizer = torch.optim.SGD(bend.parameters(), lr=lr, momentum=0.9)
    random = torch.Generator().manual_seed(seed)
    for step, (inputs, targets) in zip(range(steps), _again(batches), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = lr * _rate(step / steps)
        t = float(torch.rand((), generator=random))
        at = {
            name: bezier_point(ends[0][name], p, ends[1][name], t)
            for name, p in bend.named_parameters()
        }
        optimizer.zero_grad(set_to_none=True)
        loss(functional_call(bend, at, (inputs,)), targets).backward()
        optimizer.step()
        progress(step + 1, steps)
    return bend.eval()


def _again(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Without end, and without keeping them as ``itertools.cycle`` does."""
    while True:
        yield from batches


def _rate(done: float) -> float:
    """Share of the learning rate when ``done`` (0 to 1) of the steps are taken."""
    return min(1.0, max(0.01, 1 - (done - 0.5) / 0.4 * 0.99))
