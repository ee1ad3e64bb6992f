"""Squared norms of single samples' vector-Jacobian products, layer by layer.

For a linear layer y = Wa the gradient of one sample is δaᵀ, so its squared norm is ‖δ‖²‖a‖²: no
gradient need be formed (Goodfellow, *Efficient per-example gradient computations*, 2015). For a
convolution, a sum over positions, it is either Σ_st (δ_s·δ_t)(a_s·a_t), two Gram matrices, or the
norm of the product formed: whichever takes fewer multiplications (Rochette and others, 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call, vjp, vmap
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from landscape_sweep.curvature.objective import Objective


def squared_norms(
    objective: Objective, inputs: Tensor, cotangents: Sequence[Tensor], *, layerwise: bool
) -> Tensor:
    """‖J_nᵀ u_kn‖² for each cotangent k and sample n, (K, N), with J_n = ∂f_n/∂θ.

    Args:
        objective: whose model's samples don't interact (BatchNorm in eval mode).
        inputs: (N, ...).
        cotangents: K tensors shaped like the outputs, (N, ...).
        layerwise: by the rules for known layers; else by forming each sample's gradient.
    """
    if layerwise:
        return torch.stack(list(_layerwise(objective, inputs, cotangents)))
    return torch.stack([_formed(objective, inputs, u) for u in cotangents])


def has_layerwise_rules(objective: Objective, inputs: Tensor) -> bool:
    """Whether each selected parameter belongs to a layer with a rule, and the rules are right.

    Checked against one sample's gradient, since a model may use a layer's parameters by other
    ways than calling it.
    """
    owners = {
        f"{prefix}.{name}" if prefix else name: module
        for prefix, module in objective.model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
    if not all(_has_rule(owners[name]) for name in objective.vector.names):
        return False
    sample = inputs[:1]
    with torch.no_grad():
        outputs = objective.outputs(objective.vector.values, sample)
    generator = torch.Generator().manual_seed(0)
    cotangent = torch.randn(outputs.shape, generator=generator).to(outputs)
    try:
        ours = float(squared_norms(objective, sample, [cotangent], layerwise=True))
    except _NoRuleError:
        return False
    values = [v.detach().requires_grad_() for v in objective.vector.values]
    gradient = torch.autograd.grad(
        objective.outputs(values, sample), values, cotangent, materialize_grads=True
    )
    true = float(sum(g.double().square().sum() for g in gradient))
    return bool(abs(ours - true) <= torch.finfo(objective.vector.dtype).eps ** 0.5 * true)


class _NoRuleError(Exception):
    """A layer is used in a way that the rules don't cover."""


@dataclass
class _Call:
    """One layer's call: what its rule needs."""

    module: nn.Module
    inputs: Tensor
    edge: GradientEdge
    kinds: tuple[str, ...]  # of "weight" and "bias", those selected
    cache: dict[str, Tensor] = field(default_factory=dict)


