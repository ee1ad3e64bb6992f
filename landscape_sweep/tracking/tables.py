"""Sweeps read back from MLflow, as tables."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from landscape_sweep.config import ConfigError
from landscape_sweep.tracking.layout import (
    ALGORITHM_1,
    BARRIERS,
    DENSITY,
    HISTORIES,
    MARKS,
    OBJECTIVES,
    PATHS,
    PLANES,
    SPECTRUM,
    SURFACE,
    TRIALS,
)
from landscape_sweep.tracking.ledger import newest_of_each_configuration, runs_of_sweep
from landscape_sweep.tracking.patience import PatientClient
from landscape_sweep.tracking.store import Store, artifact, existing, read_file, search

if TYPE_CHECKING:
    from mlflow.entities import Run

log = logging.getLogger("landscape_sweep")


@dataclass(frozen=True)
class Sweep:
    """Everything that the analysis of a sweep reads, as tables.

    Attributes:
        id: the sweep's identity; the experiment's name when a whole experiment is read.
        name: what the parent run is called.
        command: the line that made the sweep.
        parent_run_id: MLflow run of the sweep; None for a whole experiment.
        runs: one row a run; see ``load_runs``.
        histories: ``run_id, metric, step, value``: everything measured by epoch.
        spectra: ``run_id, rank, eigenvalue, residual, converged``.
        densities: ``run_id, node, weight, outlier``: spectral density; outliers are eigenvalues.
        surfaces: ``run_id, alpha, beta, loss, accuracy``; alpha and beta are distances in
            parameter space.
        paths: ``pair, label, run_a, run_b, mode, alpha, loss, accuracy, test_loss,
            test_accuracy``.
        barriers: ``label, mode, split, measure, mean, low, high, pairs, networks``: means over
            pairs of seeds with a 95% interval.
        algorithm_1: ``run_id, rank, eigenvalue, algorithm_1``: certified eigenvalues beside those
            of the framework's algorithm 1 as written.
        marks: ``run_id, name, alpha, beta, distance``: weights that a surface was laid through.
        planes: ``label, name, alpha, beta, loss, accuracy, test_loss, test_accuracy``: the plane
            through three seeds of a label, whose own places have a ``name`` and no loss.
        trials: of a search: ``number, state, outcome, run_id, on_front``, the searched keys, the
            objectives.
        objectives: of a search: metric and ``maximize`` or ``minimize``.
    """

    id: str
    name: str
    command: str
    parent_run_id: str | None
    runs: pd.DataFrame
    histories: pd.DataFrame
    spectra: pd.DataFrame
    densities: pd.DataFrame
    surfaces: pd.DataFrame
    paths: pd.DataFrame
    barriers: pd.DataFrame
    algorithm_1: pd.DataFrame
    marks: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["run_id"]))
    planes: pd.DataFrame = field(default_factory=pd.DataFrame)
    trials: pd.DataFrame = field(default_factory=pd.DataFrame)
    objectives: dict[str, str] = field(default_factory=dict)


def load_sweep(uri: str, sweep: str | None = None, experiment_name: str | None = None) -> Sweep:
    """Read a sweep, or all runs of an experiment, back from MLflow.

    Args:
        uri: MLflow tracking URI.
        sweep: a sweep's id; it is looked for in every experiment.
        experiment_name: all runs of this experiment, where no sweep is given.

    Raises:
        ConfigError: no such sweep or experiment, listing those there are.
    """
    client = existing(uri)
    parents, runs = _found(client, sweep, experiment_name)
    parent = parents[0] if sweep is not None else None
    return Sweep(
        id=str(sweep if parent else experiment_name),
        name=str(parent.info.run_name if parent else experiment_name),
        command=parent.data.tags.get("command", "") if parent else "",
        parent_run_id=str(parent.info.run_id) if parent else None,
        runs=_run_table(runs),
        histories=_histories(client, runs),
        spectra=_gathered(client, runs, SPECTRUM),
        densities=_gathered(client, runs, DENSITY),
        surfaces=_gathered(client, runs, SURFACE),
        paths=pd.concat([_read(client, r, PATHS) for r in parents] or [pd.DataFrame()]),
        barriers=pd.concat([_read(client, r, BARRIERS) for r in parents] or [pd.DataFrame()]),
        algorithm_1=_gathered(client, runs, ALGORITHM_1),
        marks=_gathered(client, runs, MARKS),
        planes=pd.concat([_read(client, r, PLANES) for r in parents] or [pd.DataFrame()]),
        trials=_read(client, parent, TRIALS) if parent else pd.DataFrame(),
        objectives=json.loads(parent.data.tags.get(OBJECTIVES, "{}")) if parent else {},
    )


def load_runs(
    uri: str, sweep: str | None = None, experiment_name: str | None = None
) -> pd.DataFrame:
    """One row a run: ``run_id name label outcome reason command seconds``, then keys and metrics.

    Configuration keys are dotted; metrics are slashed and hold the last value, accuracy in 0..1.

    Raises:
        ConfigError: no such sweep or experiment, listing those there are.
    """
    return _run_table(_found(existing(uri), sweep, experiment_name)[1])


def sweeps_tables(store: Store, folder: str) -> dict[str, tuple[str, str]]:
    """Every table right under ``folder`` on a sweep's own run: run and path, by file name."""
    sweeps = search(store.client, [store.experiment_id], "tags.`sweep.parent` != ''")
    return {
        Path(entry.path).name: (str(sweep.info.run_id), entry.path)
        for sweep in sweeps
        for entry in store.client.list_artifacts(sweep.info.run_id, folder)
    }


