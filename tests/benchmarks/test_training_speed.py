"""Speed of training: against a bare loop, with kept memory, the share of tracking, threads."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from landscape_sweep import tracking
from landscape_sweep.data import Dataset
from landscape_sweep.heap import keep_freed_memory
from landscape_sweep.models import build
from landscape_sweep.training import optimizer, train

pytestmark = pytest.mark.benchmark
SGD = {"name": "sgd", "lr": 0.01, "weight_decay": 5e-4, "momentum": 0.9}
BATCH, STEPS, REPEATS = 128, 8, 5


def network() -> nn.Module:
    torch.manual_seed(0)
    return build("resnet", shape=(3, 32, 32), classes=10, width=16, norm="batch", skip=True)


def images(count: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, 32, 32)
    x = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    y = torch.randint(0, 10, (count,), generator=generator)
    half = torch.full((3,), 0.5)
    return Dataset("noise", x, y, y, x[:10], y[:10], half, half, 10)


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def test_training_costs_little_over_a_bare_loop() -> None:
    data, model = images(BATCH * STEPS), network()
    inputs, labels = data.normalise(data.x_train[:BATCH]), data.y_train[:BATCH]
    bare = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def bare_loop() -> None:
        for _ in range(STEPS):
            bare.zero_grad()
            F.cross_entropy(model(inputs), labels).backward()
            bare.step()

    def ours() -> None:
        train(
            model,
            data,
            optimizer(model.parameters(), **SGD),
            F.cross_entropy,
            batch_size=BATCH,
            steps=STEPS,
            schedule="cosine",
            lr=0.01,
            seed=0,
        )

    torch.set_num_threads(1)
    bare_loop()
    ours()
    ratios = [seconds(ours) / seconds(bare_loop) for _ in range(REPEATS)]
    print(f"\ntraining over a bare loop: {statistics.median(ratios):.3f} (CPU time)")
    assert statistics.median(ratios) < 1.05


def step_seconds(case: tuple[int, bool]) -> float:
    """CPU seconds of a training step at a batch size, in a process that has done nothing else."""
    batch, kept = case
    if kept:
        keep_freed_memory()
    torch.set_num_threads(1)
    model, x, y = network(), torch.randn(batch, 3, 32, 32), torch.zeros(batch, dtype=torch.long)
    return min(seconds(lambda: F.cross_entropy(model(x), y).backward()) for _ in range(REPEATS))


@pytest.mark.parametrize("batch", [128, 512])
def test_freed_memory_is_worth_keeping(batch: int) -> None:
    ratios = []
    for _ in range(3):
        with ProcessPoolExecutor(
            2, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
        ) as own:
            kept, default = own.map(step_seconds, [(batch, True), (batch, False)])
        ratios.append(kept / default)
    print(f"\nbatch {batch}: with kept memory a step takes {statistics.median(ratios):.2f}")
    assert statistics.median(ratios) < 1


def test_tracking_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = tracking.connect("sqlite:///mlflow.db", "speed", "outputs")
    record = tracking.open_run(store, "run", {})
    model, x, y = network(), torch.randn(BATCH, 3, 32, 32), torch.zeros(BATCH, dtype=torch.long)
    step = seconds(lambda: F.cross_entropy(model(x), y).backward())
    epochs, steps = 20, 39  # 5,000 images at batch 128, the README's sweep
    values = dict.fromkeys(
        ("fit/loss", "fit/accuracy", "fit/lr", "test/loss", "test/accuracy"), 1.0
    )

    def track() -> None:
        record.params({f"key{i}": i for i in range(40)})
        for epoch in range(epochs):
            record.metrics(values, epoch)
            record.flush()  # as often as it could possibly happen
        record.end("completed")

    share = seconds(track) / (epochs * steps * step)
    print(f"\ntracking over training: {share:.4f}")
    assert share < 0.02


@pytest.mark.parametrize(("width", "size"), [(8, 8), (64, 8), (16, 32)])
def test_threads(width: int, size: int) -> None:
    torch.manual_seed(0)
    model = build("resnet", shape=(3, size, size), classes=10, width=width, norm="batch", skip=True)
    x, y = torch.randn(BATCH, 3, size, size), torch.zeros(BATCH, dtype=torch.long)

    def wall(threads: int) -> float:
        torch.set_num_threads(threads)
        began = time.perf_counter()
        for _ in range(5):
            F.cross_entropy(model(x), y).backward()
        return time.perf_counter() - began

    wall(1), wall(2)
    ratio = statistics.median(wall(2) / wall(1) for _ in range(REPEATS))
    print(f"\nwidth {width}, {size}x{size}: two threads take {ratio:.2f} of the time of one")
    assert ratio > 0
