"""How much memory a chunk of samples holds, how much is free, and what fits the cache."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor

_CACHE_IF_UNKNOWN = 32 * 2**20  # where the system doesn't tell: a common desktop's last level
_SMALLEST_CHUNK = 8  # below this the cost of starting operations outweighs the cache (measured)
_LARGEST_CHUNK = 4096


def graph_bytes(build: Callable[[], object]) -> int:
    """Bytes of the distinct tensors that autograd keeps for ``build``'s results."""
    kept: dict[int, int] = {}
    alive = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        alive.append(storage)  # so that no address is given out twice
        # The tensor itself holds the graph, which holds this function: a circle that never goes.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        build()
    return sum(kept.values())


def free_bytes(device: torch.device) -> int:
    """Memory that is free on ``device`` now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not told on every system
        return 4 * 2**30


def chunk_size(bytes_per_sample: int, device: torch.device, budget: int) -> int:
    """Samples to send through the model together: a power of two.

    A processor is fastest while what one chunk keeps stays within about twice its last-level
    cache (measured: of 8 to 512, the best chunk for a CNN and a ResNet); a GPU with as much as
    fits, since each operation has a fixed cost. A chunk is within ``budget``, but for the smallest.
    """
    room = budget // 4 if device.type == "cuda" else min(2 * _last_level_cache(), budget)
    fits = max(room // max(bytes_per_sample, 1), 1)
    largest = 2 ** (int(fits).bit_length() - 1)
    return int(min(max(largest, _SMALLEST_CHUNK), _LARGEST_CHUNK))


def _last_level_cache() -> int:
    try:
        size = os.sysconf("SC_LEVEL3_CACHE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _CACHE_IF_UNKNOWN
    return size if size > 0 else _CACHE_IF_UNKNOWN
