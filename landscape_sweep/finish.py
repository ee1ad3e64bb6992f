"""The end of a sweep: connectivity between its seeds, then tables, figures and the page."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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


# ---------------------------------------------------------------- connectivity


def measure_connectivity(runs: pd.DataFrame, parent: tracking.RunLog) -> None:
    """Paths between every two completed runs that differ only in ``seed``, and a plane of three.

    The loss is that of the images which all probes saw, and of as many test images. Paths, planes
    and means over pairs with their intervals go to the parent; each run gets the mean over the
    pairs that it is part of. What an earlier call has measured is read back, pair by pair.
    """
    if runs.empty or "seed" not in runs:
        return
    kept_pairs, kept_planes = (Kept(parent, of) for of in (tracking.PAIRS, tracking.NETWORKS))
    paths: list[pd.DataFrame] = []
    planes: list[pd.DataFrame] = []
    for label, group in runs[runs["outcome"] == "completed"].groupby("label", sort=False):
        alike = _alike(str(label), group, parent.store)
        if alike is not None:
            paths += _pairs(alike, kept_pairs)
            planes += _plane(alike, kept_planes)
    for frames, path in ((paths, tracking.PATHS), (planes, tracking.PLANES)):
        if frames:
            parent.table(pd.concat(frames, ignore_index=True), path)
    if not paths:
        return
    ends = ["label", "run_a", "run_b"]
    rows = [{**of_pair.iloc[0][ends], **path_metrics(of_pair)} for of_pair in paths]
    measured = pd.DataFrame(rows)
    for number, metrics in enumerate(measured[_measures(measured)].to_dict("records")):
        known = {str(name): value for name, value in metrics.items() if value == value}
        parent.metrics(known, number)  # a label without BatchNorm lacks two of the modes
    parent.table(barriers(measured), tracking.BARRIERS)
    parent.flush()
    by_end = pd.concat([measured.assign(run_id=measured[end]) for end in ("run_a", "run_b")])
    for run_id, of_run in by_end.groupby("run_id"):
        record = tracking.RunLog(parent.store, str(run_id))
        record.metrics({name: float(of_run[name].mean()) for name in _measures(of_run)})
        record.flush()


class Kept:
    """Tables that are measured once, each a file under one folder of a sweep's run.

    What another sweep of the experiment has measured is taken too: sweeps share runs.
    """

    def __init__(self, parent: tracking.RunLog, folder: str) -> None:
        self._parent, self._folder = parent, folder
        self._places = tracking.sweeps_tables(parent.store, folder)
        self._read: dict[str, pd.DataFrame] = {}

    def find(self, name: str) -> pd.DataFrame | None:
        """The table that an earlier call has measured, if one has."""
        if name in self._places and name not in self._read:
            table = tracking.read_table(self._parent.store, *self._places.pop(name))
            if table is not None:
                self._read[name] = table
        return self._read.get(name)

    def add(self, name: str, table: pd.DataFrame) -> pd.DataFrame:
        """Write a table that was measured now."""
        self._parent.table(table, f"{self._folder}/{name}")
        self._read[name] = table
        return table


@dataclass(frozen=True)
class Alike:
    """Finished runs that differ only in ``seed``; images are read when they are needed first.

    Attributes:
        label: what these runs have in common.
        config: of one of them.
        keys: ``probe.connectivity``.
        seeds: seed by run, in ascending order.
        store: where their weights are.
    """

    label: str
    config: Config
    keys: schema.Connectivity
    seeds: Mapping[str, int]
    store: tracking.Store

    @functools.cached_property
    def data(self) -> Dataset:
        """The images that these runs were trained on."""
        data = build.dataset(self.config)
        build.prepare_torch(self.config, data)
        return data

    @functools.cached_property
    def networks(self) -> dict[str, nn.Module]:
        """Networks in eval mode by run; one whose weights can't be read is left out and said."""
        networks = {}
        for run_id, seed in self.seeds.items():
            network = build.network(self.config, self.data)
            try:
                with tracking.read_file(self.store, run_id, tracking.WEIGHTS) as file:
                    training.load_weights(network, file)
            except (OSError, ValueError, RuntimeError) as error:
                log.warning("  no connectivity of %s seed%s: %s", self.label, seed, error)
                continue
            networks[run_id] = network.eval()
        return networks


def _file(run_ids: Sequence[str]) -> str:
    """Where what is between these runs is kept; runs of other keys are other runs."""
    return "-".join(run_ids) + ".csv"


def _alike(label: str, group: pd.DataFrame, store: tracking.Store) -> Alike | None:
    """The runs of one label; None where nothing is to be measured between them."""
    try:
        text = tracking.read_text(store, str(group["run_id"].iloc[0]), tracking.CONFIG)
        config = schema.from_json(text)
    except (OSError, ValueError) as error:
        log.warning("  no connectivity of %s: its %s: %s", label, tracking.CONFIG, error)
        return None
    keys = config.probe.connectivity
    if keys is None or len(group) < 2:
        return None
    seeds = {
        str(row["run_id"]): int(row["seed"]) for _, row in group.sort_values("seed").iterrows()
    }
    return Alike(label, config, keys, seeds, store)


