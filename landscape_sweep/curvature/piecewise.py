"""Is a network piecewise linear in each of its parameter tensors? Found out by watching it run.

Then ∂²f/∂θ_i² = 0 wherever it exists, the residual term of the Hessian has a zero diagonal, and the
trace of the Hessian is that of the Gauss-Newton matrix, which has an exact formula. ReLU, max-pool,
average-pool, convolution, linear layers, skips and BatchNorm in eval mode keep the property; tanh,
GELU, LayerNorm, softmax inside the network, attention and weights used twice in a row lose it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from landscape_sweep.curvature.objective import Objective, full_precision

# Linear in all tensor arguments together, or choosing between pieces that are.
_LINEAR = frozenset({
    "add", "add_", "sub", "sub_", "rsub", "neg", "sum", "mean", "clone", "copy", "copy_",
    "_to_copy", "detach", "alias", "view", "_unsafe_view", "reshape", "_reshape_alias", "permute",
    "transpose", "t", "squeeze", "unsqueeze", "expand", "slice", "select", "index",
    "index_select", "gather", "cat", "stack", "split", "split_with_sizes", "unbind", "narrow",
    "as_strided", "flatten", "unfold", "repeat", "roll", "flip", "constant_pad_nd",
    "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "upsample_nearest2d", "upsample_bilinear2d",
    "pixel_shuffle", "pixel_unshuffle", "im2col", "col2im", "lift_fresh", "contiguous", "cumsum",
    "relu", "relu_", "leaky_relu", "leaky_relu_", "threshold", "threshold_", "hardtanh",
    "hardtanh_", "clamp", "clamp_", "clamp_min", "clamp_min_", "clamp_max", "abs",
    "max_pool2d_with_indices", "max_pool3d_with_indices", "mkldnn_max_pool2d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "amax", "amin", "max", "min", "maximum",
    "minimum",
})  # fmt: skip
# Linear in each of two arguments: these must not depend on the same parameter.
_PRODUCTS = {
    "mul": (0, 1), "mul_": (0, 1), "mm": (0, 1), "bmm": (0, 1), "mv": (0, 1), "dot": (0, 1),
    "addmm": (1, 2), "baddbmm": (1, 2), "addmv": (1, 2), "convolution": (0, 1), "linear": (0, 1),
    "mkldnn_convolution": (0, 1), "cudnn_convolution": (0, 1), "_prelu_kernel": (0, 1),
    "addcmul": (1, 2),
}  # fmt: skip
_BATCH_NORMS = frozenset({
    "native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training", "_batch_norm_no_update", "miopen_batch_norm",
})  # fmt: skip
# Piecewise constant: their results depend on no parameter.
_CONSTANT = frozenset({
    "gt", "ge", "lt", "le", "eq", "ne", "sign", "argmax", "argmin", "zeros_like", "ones_like",
    "empty_like", "full_like", "new_zeros", "new_ones", "new_empty", "new_full", "bitwise_and",
    "bitwise_or", "logical_not", "logical_and", "isnan",
})  # fmt: skip


@torch.no_grad()
def obstacle(objective: Objective) -> str | None:
    """Why the model is not piecewise linear in each parameter tensor, or None where it is.

    Runs the model on two samples and follows which parameters each value depends on. An operation
    it doesn't know counts as an obstacle, so that the answer None can be relied on.
    """
    inputs = objective.batches[0][0][:2]
    watch = _Watch(zip(objective.vector.names, objective.vector.values, strict=True))
    with full_precision(), watch:
        objective.outputs(objective.vector.values, inputs)
    return watch.obstacle


class _Watch(TorchDispatchMode):
    """Follows, by storage, which parameters each tensor depends on."""

    def __init__(self, parameters: Iterable[tuple[str, Tensor]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.obstacle: str | None = None
        self._alive: list[Tensor] = []  # so that no storage's address is given out twice
        self._depends: dict[int, frozenset[str]] = {}
        for name, tensor in parameters:
            self._mark(tensor, frozenset({name}))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        depends = self._result_depends(name, args, kwargs or {})
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.is_floating_point():
                self._mark(leaf, depends)
        return result

    def _result_depends(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> frozenset[str]:
        depends = self._of((args, kwargs))
        if not depends or name in _CONSTANT:
            return frozenset()
        if name in _LINEAR:
            return depends
        if name in _PRODUCTS:
            left, right = (self._of(args[i]) for i in _PRODUCTS[name])
            self._refuse(
                bool(left & right),
                f"{name} multiplies values that depend on the same "
                f"parameter ({', '.join(sorted(left & right)[:1])})",
            )
        elif name in _BATCH_NORMS:
            training = name != "_native_batch_norm_legit_no_training" and any(
                a is True for a in args[3:]
            )
            self._refuse(training, "BatchNorm in train mode")
            both = self._of(args[0]) & self._of(args[1])
            self._refuse(bool(both), "BatchNorm scales by a parameter that its input depends on")
        elif name == "div" or name == "div_":
            self._refuse(bool(self._of(args[1])), "div divides by a value that is learnt")
        elif name == "where":
            pass  # the condition chooses the piece
        else:
            self._refuse(True, f"{name} is not piecewise linear, or not known to be")
        return depends

    def _of(self, arguments: Any) -> frozenset[str]:
        found: frozenset[str] = frozenset()
        for leaf in tree_leaves(arguments):
            if isinstance(leaf, Tensor):
                found |= self._depends.get(leaf.untyped_storage()._cdata, frozenset())
        return found

    def _mark(self, tensor: Tensor, depends: frozenset[str]) -> None:
        key = tensor.untyped_storage()._cdata
        self._alive.append(tensor)
        self._depends[key] = self._depends.get(key, frozenset()) | depends

    def _refuse(self, condition: bool, reason: str) -> None:
        if condition and self.obstacle is None:
            self.obstacle = reason
