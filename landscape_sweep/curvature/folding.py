"""A convolution and the BatchNorm behind it as one convolution: the same function, for less.

In eval mode BatchNorm is a scale and a shift for each channel, s·y + t with s = γ/√(σ² + ε) and
t = β − μ s, so that BatchNorm(W * x + b) = (sW) * x + (s b + t). Differentiated twice, the left
reads and writes every activation about ten times; on the right, s and t act on weights alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)


class FoldedBatchNorm(TorchFunctionMode):
    """While it is active, BatchNorm in eval mode right behind a convolution is folded into it.

    Values and derivatives stay the same but for rounding, also where the convolution's output is
    used elsewhere. Whatever else runs is left as it is.
    """

    _last: tuple[Tensor, Callable[..., Tensor], Sequence[Any], Mapping[str, Any]] | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm and self._last is not None and args[0] is self._last[0]:
            folded = self._folded(*args, **kwargs)
            if folded is not None:
                return folded
        result = func(*args, **kwargs)
        if func in _CONVOLUTIONS:
            self._last = (result, func, args, kwargs)
        return result

    def _folded(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor | None:
        """The convolution with s and t in its weight and bias; None where statistics are taken."""
        if training or running_mean is None or running_var is None:
            return None
        assert self._last is not None
        _, convolve, args, kwargs = self._last
        x, kernel, offset, *rest = (*args, None) if len(args) == 2 else args
        folded = folded_weights(kernel, offset, running_mean, running_var, weight, bias, eps)
        return convolve(x, *folded, *rest, **kwargs)


def folded_weights(
    kernel: Tensor,
    offset: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """sW and s b + t of a convolution W, b with BatchNorm μ, σ², γ, β behind it, as above."""
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * weight
    shift = -mean if offset is None else offset - mean
    shift = shift * scale
    if bias is not None:
        shift = shift + bias
    return kernel * scale.view(-1, *[1] * (kernel.ndim - 1)), shift
