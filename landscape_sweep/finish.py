"""The end of a sweep: connectivity between its seeds, then tables, figures and the page."""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from torch import nn

from landscape_sweep import config as schema
from landscape_sweep import run, tracking, training
from landscape_sweep.config import Config
from landscape_sweep.progress import Progress

log = logging.getLogger("landscape_sweep")


def folder(outputs: str, sweep_id: str) -> Path:
    """Where a sweep's logs and report are written."""
    return Path(outputs, "sweeps", sweep_id)


def finish(config: Config, sweep_id: str, parent: tracking.RunLog) -> None:
    """Analyse whatever the sweep has: measure connectivity, then write and show the report."""
    from landscape_sweep.report import show, write_report

    uri = config.tracking.uri
    measure_connectivity(tracking.load_runs(uri, sweep=sweep_id), parent)
    sweep = tracking.load_sweep(uri, sweep=sweep_id)
    files = write_report(sweep, folder(config.outputs, sweep_id) / "report")
    tracking.log_report(uri, parent.run_id, files.folder)
    show(sweep, files)


def pairs(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Label and rows of every two completed runs that differ only in ``seed``."""
    completed = runs[runs["outcome"] == "completed"]
    for name, group in completed.groupby("label", sort=False):
        ordered = group.sort_values("seed")
        for i, j in itertools.combinations(range(len(ordered)), 2):
            yield str(name), ordered.iloc[[i, j]]


def measure_connectivity(runs: pd.DataFrame, parent: tracking.RunLog) -> None:
    """Loss along the line between every pair of seeds, on the images that all probes saw.

    Paths go to the parent; each run gets the mean over the pairs that it is part of.
    """
    if runs.empty or "seed" not in runs:
        return
    from landscape_sweep.probes import connectivity
    from landscape_sweep.probes.connectivity import has_batch_norm

    store = parent.store
    frames = []
    of_run: dict[str, list[dict[str, float]]] = defaultdict(list)
    every = list(pairs(runs))
    with Progress("connectivity") as progress:
        for number, (name, two) in enumerate(every):
            ids = [str(i) for i in two["run_id"]]
            config = schema.from_json(tracking.read_text(store, ids[0], tracking.CONFIG))
            keys = config.probe.connectivity
            if keys is None:
                continue
            first, second = (_trained(config, store, run_id) for run_id in ids)
            batches = run.probe_batches(config, run.dataset(config))
            loss_function = training.loss_function(config.loss)
            seeds = "-".join(str(seed) for seed in two["seed"])
            for reset in (False, True) if has_batch_norm(first) else (False,):
                path = connectivity(
                    first, second, loss_function, batches, points=keys.points, reset=reset
                )
                for run_id in ids:
                    of_run[run_id].append(path.metrics())
                parent.metrics(path.metrics(), number)
                (columns,) = path.tables().values()
                frame = pd.DataFrame(columns)
                for column, value in (
                    ("mode", path.mode),
                    ("run_b", ids[1]),
                    ("run_a", ids[0]),
                    ("label", name),
                    ("pair", f"{name} seeds {seeds}"),
                ):
                    frame.insert(0, column, value)
                frames.append(frame)
            progress(number + 1, len(every))
    if frames:
        parent.table(pd.concat(frames, ignore_index=True), tracking.PATHS)
        parent.flush()
    for run_id, found in of_run.items():
        record = tracking.RunLog(store, run_id)
        record.metrics({str(name): float(v) for name, v in pd.DataFrame(found).mean().items()})
        record.flush()


def _trained(config: Config, store: tracking.Store, run_id: str) -> nn.Module:
    """The network of a finished run, with its final weights, in eval mode."""
    network = run.build(config, run.dataset(config))
    training.load_weights(network, tracking.read_file(store, run_id, tracking.WEIGHTS))
    return network.eval()
