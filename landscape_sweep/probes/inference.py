"""A network in eval mode as the same function for fewer operations on a CPU.

BatchNorm goes into the convolution before it, sums and ReLU work in place on channels_last images,
and on Intel's CPUs wide 3x3 convolutions take Winograd's minimal filtering F(4x4, 3x3): 36 products
for 16 outputs instead of 144 (Lavin and Gray 2016). Its rounding is about seven times that of a
direct convolution, 1e-5 of the largest output; the rest is the same function but for the order of
sums.
"""

from __future__ import annotations

import operator
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from landscape_sweep.curvature.folding import folded_weights


def _cpu() -> str:
    """What Linux says of the processor; nothing elsewhere."""
    file = Path("/proc/cpuinfo")
    return file.read_text(errors="replace") if file.exists() else ""


TILES = 4 * 2**20
"""Bytes of transformed inputs and outputs that are worked on at once: they stay in the cache."""

WIDE = 32
"""Winograd's products pay for its transforms where inputs x outputs / (inputs + outputs) channels
reach this: at 64 and 64 it takes 0.8 of a direct convolution's time, at 32 and 32 1.3 times it."""

MKL_AT_HOME = torch.backends.mkl.is_available() and "GenuineIntel" in _cpu()
"""Winograd's work is matrix products, which torch leaves to MKL. On AMD's CPUs MKL reaches 0.4 of
the rate of a direct convolution (EPYC 9005: 108 against 279 GFLOP/s), and the detour does not pay:
the framework's CNN takes 1.24 times the time of direct convolutions there."""

LANES = 8
"""Networks with a convolution whose channels out are no multiple of this are left alone: torch 2.14
writes out of bounds in channels_last ResNets of 3 and 4 channels (seen in the backward pass)."""

