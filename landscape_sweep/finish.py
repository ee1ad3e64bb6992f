"""The end of a sweep: connectivity between its seeds, then tables, figures and the page."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from landscape_sweep import build, tracking, training
from landscape_sweep import config as schema
from landscape_sweep.config import Config
from landscape_sweep.data import Dataset
from landscape_sweep.progress import Progress
from landscape_sweep.statistics import over_pairs

log = logging.getLogger("landscape_sweep")

CURVE_BATCH = 128
"""Images of a step that bends a curve, as Garipov et al. (2018) trained theirs."""


def folder(outputs: str, sweep_id: str) -> Path:
    """Where a sweep's logs and report are written."""
    return Path(outputs, "sweeps", sweep_id)


def finish(config: Config, sweep_id: str, parent: tracking.RunLog) -> None:
    """Analyse whatever the sweep has: measure connectivity, then write and show the report."""
    from landscape_sweep.report import publish

    uri = config.tracking.uri
    measure_connectivity(tracking.load_runs(uri, sweep=sweep_id), parent)
    sweep = tracking.load_sweep(uri, sweep=sweep_id)
    publish(sweep, uri, parent.run_id, folder(config.outputs, sweep_id) / "report")


def measure_connectivity(runs: pd.DataFrame, parent: tracking.RunLog) -> None:
    """Paths between every two completed runs that differ only in ``seed``.

    The loss is that of the images which all probes saw, and of as many test images. Paths, and
    means over pairs with their intervals, go to the parent; each run gets the mean over the
    pairs that it is part of.
    """
    if runs.empty or "seed" not in runs:
        return
    rows: list[dict[str, object]] = []
    frames = []
    for label, group in runs[runs["outcome"] == "completed"].groupby("label", sort=False):
        for ends, metrics, paths in _between_seeds(str(label), group, parent.store):
            parent.metrics(metrics, len(rows))
            rows.append({**ends, **metrics})
            frames.append(paths)
    if not rows:
        return
    measured = pd.DataFrame(rows)
    parent.table(pd.concat(frames, ignore_index=True), tracking.PATHS)
    parent.table(barriers(measured), tracking.BARRIERS)
    parent.flush()
    by_end = pd.concat([measured.assign(run_id=measured[end]) for end in ("run_a", "run_b")])
    for run_id, of_run in by_end.groupby("run_id"):
        record = tracking.RunLog(parent.store, str(run_id))
        record.metrics({name: float(of_run[name].mean()) for name in _measures(of_run)})
        record.flush()


def barriers(measured: pd.DataFrame) -> pd.DataFrame:
    """Mean of each measure over the pairs of a label, with an interval over its networks.

    Args:
        measured: ``label, run_a, run_b`` and metrics ``connectivity/<mode>/[test_]<measure>``.

    Returns:
        ``label, mode, split, measure, mean, low, high, pairs, networks``.
    """
    rows = []
    for label, group in measured.groupby("label", sort=False):
        networks = len(set(group["run_a"]) | set(group["run_b"]))
        for name in _measures(group):
            _, mode, measure = name.split("/")
            split = "test" if measure.startswith("test_") else "train"
            found = over_pairs(group[name].to_numpy(), group["run_a"], group["run_b"])
            of = (label, mode, split, measure.removeprefix("test_"))
            rows.append((*of, found.value, *found.interval(), len(group), networks))
    columns = ["label", "mode", "split", "measure", "mean", "low", "high", "pairs", "networks"]
    return pd.DataFrame(rows, columns=columns)


def _measures(rows: pd.DataFrame) -> list[str]:
    """The metrics that were measured in these rows: not every label has every mode."""
    names = map(str, rows.dropna(axis=1, how="all").columns)
    return [name for name in names if name.startswith("connectivity/")]


def _between_seeds(
    label: str, group: pd.DataFrame, store: tracking.Store
) -> Iterator[tuple[dict[str, str], dict[str, float], pd.DataFrame]]:
    """Label and ends, metrics, and paths of every pair of the runs of one label."""
    from landscape_sweep.probes import connectivity
    from landscape_sweep.probes.connectivity import MODES

    text = tracking.read_text(store, str(group["run_id"].iloc[0]), tracking.CONFIG)
    config = schema.from_json(text)
    keys = config.probe.connectivity
    if keys is None or len(group) < 2:
        return
    data = build.dataset(config)
    build.prepare_torch(config, data)
    train, test = build.probe_batches(config, data), build.test_batches(config, data)
    seeds = {str(row["run_id"]): row["seed"] for _, row in group.sort_values("seed").iterrows()}
    networks = {run_id: _trained(config, data, store, run_id) for run_id in seeds}
    loss = training.loss_function(config.loss)
    pairs = list(itertools.combinations(networks, 2))
    with Progress(f"connectivity of {label}") as progress:
        for number, (a, b) in enumerate(pairs):
            found = connectivity(
                *(networks[a], networks[b], loss, train),
                modes=[mode for mode in MODES if mode != "bezier" or keys.bezier_steps],
                points=keys.points,
                test=test,
                bezier_batches=_training_batches(data),
                bezier_steps=keys.bezier_steps,
                bezier_lr=keys.bezier_lr,
                progress=functools.partial(_of_pair, progress, number, len(pairs)),
            )
            ends = {"label": label, "run_a": a, "run_b": b}
            pair = {"pair": f"{label} seeds {seeds[a]}-{seeds[b]}", **ends}
            paths = [
                pd.DataFrame({**pair, "mode": Path(file).stem, **columns})
                for file, columns in found.tables().items()
            ]
            yield ends, found.metrics(), pd.concat(paths, ignore_index=True)


def _of_pair(progress: Progress, number: int, pairs: int, done: int, total: int) -> None:
    """Progress within one pair, as progress among all."""
    progress(number * total + done, pairs * total)


def _training_batches(data: Dataset) -> Iterator[tuple[Tensor, Tensor]]:
    """Clean training images in random order, without end."""
    order = torch.Generator().manual_seed(0)
    while True:
        for chosen in torch.randperm(len(data.y_train), generator=order).split(CURVE_BATCH):
            at = chosen.to(data.y_train.device)
            yield data.normalise(data.x_train[at]), data.y_train[at]


def _trained(config: Config, data: Dataset, store: tracking.Store, run_id: str) -> nn.Module:
    """The network of a finished run, with its final weights, in eval mode."""
    network = build.network(config, data)
    training.load_weights(network, tracking.read_file(store, run_id, tracking.WEIGHTS))
    return network.eval()
