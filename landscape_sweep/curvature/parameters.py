"""Which parameters of a model are differentiated, and how they lie in one flat vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

ParameterFilter = str | Callable[[str, Tensor], bool]
"""``"all"``, ``"matrices"`` (more than one dimension), a layer's name, or a predicate."""


class ParameterVector:
    """The selected parameters of a model as one vector of length p, in the model's own order.

    The values are copies: later training steps don't change them.

    Args:
        model: whose trainable parameters (``requires_grad``) are selected from.
        select: ``"all"``; ``"matrices"``, those with more than one dimension; the name of a
            layer or of one parameter, as in ``model.named_parameters()``; or a predicate of a
            parameter's name and tensor.

    Attributes:
        names: of the selected parameters.
        values: their values, detached copies.
        frozen: all other parameters and all buffers, by name, detached copies.
        size: p, the number of selected scalars.

    Raises:
        ValueError: where nothing is selected, or where dtypes or devices are mixed.
    """

    def __init__(self, model: nn.Module, select: ParameterFilter = "all") -> None:
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not trainable:
            raise ValueError("the model has no parameter with requires_grad=True")
        chosen = _chosen(trainable, select)
        kinds = {(p.dtype, p.device) for p in chosen.values()}
        if len(kinds) > 1:
            raise ValueError(f"the parameters must share one dtype and device, but have {kinds}")
        self.dtype, self.device = kinds.pop()
        if not self.dtype.is_floating_point:
            raise ValueError(f"the parameters are {self.dtype}, which has no derivative")
        self.names = tuple(chosen)
        self.values = tuple(p.detach().clone() for p in chosen.values())
        rest = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self.frozen = {n: t.detach().clone() for n, t in rest.items() if n not in chosen}
        self.size = sum(p.numel() for p in self.values)

    def split(self, vector: Tensor) -> tuple[Tensor, ...]:
        """(p,) into views shaped like the parameters."""
        parts = vector.split([p.numel() for p in self.values])
        return tuple(part.view_as(value) for part, value in zip(parts, self.values, strict=True))

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """The inverse of ``split``, as a fresh (p,) tensor."""
        return torch.cat([t.detach().reshape(-1) for t in tensors])

    def state(self, values: Sequence[Tensor]) -> dict[str, Tensor]:
        """``values`` in the selected places, everything else as it was, for a functional call.

        Buffers are copied each time, since BatchNorm in train mode writes to them.
        """
        frozen = {name: tensor.clone() for name, tensor in self.frozen.items()}
        return {**frozen, **dict(zip(self.names, values, strict=True))}


def _chosen(trainable: dict[str, nn.Parameter], select: ParameterFilter) -> dict[str, nn.Parameter]:
    if callable(select):
        chosen = {name: p for name, p in trainable.items() if select(name, p)}
    elif select == "all":
        chosen = trainable
    elif select == "matrices":
        chosen = {name: p for name, p in trainable.items() if p.ndim > 1}
    else:
        chosen = {
            name: p
            for name, p in trainable.items()
            if name == select or name.startswith(f"{select}.")
        }
    if not chosen:
        layers = sorted({name.rpartition(".")[0] or name for name in trainable})
        raise ValueError(
            f"parameters={select!r} selects nothing; it takes 'all', 'matrices', a predicate, "
            f"or one of {', '.join(layers)}"
        )
    return chosen