def _pairs(alike: Alike, kept: Kept) -> Iterator[pd.DataFrame]:
    """The paths between every two of these runs: ``pair, label, run_a, run_b, mode, alpha`` …"""
    names = {pair: _file(pair) for pair in itertools.combinations(alike.seeds, 2)}
    missing = [pair for pair, name in names.items() if kept.find(name) is None]
    if len(missing) < len(names):
        log.info(
            "  connectivity of %s: %d of %d pairs measured before",
            *(alike.label, len(names) - len(missing), len(names)),
        )
    with Progress(f"connectivity of {alike.label}") as progress:
        for pair, name in names.items():
            paths = kept.find(name)
            if paths is None and set(pair) <= set(alike.networks):
                report = functools.partial(_of_pair, progress, missing.index(pair), len(missing))
                paths = kept.add(name, _paths_between(alike, pair, report))
            if paths is not None:
                seeds = "-".join(str(alike.seeds[run_id]) for run_id in pair)
                told = {"pair": f"{alike.label} seeds {seeds}", "label": alike.label}
                yield paths.assign(**told, run_a=pair[0], run_b=pair[1])


def _of_pair(progress: Progress, number: int, pairs: int, done: int, total: int) -> None:
    """Progress within one pair, as progress among all."""
    progress(number * total + done, pairs * total)


def _paths_between(
    alike: Alike, pair: tuple[str, str], progress: Callable[[int, int], None]
) -> pd.DataFrame:
    """``mode, alpha, loss, accuracy, test_loss, test_accuracy`` of the paths between two runs."""
    from landscape_sweep.probes import connectivity
    from landscape_sweep.probes.connectivity import MODES

    config, data, keys = alike.config, alike.data, alike.keys
    found = connectivity(
        alike.networks[pair[0]],
        alike.networks[pair[1]],
        training.loss_function(config.loss),
        build.probe_batches(config, data),
        modes=[mode for mode in MODES if mode != "bezier" or keys.bezier_steps],
        points=keys.points,
        test=build.test_batches(config, data),
        bezier_batches=_training_batches(data),
        bezier_steps=keys.bezier_steps,
        bezier_lr=keys.bezier_lr,
        progress=progress,
    )
    paths = [pd.DataFrame({"mode": mode, **path}) for mode, path in found.paths().items()]
    return pd.concat(paths, ignore_index=True)


def path_metrics(paths: pd.DataFrame) -> dict[str, float]:
    """``connectivity/<mode>/<measure>`` of the paths between two runs."""
    from landscape_sweep.probes.connectivity import Connectivity

    by_mode = {
        str(mode): {str(name): list(path[name]) for name in path}
        for mode, path in paths.groupby("mode", sort=False)
    }
    return Connectivity.from_paths(by_mode).metrics()


def _training_batches(data: Dataset) -> Iterator[tuple[Tensor, Tensor]]:
    """Clean training images in random order, without end."""
    order = torch.Generator().manual_seed(0)
    while True:
        for chosen in torch.randperm(len(data.y_train), generator=order).split(CURVE_BATCH):
            at = chosen.to(data.y_train.device)
            yield data.normalise(data.x_train[at]), data.y_train[at]


def _plane(alike: Alike, kept: Kept) -> Iterator[pd.DataFrame]:
    """The plane through the first three of these runs, where it is asked for."""
    three = list(alike.seeds)[:3]
    if not alike.keys.plane or len(three) < 3:
        return
    plane = kept.find(_file(three))
    if plane is None and set(three) <= set(alike.networks):
        try:
            with Progress(f"plane of {alike.label}") as progress:
                plane = kept.add(_file(three), _plane_through(alike, three, progress))
        except ValueError as error:  # networks that are the same span no plane
            log.warning("  no plane of %s: %s", alike.label, error)
    if plane is not None:
        yield plane.assign(label=alike.label)


def _plane_through(alike: Alike, three: Sequence[str], progress: Progress) -> pd.DataFrame:
    """``name, alpha, beta, loss, …``: grid points have no name, and the networks no loss.

    BatchNorm statistics are re-estimated at every point, as by Garipov et al. (2018).
    """
    from landscape_sweep.probes import networks_plane, surface
    from landscape_sweep.probes.connectivity import has_batch_norm

    networks = [alike.networks[run_id] for run_id in three]
    plane = networks_plane(networks, [f"seed {alike.seeds[run_id]}" for run_id in three])
    found = surface(
        networks[0],
        training.loss_function(alike.config.loss),
        build.probe_batches(alike.config, alike.data),
        points=alike.keys.plane,
        directions=plane,
        test_batches=build.test_batches(alike.config, alike.data),
        reset=has_batch_norm(networks[0]),
        progress=progress,
    )
    marks = [dataclasses.asdict(mark) for mark in plane.marks]
    tables = [pd.DataFrame(found.tables()["surface/surface.csv"]), pd.DataFrame(marks)]
    return pd.concat(tables, ignore_index=True)


def barriers(measured: pd.DataFrame) -> pd.DataFrame:
    """Mean of each measure over the pairs of a label, with an interval over its networks.

    The ends are on every path, so that no measure is negative: the interval ends at 0.

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
            low, high = np.maximum(found.interval(), 0.0)
            rows.append((*of, found.value, low, high, len(group), networks))
    columns = ["label", "mode", "split", "measure", "mean", "low", "high", "pairs", "networks"]
    return pd.DataFrame(rows, columns=columns)


def _measures(rows: pd.DataFrame) -> list[str]:
    """The metrics that were measured in these rows: not every label has every mode."""
    names = map(str, rows.dropna(axis=1, how="all").columns)
    return [name for name in names if name.startswith("connectivity/")]