def _has_rule(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    if isinstance(module, _BatchNorm):
        return not module.training and module.running_mean is not None
    return isinstance(module, nn.Linear)


def _layerwise(
    objective: Objective, inputs: Tensor, cotangents: Sequence[Tensor]
) -> Iterator[Tensor]:
    calls, outputs = _record(objective, inputs)
    edges = [call.edge for call in calls]
    for number, cotangent in enumerate(cotangents):
        deltas = torch.autograd.grad(
            outputs, edges, cotangent, retain_graph=number + 1 < len(cotangents)
        )
        with torch.no_grad():
            total = torch.zeros(len(inputs), dtype=torch.float64, device=inputs.device)
            for call, delta in zip(calls, deltas, strict=True):
                total += _squared_norm(call, delta, len(cotangents))
        yield total


def _record(objective: Objective, inputs: Tensor) -> tuple[list[_Call], Tensor]:
    """Run the model and keep each layer's input and the place of its output in the graph."""
    selected = set(objective.vector.names)
    calls: list[_Call] = []
    with ExitStack() as stack:
        for prefix, module in objective.model.named_modules():
            kinds = tuple(
                kind
                for kind, _ in module.named_parameters(recurse=False)
                if (f"{prefix}.{kind}" if prefix else kind) in selected
            )
            if not kinds:
                continue

            def keep(
                module: nn.Module, args: Any, output: Tensor, kinds: tuple[str, ...] = kinds
            ) -> None:
                if any(call.module is module for call in calls) or len(args) != 1:
                    raise _NoRuleError
                # The edge stays that of this output even if it is overwritten in place later.
                calls.append(_Call(module, args[0].detach(), get_gradient_edge(output), kinds))

            stack.callback(module.register_forward_hook(keep).remove)
        values = [v.detach().requires_grad_() for v in objective.vector.values]
        outputs = objective.outputs(values, inputs)
    return calls, outputs


def _squared_norm(call: _Call, delta: Tensor, repeats: int) -> Tensor:
    """(N,) ‖∂/∂(weight, bias)‖² of one layer, given δ, the cotangent of its output."""
    module = call.module
    if isinstance(module, nn.Linear):
        total = _linear(call, delta)
    elif isinstance(module, nn.Conv2d):
        total = _convolution(call, module, delta, repeats)
    else:
        assert isinstance(module, _BatchNorm)
        total = _batch_norm(call, module, delta)
    return total.double()


def _linear(call: _Call, delta: Tensor) -> Tensor:
    a = call.inputs.flatten(1, -2) if call.inputs.ndim > 2 else call.inputs[:, None]
    d = delta.flatten(1, -2) if delta.ndim > 2 else delta[:, None]
    total = d.new_zeros(len(d))
    if "weight" in call.kinds:
        if d.shape[1] == 1:
            total = total + a.square().sum((1, 2)) * d.square().sum((1, 2))
        else:
            total = total + (d.mT @ a).square().sum((1, 2))
    if "bias" in call.kinds:
        total = total + d.sum(1).square().sum(1)
    return total


def _convolution(call: _Call, module: nn.Conv2d, delta: Tensor, repeats: int) -> Tensor:
    samples, channels = delta.shape[:2]
    d = delta.reshape(samples * module.groups, channels // module.groups, -1)
    total = delta.new_zeros(samples)
    if "weight" in call.kinds:
        positions, out = d.shape[-1], d.shape[1]
        fan_in = module.weight[0].numel()
        gram = positions * positions * (out + fan_in / repeats)
        norms = (
            (d.mT @ d).mul_(_patch_gram(call, module)).sum((1, 2))
            if gram < positions * out * fan_in
            else (d @ _patches(call, module).mT).square().sum((1, 2))
        )
        total = total + norms.reshape(samples, module.groups).sum(1)
    if "bias" in call.kinds:
        total = total + delta.sum((2, 3)).square().sum(1)
    return total


def _patches(call: _Call, module: nn.Conv2d) -> Tensor:
    """(N × groups, fan-in, positions): what each output position sees."""
    if "patches" not in call.cache:
        unfolded = F.unfold(
            call.inputs,
            tuple(module.kernel_size),
            tuple(module.dilation),
            tuple(int(p) for p in module.padding),
            tuple(module.stride),
        )
        call.cache["patches"] = unfolded.reshape(
            len(call.inputs) * module.groups, module.weight[0].numel(), -1
        )
    return call.cache["patches"]


def _patch_gram(call: _Call, module: nn.Conv2d) -> Tensor:
    if "gram" not in call.cache:
        patches = _patches(call, module)
        call.cache["gram"] = patches.mT @ patches
        del call.cache["patches"]
    return call.cache["gram"]


def _batch_norm(call: _Call, module: _BatchNorm, delta: Tensor) -> Tensor:
    assert module.running_mean is not None
    assert module.running_var is not None
    d = delta.flatten(2) if delta.ndim > 2 else delta[..., None]
    total = delta.new_zeros(len(delta))
    if "weight" in call.kinds:
        if "normal" not in call.cache:
            call.cache["normal"] = F.batch_norm(
                call.inputs, module.running_mean, module.running_var, eps=module.eps
            ).view_as(d)
        total = total + (d * call.cache["normal"]).sum(2).square().sum(1)
    if "bias" in call.kinds:
        total = total + d.sum(2).square().sum(1)
    return total


def _formed(objective: Objective, inputs: Tensor, cotangents: Tensor) -> Tensor:
    """(N,) by forming each sample's gradient, a few samples at a time."""
    names, frozen = objective.vector.names, objective.vector.frozen

    def one(sample: Tensor, cotangent: Tensor) -> Tensor:
        def outputs(*values: Tensor) -> Tensor:
            state = {**frozen, **dict(zip(names, values, strict=True))}
            result = functional_call(objective.model, state, (sample[None],))
            assert isinstance(result, Tensor)
            return result[0]

        pull = vjp(outputs, *objective.vector.values)[1]
        squares = [g.double().square().sum() for g in pull(cotangent)]
        return torch.stack(squares).sum()

    few = 16  # each holds p numbers; more at once leaves the cache (measured)
    parts = [vmap(one)(x, u) for x, u in zip(inputs.split(few), cotangents.split(few), strict=True)]
    return torch.cat(parts)
