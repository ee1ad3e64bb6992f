"""A plane of the loss against other libraries: CPU time, as a Markdown table.

    pip install -e ".[peers]"
    python tests/benchmarks/planes.py [--network cnn] [--points 15] [--images 128]

Every contender gets the same trained weights and images in one process and takes turns; peers are
shown at several batch sizes. Times are of the process's CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import importlib.util
import io
import runpy
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape_sweep.probes import surface

_SIBLING = runpy.run_path(str(Path(__file__).with_name("curvature.py")))
NETWORKS, LOSS = _SIBLING["NETWORKS"], _SIBLING["LOSS"]
trained, batched, table = _SIBLING["trained"], _SIBLING["batched"], _SIBLING["table"]
PEER_BATCHES = (32, 16)
"""Beside one batch of everything, which is what the peers' own examples do."""


def mean_loss(model: Callable[[Tensor], Tensor], batches: list[tuple[Tensor, Tensor]]) -> float:
    total = sum(float(LOSS(model(x), y)) * len(y) for x, y in batches)
    return total / sum(len(y) for _, y in batches)


def loss_landscapes_plane(model: nn.Module, batches: Any, points: int) -> None:
    import loss_landscapes
    from loss_landscapes.metrics.metric import Metric

    class MeanLoss(Metric):  # type: ignore[misc]
        """What their own ``Loss`` computes, over more than one batch."""

        def __call__(self, wrapper: Any) -> float:
            with torch.no_grad():
                return mean_loss(wrapper.forward, batches)

    loss_landscapes.random_plane(
        model, MeanLoss(), distance=1, steps=points, normalization="filter", deepcopy_model=True
    )


@functools.cache
def landscaper_module() -> Any:
    """landscaper's ``compute`` alone: its package imports nglpy, which it does not bring along."""
    found = importlib.util.find_spec("landscaper")
    assert found is not None
    assert found.submodule_search_locations is not None
    package = types.ModuleType("landscaper")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["landscaper"] = package
    return importlib.import_module("landscaper.compute")


def landscaper_plane(model: nn.Module, batches: Any, points: int) -> None:
    torch.manual_seed(0)
    directions = [[torch.randn_like(p) for p in model.parameters()] for _ in range(2)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        landscaper_module().compute_loss_landscape(
            model, batches, directions, mean_loss, steps=points, distance=0.5, dim=2, device="cpu"
        )


def compare(network: str, repeats: int, points: int = 15, images: int = 128) -> list[list[str]]:
    """Rows ``contender, CPU s, x ours`` for one plane; prints them as a table too."""
    model, x, y = trained(network)
    whole = [(x[:images], y[:images])]
    contenders: dict[str, Callable[[], Any]] = {
        "**ours**": lambda: surface(model, LOSS, whole, points=points, directions="filter")
    }
    for name, plane in (
        ("loss-landscapes", loss_landscapes_plane),
        ("landscaper", landscaper_plane),
    ):
        for size in (images, *PEER_BATCHES):
            parts = batched(x[:images], y[:images], size)
            label = f"{name}, " + ("one batch" if size == images else f"batches of {size}")
            contenders[label] = lambda plane=plane, parts=parts: plane(model, parts, points)
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(repeats):
        for name, work in contenders.items():
            start = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - start)
    ours = best["**ours**"]
    rows = [[name, f"{t:.2f}", f"{t / ours:.2f}"] for name, t in best.items()]
    title = f"{network}: loss on a plane of {points} x {points} points, n = {images}"
    table(title, ["", "CPU s", "x ours"], rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--points", type=int, default=15)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.network or NETWORKS:
        compare(name, arguments.repeats, arguments.points, arguments.images)


if __name__ == "__main__":
    main()
