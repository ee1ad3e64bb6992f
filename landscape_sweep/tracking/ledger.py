"""What a sweep is made of and what of it is done: cells, finished runs, runs left behind."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from landscape_sweep.config import Config, ConfigError, from_json
from landscape_sweep.tracking.layout import CELLS, CONFIG, OUTCOMES
from landscape_sweep.tracking.patience import PatientClient, cause, trouble
from landscape_sweep.tracking.run_log import RunLog
from landscape_sweep.tracking.store import Store, artifact, existing, search

if TYPE_CHECKING:
    from mlflow.entities import Run

log = logging.getLogger("landscape_sweep")


@dataclass(frozen=True)
class CellRecord:
    """One cell of a sweep, as the sweep's own run lists it.

    Attributes:
        number: place in the sweep.
        identity: ``config.hash``, by which its run is found.
        label: what tells configurations of this sweep apart, seeds left out.
        name: what its run is called.
        overrides: what makes its configuration.
    """

    number: int
    identity: str
    label: str
    name: str
    overrides: list[str]


def log_cells(parent: RunLog, cells: Sequence[CellRecord]) -> None:
    """Put the list of a sweep's cells on the sweep's own run."""
    parent.text(json.dumps([asdict(cell) for cell in cells], indent=1), CELLS)


def find_parent(store: Store, sweep_id: str) -> str | None:
    """The newest parent run of a sweep, if there is one."""
    runs = search(store.client, [store.experiment_id], f"tags.`sweep.parent` = '{sweep_id}'")
    return str(runs[0].info.run_id) if runs else None


def find_finished(store: Store) -> dict[str, str]:
    """``config.hash`` and run of everything that the experiment has finished, newest first."""
    runs = search(store.client, [store.experiment_id], "tags.`config.hash` != ''")
    return {r.data.tags["config.hash"]: r.info.run_id for r in reversed(runs) if is_finished(r)}


@dataclass(frozen=True)
class Result:
    """What a run came to: its last values, NaN where one was not finite."""

    run_id: str
    outcome: str
    metrics: dict[str, float]


def find_result(store: Store, identity: str, pruned: bool = False) -> Result | None:
    """The newest run with this ``config.hash`` that completed or diverged, or was ``pruned``."""
    for run in search(store.client, [store.experiment_id], f"tags.`config.hash` = '{identity}'"):
        outcome = run.data.tags.get("run.outcome", "")
        if is_finished(run) or (pruned and outcome == "pruned"):
            bad = filter(None, run.data.tags.get("nonfinite", "").split(", "))
            metrics = {**run.data.metrics, **{name: math.nan for name in bad}}
            return Result(str(run.info.run_id), outcome, metrics)
    return None


def history(store: Store, run_id: str, metric: str) -> list[tuple[int, float]]:
    """Step and value of everything that a run has logged of one metric."""
    found = store.client.get_metric_history(run_id, metric)
    return [(point.step, point.value) for point in found]


def find_trained(store: Store, train_hash: str, first: str | None = None) -> list[tuple[str, str]]:
    """Completed runs with these weights, newest first, each with its tag ``train.probes``.

    The run ``first``, which may be of another experiment, is put before them if it is one.
    """
    where = f"tags.`train.hash` = '{train_hash}' and tags.`run.outcome` = 'completed'"
    runs = search(store.client, [store.experiment_id], where)
    if first is not None:
        tags = (run := store.client.get_run(first)).data.tags
        if (tags.get("train.hash"), tags.get("run.outcome")) == (train_hash, "completed"):
            runs.insert(0, run)
    return [(str(run.info.run_id), run.data.tags.get("train.probes", "{}")) for run in runs]


def stored_config(uri: str, run_id: str) -> Config:
    """The configuration that a run was made with.

    Raises:
        ConfigError: no such run, or one whose configuration can't be read, naming ``rerun``.
    """
    from mlflow.exceptions import MlflowException

    client = existing(uri)
    try:
        client.get_run(run_id)
        with artifact(client, run_id, CONFIG) as file:
            text = None if file is None else file.read_bytes()
    except (MlflowException, OSError) as error:
        why = trouble(error) or cause(error)
        raise ConfigError("rerun", run_id, f"can't be read in {uri}: {why}") from error
    if text is None:
        raise ConfigError(
            "rerun", run_id, "has no stored configuration; takes a single run, not a sweep's own"
        )
    try:
        return from_json(text.decode())
    except (ValueError, ConfigError) as error:
        raise ConfigError("rerun", run_id, f"has a damaged configuration: {error}") from error


def close_stale(
    store: Store,
    sweep_id: str,
    number: int | None = None,
    outcome: str = "interrupted",
    reason: str | None = None,
) -> list[str]:
    """Close what a process that died left running; returns the names of the runs it cut off.

    Only for the one process that drives this sweep: whatever else is running of it is dead.
    With a ``number``, only runs of that cell, for the process that knows of its death.
    """
    where = f"tags.`sweep.id` = '{sweep_id}' and attributes.status = 'RUNNING'"
    if number is not None:
        where += f" and tags.`sweep.number` = '{number}'"
    left = search(store.client, [store.experiment_id], where)
    return [name for run in left for name in end_left(store, run, outcome, reason)]


def end_left(
    store: Store, run: Run, outcome: str = "interrupted", reason: str | None = None
) -> list[str]:
    """End a run that a dead process left running; its name, if that cut it off.

    A run whose outcome is written has ended, even if its process died before it could close it.
    """
    record, written = RunLog(store, str(run.info.run_id)), run.data.tags.get("run.outcome")
    if written is None and reason is not None:
        record.tags({"run.reason": reason})
    record.end(written or outcome)
    return [str(run.info.run_name)] if written is None else []


def runs_of_sweep(client: PatientClient, parent: Run) -> list[Run]:
    """One run for each cell of a sweep, named as this sweep names it.

    A cell that an earlier sweep of the same experiment had finished is that sweep's run.
    """
    sweep, experiments = parent.data.tags["sweep.parent"], [parent.info.experiment_id]
    cells = cells_of(client, parent)
    if not cells:
        return newest_of_each_configuration(
            search(client, experiments, f"tags.`sweep.id` = '{sweep}'")
        )
    every = search(client, experiments, "tags.`config.hash` != ''")
    runs = [run for run in every if run.data.tags["config.hash"] in cells]
    for run in runs:
        cell = cells[run.data.tags["config.hash"]]
        run.data.tags.update({"label": cell.label, "mlflow.runName": cell.name})
        run.data.tags["sweep.number"] = str(cell.number)
    return newest_of_each_configuration(runs)


def cells_of(client: PatientClient, parent: Run) -> dict[str, CellRecord]:
    """The cells of a sweep by ``config.hash``; none, with a warning, where the list is damaged."""
    with artifact(client, str(parent.info.run_id), CELLS) as file:
        if file is None:
            return {}
        text = file.read_bytes()
    try:
        listed = [CellRecord(**entry) for entry in json.loads(text)]
    except (TypeError, ValueError) as error:
        log.warning(
            "sweep %s: its %s is damaged (%s); only the runs that it started are shown, and the "
            "sweep's command mends it",
            *(parent.data.tags["sweep.parent"], CELLS, error),
        )
        return {}
    return {cell.identity: cell for cell in listed}


def newest_of_each_configuration(found: Iterable[Run]) -> list[Run]:
    """One run a configuration, oldest first; a finished one before one that is not."""
    best: dict[str, Run] = {}
    for run in found:  # newest first
        identity = run.data.tags.get("config.hash", run.info.run_id)
        if identity not in best or (is_finished(run) and not is_finished(best[identity])):
            best[identity] = run
    return sorted(best.values(), key=lambda r: int(r.data.tags.get("sweep.number", "0")))


def is_finished(run: Run) -> bool:
    """Whether a run ended with a result; a divergence is one."""
    return OUTCOMES.get(run.data.tags.get("run.outcome", "")) == "FINISHED"