def read_table(store: Store, run_id: str, path: str) -> pd.DataFrame | None:
    """A table of a run; None where it was cut short while it was written."""
    with read_file(store, run_id, path) as file:
        return pd.read_csv(file) if file.read_bytes().endswith(b"\n") else None


def _found(
    client: PatientClient, sweep: str | None, experiment_name: str | None
) -> tuple[list[Run], list[Run]]:
    """Parents, and runs: of one sweep wherever it is, or of an experiment."""
    experiments = [e.experiment_id for e in client.search_experiments()]
    every = reversed(search(client, experiments, "tags.`sweep.parent` != ''"))
    parents = {r.data.tags["sweep.parent"]: r for r in every}  # the newest of each sweep
    if sweep is not None:
        if sweep not in parents:
            allowed = "takes one of " + ", ".join(parents) if parents else "there is no sweep yet"
            raise ConfigError("sweep", sweep, allowed)
        parent = parents[sweep]
        return [parent], runs_of_sweep(client, parent)
    experiment = client.get_experiment_by_name(str(experiment_name))
    if experiment is None:
        names = ", ".join(e.name for e in client.search_experiments())
        raise ConfigError("experiment_name", experiment_name, f"takes one of {names}")
    runs = search(client, [experiment.experiment_id], "tags.`config.hash` != ''")
    here = [r for r in parents.values() if r.info.experiment_id == experiment.experiment_id]
    return here, newest_of_each_configuration(runs)


def _value(text: str) -> Any:
    """A parameter as the configuration had it: number, truth value, null or text."""
    try:
        return json.loads({"True": "true", "False": "false"}.get(text, text))
    except ValueError:
        return text


def _run_table(runs: Sequence[Run]) -> pd.DataFrame:
    rows = []
    for run in runs:
        tags = run.data.tags
        ended = run.info.end_time or run.info.start_time
        rows.append(
            {
                "run_id": run.info.run_id,
                "name": tags.get("mlflow.runName", run.info.run_name),
                "label": tags.get("label", run.info.run_name),
                "outcome": tags.get("run.outcome", "interrupted"),
                "reason": tags.get("run.reason", ""),
                "command": tags.get("command", ""),
                "seconds": (ended - run.info.start_time) / 1000,
                **{k: _value(v) for k, v in run.data.params.items()},
                **run.data.metrics,
            }
        )
    return pd.DataFrame(rows)


def _histories(client: PatientClient, runs: Sequence[Run]) -> pd.DataFrame:
    rows = [
        (run.info.run_id, metric, point.step, point.value)
        for run in runs
        for metric in run.data.metrics
        if metric.startswith(HISTORIES)
        for point in client.get_metric_history(run.info.run_id, metric)
    ]
    return pd.DataFrame(rows, columns=["run_id", "metric", "step", "value"])


def _gathered(client: PatientClient, runs: Sequence[Run], path: str) -> pd.DataFrame:
    """One artifact table of every run, with its ``run_id`` in front."""
    frames = []
    for run in runs:
        frame = _read(client, run, path)
        if not frame.empty:
            frame.insert(0, "run_id", run.info.run_id)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["run_id"])


def _read(client: PatientClient, run: Run, path: str) -> pd.DataFrame:
    """An artifact table; empty where the run has none, and with a warning where it is damaged."""
    with artifact(client, str(run.info.run_id), path) as file:
        if file is None:
            return pd.DataFrame()
        try:
            return pd.read_csv(file)
        except ValueError as error:  # pandas' own errors are of this kind
            log.warning("run %s: its %s is damaged: %s", run.info.run_id, path, error)
            return pd.DataFrame()