# Lavin and Gray, section 4.3, in one dimension; in two, Kronecker products with themselves.
_INPUT = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_KERNEL = (
    torch.tensor([[6.0, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
)
_OUTPUT = torch.tensor(
    [[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)
_INPUT_2D, _KERNEL_2D, _OUTPUT_2D = (torch.kron(m, m) for m in (_INPUT, _KERNEL, _OUTPUT))


class Rewritten:
    """``model`` on a CPU, in eval mode and float32, for images in channels_last.

    Args:
        model: its weights may change; ``refresh`` then takes them over.

    Raises:
        ValueError: a model that can't be traced, or has no convolution that could be rewritten.
    """

    def __init__(self, model: nn.Module) -> None:
        try:
            self._traced = fx.symbolic_trace(model)
        except Exception as error:  # whatever a model does when it is given no numbers
            raise ValueError(f"the model can't be traced: {error}") from error
        graph = self._traced.graph
        for node in graph.nodes:
            if type(self._module(node)) is nn.Identity:
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)
        self._place = {node: i for i, node in enumerate(graph.nodes)}
        self._convolutions: list[_Convolution] = []
        for node in graph.nodes:
            conv = self._module(node)
            if type(conv) is nn.Conv2d:
                if conv.out_channels % LANES:
                    raise ValueError(f"a convolution of {conv.out_channels} channels")
                self._replace(node, conv)
        if not self._convolutions:
            raise ValueError("no convolution to rewrite")
        self._traced.recompile()

    def refresh(self) -> None:
        """Take over the model's present weights."""
        for convolution in self._convolutions:
            convolution.refresh()

    def __call__(self, images: Tensor) -> Tensor:
        """Outputs for (n, channels, height, width)."""
        outputs: Tensor = self._traced(images)
        return outputs

    def _replace(self, node: fx.Node, conv: nn.Conv2d) -> None:
        """One module for a convolution and the BatchNorm, sum and ReLU that alone take it up."""
        norm = self._follower(node, nn.BatchNorm2d)
        self._take_sum(node)
        relu = self._follower(node, nn.ReLU) is not None
        assert norm is None or isinstance(norm, nn.BatchNorm2d)
        kind = _Winograd if _suits_winograd(conv) else _Convolution
        self._convolutions.append(kind(conv, norm, relu=relu))
        node.target = f"rewritten_{node.name}"
        self._traced.add_submodule(node.target, self._convolutions[-1])

    def _follower(self, node: fx.Node, kind: type[nn.Module]) -> nn.Module | None:
        """Take the module that alone uses a node's output out of the graph, if it is a ``kind``."""
        if len(node.users) != 1:
            return None
        (user,) = node.users
        module = self._module(user)
        if type(module) is not kind or (isinstance(module, nn.BatchNorm2d) and _averages(module)):
            return None
        user.replace_all_uses_with(node)
        self._traced.graph.erase_node(user)
        return module

    def _take_sum(self, node: fx.Node) -> None:
        """Let a convolution add what is added to its output alone, if that is known before it."""
        (user,) = node.users if len(node.users) == 1 else (None,)
        if user is None or user.target is not operator.add or len(user.all_input_nodes) != 2:
            return
        (other,) = (n for n in user.all_input_nodes if n is not node)
        if self._place[other] < self._place[node]:
            node.args = (*node.args, other)
            user.replace_all_uses_with(node)
            self._traced.graph.erase_node(user)

    def _module(self, node: fx.Node) -> nn.Module | None:
        called = node.op == "call_module"
        return self._traced.get_submodule(str(node.target)) if called else None


def _averages(norm: nn.BatchNorm2d) -> bool:
    """Whether BatchNorm takes statistics of the images at hand."""
    return norm.training or norm.running_mean is None


def _suits_winograd(conv: nn.Conv2d) -> bool:
    plain = conv.stride == conv.dilation == conv.padding == (1, 1) and conv.groups == 1
    wide = conv.in_channels * conv.out_channels >= WIDE * (conv.in_channels + conv.out_channels)
    return (
        MKL_AT_HOME
        and plain
        and wide
        and conv.kernel_size == (3, 3)
        and conv.padding_mode == "zeros"
    )


class _Convolution(nn.Module):
    """relu(norm(conv(x)) + other), each of norm, other and relu where there is one.

    BatchNorm is in the convolution's weight and bias: see ``folded_weights``.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, *, relu: bool) -> None:
        super().__init__()
        # In a tuple, so that torch doesn't take them for parts of this module.
        self._sources = (conv, norm)
        self._relu = relu
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        conv, norm = self._sources
        self.weight = conv.weight.detach()
        self.bias = None if conv.bias is None else conv.bias.detach()
        if norm is not None:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)
            self.weight, self.bias = folded_weights(self.weight, self.bias, *statistics)

    def forward(self, images: Tensor, other: Tensor | None = None) -> Tensor:
        outputs = self._convolved(images)
        if other is not None:
            outputs += other
        return outputs.relu_() if self._relu else outputs

    def _convolved(self, images: Tensor) -> Tensor:
        # ``_conv_forward`` is what Conv2d itself calls, with its own stride, padding and so on.
        conv = self._sources[0]
        outputs: Tensor = conv._conv_forward(images, self.weight, self.bias)
        return outputs


class _Winograd(_Convolution):
    """A 3x3 convolution, stride 1, padding 1, in tiles of 4x4 outputs from 6x6 inputs."""

    @torch.no_grad()
    def refresh(self) -> None:
        super().refresh()
        outputs, inputs = self.weight.shape[:2]
        kernel = _KERNEL_2D @ self.weight.permute(2, 3, 1, 0).reshape(9, -1)
        self._kernel = kernel.view(36, inputs, outputs)
        self._shift = self.weight.new_zeros(outputs) if self.bias is None else self.bias

    def _convolved(self, images: Tensor) -> Tensor:
        count, inputs, height, width = images.shape
        rows, columns = -(-height // 4), -(-width // 4)
        outputs = images.new_empty(count, rows, 4, columns, 4, len(self._shift))
        bytes_of_an_image = 36 * rows * columns * (inputs + len(self._shift)) * 4
        part = max(TILES // bytes_of_an_image, 1)
        for some, into in zip(images.split(part), outputs.split(part), strict=True):
            self._filter(some, into)
        whole = outputs.view(count, 4 * rows, 4 * columns, -1)
        return whole[:, :height, :width].permute(0, 3, 1, 2)

    def _filter(self, images: Tensor, into: Tensor) -> None:
        """Outputs of ``images`` as (n, rows, 4, columns, 4, channels)."""
        count, inputs, height, width = images.shape
        _, rows, _, columns, _, _ = into.shape
        border = (0, 0, 1, 4 * columns - width + 1, 1, 4 * rows - height + 1)
        padded = F.pad(images.permute(0, 2, 3, 1), border)
        # (n, rows, columns, channels, 6, 6), tiles that overlap by 2, then (36, n·rows·columns, …).
        tiles = padded.unfold(1, 6, 4).unfold(2, 6, 4).permute(4, 5, 0, 1, 2, 3).reshape(36, -1)
        products = (_INPUT_2D @ tiles).view(36, -1, inputs) @ self._kernel
        outputs = (_OUTPUT_2D @ products.view(36, -1)).view(4, 4, count, rows, columns, -1)
        torch.add(outputs.permute(2, 3, 0, 4, 1, 5), self._shift, out=into)
