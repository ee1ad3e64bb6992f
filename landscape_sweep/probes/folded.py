"""Networks with BatchNorm's statistics folded into its weight and bias."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def folded(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in eval mode, the same function, with constant BatchNorm statistics.

    In eval mode y = γ(x − μ)/√(v + ε) + β is the affine map γ'x + β' with γ' = γ/√(v + ε) and
    β' = β − γ'μ. With these as weight and bias, mean 0 and v + ε = 1, everything that was learnt
    from data is a parameter, which bounds and norms over parameters need.

    Raises:
        ValueError: BatchNorm without running statistics, or without weight and bias.
    """
    result = copy.deepcopy(model).eval()
    for name, module in result.named_modules():
        if not isinstance(module, _BatchNorm):
            continue
        mean, variance = module.running_mean, module.running_var
        if mean is None or variance is None or not module.affine:
            raise ValueError(f"BatchNorm layer {name!r} keeps no statistics or has no weight")
        module.weight.div_((variance + module.eps).sqrt())
        module.bias.sub_(module.weight * mean)
        mean.zero_()
        variance.fill_(1 - module.eps)
    return result
