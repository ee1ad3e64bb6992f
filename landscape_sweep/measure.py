"""Probing: every probe that is switched on, at the final weights, and what it found, logged."""

from __future__ import annotations

import importlib
import inspect
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, nn

from landscape_sweep import build, figures, tracking, training
from landscape_sweep import config as schema
from landscape_sweep.config import Config
from landscape_sweep.data import Dataset
from landscape_sweep.progress import Progress, duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from landscape_sweep.probes import Batches, Loss, Measurement

log = logging.getLogger("landscape_sweep")

SAID_SECONDS = 10.0
"""A probe that will take longer than this is announced with its estimated time."""


def probe(
    config: Config,
    data: Dataset,
    network: nn.Module,
    record: tracking.RunLog,
    path: list[Tensor] | None = None,
) -> None:
    """Run every probe that is switched on, in eval mode, and log what it finds.

    A probe gets of what is offered that which its signature names.
    """
    network.eval()
    probes = dict(schema.probes_at_one_model(config))
    if not probes:
        return
    loss_function = training.loss_function(config.loss)
    batches = build.probe_batches(config, data)
    offered = _offered(config, data, path)
    expected = seconds_of_probes(config, data, network, batches)
    found: dict[str, float] = {}
    for name, keys in probes.items():
        module = importlib.import_module(f"landscape_sweep.probes.{name}")
        function = getattr(module, name)
        if expected[name] > SAID_SECONDS:
            log.info("  %s: about %s at most", name, duration(expected[name]))
        began = time.monotonic()
        with Progress(name) as progress:
            measured: Measurement = function(
                network,
                loss_function,
                batches,
                **keys,
                **_asked(function, offered),
                progress=progress,
            )
        log_measurement(measured, record)
        if notes := measured.notes():
            log.info("  %s: %s", name, "; ".join(notes))
            record.tags({f"{name}.notes": "; ".join(notes)})
        found |= measured.metrics()
        log.info("  %s: %s", name, duration(time.monotonic() - began))
    if config.probe.sharpness and "hessian/lambda_max" in found:
        rho = config.probe.sharpness.rho
        record.metrics({"sharpness/second_order": 0.5 * rho**2 * found["hessian/lambda_max"]})
    record.flush()


def seconds_of_probes(
    config: Config, data: Dataset, network: nn.Module, batches: Batches
) -> dict[str, float]:
    """What each probe at the final weights takes at most, from the time of a measured pass."""
    probes = dict(schema.probes_at_one_model(config))
    offered = _offered(config, data)
    loss_function = training.loss_function(config.loss)
    seconds = _seconds_of_a_pass(network, loss_function, batches)
    found = {}
    for name, keys in probes.items():
        passes = importlib.import_module(f"landscape_sweep.probes.{name}").passes
        found[name] = seconds * passes(**keys, **_asked(passes, offered))
    return found


def _offered(
    config: Config, data: Dataset, path: list[Tensor] | None = None
) -> dict[str, Callable[[], object]]:
    """What a probe may ask for beside a network, its loss and the images, by name."""
    return {
        "test_batches": lambda: build.test_batches(config, data),
        "train_batches": lambda: build.LazyBatches(data, data.x_train, data.y_train),
        "initial": lambda: build.network(config, data).eval(),
        "trajectory": lambda: path,
        "images": lambda: config.probe.samples,
        "classes": lambda: data.classes,
        "draw": lambda: lambda chosen: (data.normalise(data.x_train[chosen]), data.y_train[chosen]),
        "train_images": lambda: len(data.y_train),
        "batch_size": lambda: config.batch_size,
        "lr": lambda: config.optimizer.lr,
        "momentum": lambda: config.optimizer.momentum or 0.0,
        "weight_decay": lambda: config.optimizer.weight_decay,
    }


def _asked(
    function: Callable[..., object], offered: Mapping[str, Callable[[], object]]
) -> dict[str, object]:
    """Of what is offered, that which a function's signature names; made only for it."""
    names = inspect.signature(function).parameters
    return {name: make() for name, make in offered.items() if name in names}


def log_measurement(measured: Measurement, record: tracking.RunLog) -> None:
    """Metrics, ranked metrics and tables of one probe."""
    record.metrics(measured.metrics())
    for metric, values in measured.series().items():
        for rank, value in enumerate(values, start=1):
            record.metrics({metric: value}, rank)
    tables = {path: pd.DataFrame(columns) for path, columns in measured.tables().items()}
    for path, table in tables.items():
        record.table(table, path)
    for path, picture in _pictures(tables):
        record.figure(picture, str(Path(path).with_suffix(".png")))


def _pictures(tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, Figure]]:
    """Tables of one run that are drawn too, each with its picture."""
    title = pd.Series({"": ""})
    run = pd.DataFrame({"run_id": [""], "label": [""], "model.name": [""]})
    of_run = {path: table.assign(run_id="") for path, table in tables.items()}
    for path, table in of_run.items():
        if path == tracking.SPECTRUM:
            yield path, figures.hessian_spectra(table, run)
        elif path == tracking.DENSITY:
            yield path, figures.spectral_density(table, run)
        elif path == tracking.SURFACE:
            yield path, figures.contours(table, title, of_run.get(tracking.MARKS))
        elif path == tracking.PROFILE:
            yield path, figures.profiles(table, of_run[tracking.PROFILE_CURVATURE])


def _seconds_of_a_pass(network: nn.Module, loss_function: Loss, batches: Batches) -> float:
    """Time of a forward and backward pass over all batches, estimated from the first batch."""
    inputs, targets = batches[0]
    elapsed = 0.0
    for _ in range(2):
        began = time.perf_counter()
        loss_function(network(inputs), targets).backward()
        if inputs.is_cuda:
            torch.cuda.synchronize()
        elapsed = time.perf_counter() - began
    network.zero_grad(set_to_none=True)
    return elapsed * sum(len(t) for _, t in batches) / len(targets)
