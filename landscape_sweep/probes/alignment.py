"""Permutes the hidden units of one network so that its weights lie near another's.

A network computes the same function when its hidden units change places, so that two networks may
be one and the same up to a permutation (Entezari et al. 2022). Weight matching looks for the
permutations π that minimise ‖θ1 − π(θ2)‖ (Ainsworth et al. 2023, "Git Re-Basin", section 3.2).
"""

from __future__ import annotations

import copy
import operator
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd


@dataclass(frozen=True)
class Units:
    """Hidden units that can only change places together, such as a stage's residual stream.

    Attributes:
        size: how many units.
        axes: names in ``state_dict`` and the axis along which each tensor counts these units. A
            tensor behind a flattening counts each unit several times, one after the other.
    """

    size: int
    axes: tuple[tuple[str, int], ...]


def hidden_units(network: nn.Module) -> list[Units]:
    """The groups of units of ``network`` that may be permuted, read off its computation graph.

    A weight's output units are a new group; normalisation, activation, pooling and flattening
    pass on the group that comes in; an addition makes one group of two. Inputs and outputs of the
    network stay in place, and so does whatever is added to them.

    Raises:
        ValueError: an operation of which it is not known what it does to the order of units.
    """
    fixed = 0
    leader = [fixed]  # a forest: groups that were joined lead to the same root
    group_of: dict[tuple[str, int], int] = {}  # (tensor, axis)
    tensors = network.state_dict()

    def root(group: int) -> int:
        while leader[group] != group:
            group = leader[group]
        return group

    def join(one: int, other: int) -> None:
        low, high = sorted((root(one), root(other)))
        leader[high] = low

    def count(group: int, tensor: str, axis: int) -> None:
        if tensor in tensors:  # not a bias that the layer does without
            join(group_of.setdefault((tensor, axis), group), group)

    at: dict[fx.Node, int] = {}
    for node in fx.Tracer().trace(network).nodes:
        comes_in = [at[n] for n in node.all_input_nodes]
        if node.op == "placeholder":
            at[node] = fixed
        elif node.op == "output":
            for group in comes_in:
                join(fixed, group)
        elif node.op == "call_function" and node.target is operator.add:
            join(comes_in[0], comes_in[-1])
            at[node] = comes_in[0]
        elif node.op == "call_module":
            name, module = str(node.target), network.get_submodule(str(node.target))
            at[node] = comes_in[0]
            if _mixes(module):
                leader.append(len(leader))
                at[node] = leader[-1]
                count(comes_in[0], f"{name}.weight", 1)
                for tensor in ("weight", "bias"):
                    count(at[node], f"{name}.{tensor}", 0)
            elif _normalises(module):
                for tensor in ("weight", "bias", "running_mean", "running_var"):
                    count(comes_in[0], f"{name}.{tensor}", 0)
            elif not _keeps_order(module):
                raise ValueError(f"alignment does not know how {name} ({module}) orders its units")
        else:
            raise ValueError(f"alignment does not know how {node.format_node()} orders its units")
    axes = defaultdict(list)
    for place, group in group_of.items():
        axes[root(group)].append(place)
    axes.pop(fixed, None)
    # The weight that makes the units counts them once, one behind a flattening more often.
    return [
        Units(min(tensors[name].shape[axis] for name, axis in places), tuple(places))
        for places in axes.values()
    ]


def _mixes(module: nn.Module) -> bool:
    """A layer whose every output unit sees every input unit."""
    convolution = isinstance(module, _ConvNd) and module.groups == 1 and not module.transposed
    return convolution or isinstance(module, nn.Linear)


def _normalises(module: nn.Module) -> bool:
    """A normalisation with one scale and shift a unit, that treats all units alike."""
    if isinstance(module, nn.LayerNorm):
        return len(module.normalized_shape) == 1
    return isinstance(module, _BatchNorm) or (
        isinstance(module, nn.GroupNorm) and module.num_groups == 1
    )


def _keeps_order(module: nn.Module) -> bool:
    """A module without weights that does the same to every unit."""
    rooms = ("activation", "pooling", "dropout", "flatten")
    known = type(module).__module__ in {f"torch.nn.modules.{room}" for room in rooms}
    bare = not any(True for _ in module.parameters())
    return bare and (known or isinstance(module, nn.Identity))


def permuted(network: nn.Module, permutations: Sequence[Tensor]) -> nn.Module:
    """A copy of ``network`` whose unit i of group g is its unit ``permutations[g][i]``.

    It computes the same function, up to the order in which sums are taken.

    Args:
        network: not changed.
        permutations: (size,) int64 for each of its ``hidden_units``.
    """
    changed = copy.deepcopy(network)
    order = _by_tensor(hidden_units(network), permutations)
    changed.load_state_dict(
        {name: _permuted(t, order.get(name, {})) for name, t in network.state_dict().items()}
    )
    return changed


def align(first: nn.Module, second: nn.Module, *, orders: int = 5, seed: int = 0) -> nn.Module:
    """``second`` with its hidden units in the places where they match those of ``first`` best.

    Args:
        first: not changed.
        second: of the same architecture; not changed.
        orders: see ``match``.
        seed: see ``match``.
    """
    return permuted(second, match(first, second, orders=orders, seed=seed))


def match(first: nn.Module, second: nn.Module, *, orders: int = 5, seed: int = 0) -> list[Tensor]:
    """Permutations π of the hidden units of ``second`` that maximise ⟨θ1, π(θ2)⟩.

    That is, those that minimise ‖θ1 − π(θ2)‖, by coordinate ascent: one group at a time is
    matched exactly by the linear assignment solver of SciPy while the others stay, until no group
    gains (Ainsworth et al. 2023, algorithm 1). A local maximum, since the whole problem is NP-hard.

    Args:
        first: its parameters are θ1.
        second: of the same architecture; its parameters are θ2.
        orders: random orders of the groups that are tried; the best result is kept.
        seed: seed of these orders.

    Returns:
        (size,) int64 on the CPU for each of ``hidden_units(second)``.
    """
    units = hidden_units(second)
    ours = {name: p.detach().double().cpu() for name, p in first.named_parameters()}
    theirs = {name: p.detach().double().cpu() for name, p in second.named_parameters()}
    random = np.random.default_rng(seed)
    found = [_ascend(ours, theirs, units, random) for _ in range(orders)]
    return max(found, key=lambda pi: _agreement(ours, theirs, _by_tensor(units, pi)))


def _ascend(
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    units: Sequence[Units],
    random: np.random.Generator,
) -> list[Tensor]:
    """Coordinate ascent on ⟨θ1, π(θ2)⟩ from the identity, until no group gains."""
    best = [torch.arange(group.size) for group in units]
    gained = True
    while gained:
        gained = False
        for g in random.permutation(len(units)):
            group = units[g]
            touched = {name: ours[name] for name, _ in group.axes if name in ours}
            trial = list(best)
            gain = _gain(touched, theirs, group, _by_tensor(units, best))
            trial[g] = torch.from_numpy(linear_sum_assignment(gain.numpy(), maximize=True)[1])
            # A weight that counts a group on both axes (a skip around it) makes this a quadratic
            # problem, of which ``gain`` is the linear part: so what counts is what was gained.
            before = _agreement(touched, theirs, _by_tensor(units, best))
            after = _agreement(touched, theirs, _by_tensor(units, trial))
            if after > before + 1e-12 * abs(before):
                best, gained = trial, True
    return best


def _gain(
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    group: Units,
    order: Mapping[str, Mapping[int, Tensor]],
) -> Tensor:
    """(size, size): what ⟨θ1, π(θ2)⟩ gains where unit j of θ2 takes the place of unit i of θ1."""
    total = torch.zeros(group.size, group.size, dtype=torch.float64)
    for name, axis in group.axes:
        if name in ours:
            others = {k: v for k, v in order[name].items() if k != axis}
            total += _rows(ours[name], axis, group.size) @ (
                _rows(_permuted(theirs[name], others), axis, group.size).T
            )
    return total


def _rows(tensor: Tensor, axis: int, size: int) -> Tensor:
    """(size, …): what belongs to each unit along ``axis``, as a row."""
    by_unit: Tensor = tensor.unflatten(axis, (size, -1))
    return by_unit.movedim(axis, 0).reshape(size, -1)


def _agreement(
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    order: Mapping[str, Mapping[int, Tensor]],
) -> float:
    """⟨θ1, π(θ2)⟩ over the tensors of ``ours``."""
    return sum(
        float((tensor * _permuted(theirs[name], order.get(name, {}))).sum())
        for name, tensor in ours.items()
    )


def _by_tensor(
    units: Sequence[Units], permutations: Sequence[Tensor]
) -> dict[str, dict[int, Tensor]]:
    """The permutation of each axis of each tensor that counts hidden units."""
    order: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for group, permutation in zip(units, permutations, strict=True):
        for name, axis in group.axes:
            order[name][axis] = permutation
    return order


def _permuted(tensor: Tensor, order: Mapping[int, Tensor]) -> Tensor:
    """``tensor`` with each axis in its new order, units counted several times kept together."""
    for axis, permutation in order.items():
        by_unit = tensor.unflatten(axis, (len(permutation), -1))
        moved = by_unit.index_select(axis, permutation.to(tensor.device))
        tensor = moved.flatten(axis, axis + 1)
    return tensor
