"""The only door to MLflow: parent and child runs in, tables of finished runs out.

MLflow is imported late, because the import alone takes about two seconds.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import pandas as pd

from landscape_sweep.config import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

log = logging.getLogger("landscape_sweep")

FLUSH_SECONDS = 5.0
"""Metrics wait at most this long before they are written in one batch."""

OUTCOMES = {  # what a run may come to, and the status that MLflow shows for it
    "completed": "FINISHED",
    "diverged": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
_BATCH = {"metrics": 1000, "params": 100}  # MLflow's limits for one log_batch


@dataclass(frozen=True)
class Store:
    """An MLflow tracking server or database, and one experiment in it."""

    client: MlflowClient
    uri: str
    experiment_id: str


def connect(uri: str, experiment_name: str, outputs: str) -> Store:
    """Open the store; make the database and the experiment where they are missing.

    Args:
        uri: an MLflow tracking URI; a relative sqlite path is taken from the current folder.
        experiment_name: made if it does not exist.
        outputs: folder for the artifacts of a database on this machine.

    Raises:
        ConfigError: the store can't be reached or written, naming ``tracking.uri``.
    """
    client = _client(uri)
    try:
        experiment = client.get_experiment_by_name(experiment_name)
        if experiment is not None:
            return Store(client, uri, str(experiment.experiment_id))
        # A database has no artifact store of its own; a server chooses where its artifacts go.
        local = Path(outputs, "mlartifacts").absolute().as_uri() if "://" in uri else None
        location = None if uri.startswith("http") else local
        return Store(client, uri, str(client.create_experiment(experiment_name, location)))
    except Exception as error:
        raise ConfigError("tracking.uri", uri, f"can't be used: {_reason(error)}") from error


def _client(uri: str) -> MlflowClient:
    """A client for ``uri``, quiet and quick to say that nobody answers."""
    parts = urlparse(uri)
    known = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")
    if parts.scheme.partition("+")[0] not in known:
        raise ConfigError(
            "tracking.uri", uri, "takes one of " + ", ".join(known) + " as its scheme"
        )
    # MLflow's own defaults would keep a user waiting for minutes at an unreachable server.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # the last failure is told by us
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # says nothing of its tables

    if parts.scheme == "sqlite" and parts.path.strip("/"):
        # MLflow remembers stores by URI: a relative one would mean the folder of its first use.
        file = Path(parts.path[1:]).absolute()
        file.parent.mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{file}"
    try:
        return MlflowClient(tracking_uri=uri)
    except Exception as error:
        raise ConfigError("tracking.uri", uri, f"can't be used: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The innermost cause in one line: what MLflow wraps around it helps nobody."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return " ".join(str(error).split())[:200] or type(error).__name__


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


@dataclass(frozen=True)
class Journal:
    """What a run has logged, so that another run can go on from there.

    Attributes:
        run_id: the MLflow run.
        metrics: name, value and step of each metric, in order.
        files: paths of its artifacts, tables and figures among them.
    """

    run_id: str
    metrics: list[tuple[str, float, int]]
    files: list[str]

    def as_json(self) -> str:
        """Text from which ``journal_from_json`` makes it again, to the last bit."""
        return json.dumps(asdict(self))


def journal_from_json(text: str) -> Journal:
    """The journal that ``Journal.as_json`` wrote.

    Raises:
        ValueError: a text that is damaged or something else.
    """
    try:
        found = json.loads(text)
        metrics = [(str(name), float(value), int(step)) for name, value, step in found["metrics"]]
        return Journal(str(found["run_id"]), metrics, [str(path) for path in found["files"]])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a journal: {error}") from error


class RunLog:
    """One MLflow run that is being written. Metrics are gathered and written in batches."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self.journal = Journal(run_id, [], [])
        self._waiting: list[Metric] = []
        self._flushed = time.monotonic()

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; None is written as ``null``, as it stands in the configuration."""
        from mlflow.entities import Param

        params = [Param(k, "null" if v is None else str(v)) for k, v in values.items()]
        for part in _parts(params, _BATCH["params"]):
            self.store.client.log_batch(self.run_id, params=part)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics, gathered for a few seconds so that writing costs next to nothing.

        Values that are not finite are left out and told by a tag ``nonfinite``: MLflow would
        store inf as 1.797e308.
        """
        from mlflow.entities import Metric

        self.journal.metrics.extend((name, float(v), step) for name, v in values.items())
        now = int(time.time() * 1000)
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            self.tags({"nonfinite": ", ".join(bad)})
        self._waiting += [
            Metric(name, float(value), now, step)
            for name, value in values.items()
            if name not in bad
        ]
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write every metric that waits."""
        for part in _parts(self._waiting, _BATCH["metrics"]):
            self.store.client.log_batch(self.run_id, metrics=part)
        self._waiting = []
        self._flushed = time.monotonic()

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        for name, value in values.items():
            self.store.client.set_tag(self.run_id, name, value)

    def table(self, frame: pd.DataFrame, path: str) -> None:
        """Log a table as CSV under ``path``."""
        with _staged(path) as file:
            frame.to_csv(file, index=False)
            self.file(file, path)

    def text(self, text: str, path: str) -> None:
        """Log a text file under ``path``."""
        self.store.client.log_text(self.run_id, text, path)

    def figure(self, figure: Figure, path: str) -> None:
        """Log a figure under ``path``; the suffix decides the format."""
        with _staged(path) as file:
            figure.savefig(file)
            self.file(file, path)

    def file(self, file: Path, path: str) -> None:
        """Log a file of the same name under ``path``."""
        folder = str(Path(path).parent)
        self.store.client.log_artifact(self.run_id, str(file), "" if folder == "." else folder)
        self.journal.files.append(path)

    def replay(self, journal: Journal) -> None:
        """Log again what another run had logged: its metrics, and copies of its files.

        Raises:
            FileNotFoundError: a file of that run is gone.
        """
        for path in journal.files:
            self.file(read_file(self.store, journal.run_id, path), path)
        for name, value, step in journal.metrics:
            self.metrics({name: value}, step)

    def end(self, outcome: str) -> None:
        """Write what waits and close the run with one of ``OUTCOMES``."""
        self.flush()
        self.tags({"run.outcome": outcome})
        self.store.client.set_terminated(self.run_id, OUTCOMES[outcome])


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


@contextmanager
def _staged(path: str) -> Iterator[Path]:
    """A temporary file with the name that ``path`` has, removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, Path(path).name)


def open_run(
    store: Store, name: str, tags: Mapping[str, str], parent_run_id: str | None = None
) -> RunLog:
    """Start a run, under a parent if one is given."""
    # MLFLOW_PARENT_RUN_ID is ignored by the client: the parent is a tag.
    parent = {"mlflow.parentRunId": parent_run_id} if parent_run_id else {}
    run = store.client.create_run(
        store.experiment_id, run_name=name, tags={**tags, **parent, "mlflow.source.type": "LOCAL"}
    )
    return RunLog(store, str(run.info.run_id))


def read_text(store: Store, run_id: str, path: str) -> str:
    """A text artifact of a run.

    Raises:
        FileNotFoundError: the run has no such artifact.
    """
    return read_file(store, run_id, path).read_text()


def read_file(store: Store, run_id: str, path: str) -> Path:
    """An artifact of a run, as a file on this machine.

    Raises:
        FileNotFoundError: the run has no such artifact.
    """
    file = _artifact(store.client, run_id, path)
    if file is None:
        raise FileNotFoundError(f"run {run_id} has no artifact {path}")
    return file


def log_report(uri: str, parent_run_id: str, folder: Path, note: str) -> None:
    """Put a report's files on the sweep's run, under ``report``, and a note on the run itself."""
    client = _client(uri)
    client.log_artifacts(parent_run_id, str(folder), "report")
    client.set_tag(parent_run_id, "mlflow.note.content", note)


def reopen_run(store: Store, run_id: str) -> RunLog:
    """Go on writing to a run that ended."""
    store.client.update_run(run_id, status="RUNNING")
    return RunLog(store, run_id)


@contextmanager
def recording(log: RunLog) -> Iterator[None]:
    """Close the run whatever happens: a failure leaves its traceback in the run.

    The body closes the run itself when it ends well, because only it knows the outcome.
    """
    try:
        yield
    except KeyboardInterrupt:
        log.end("interrupted")
        raise
    except Exception as error:
        log.text(traceback.format_exc(), "traceback.txt")
        log.tags({"run.reason": f"{type(error).__name__}: {error}"[:500]})
        log.end("failed")
        raise


def find_parent(store: Store, sweep_id: str) -> str | None:
    """The newest parent run of a sweep, if there is one."""
    runs = _search(store.client, [store.experiment_id], f"tags.`sweep.parent` = '{sweep_id}'")
    return str(runs[0].info.run_id) if runs else None


def find_finished(store: Store) -> dict[str, str]:
    """``config.hash`` and run of everything that the experiment has finished, newest first."""
    runs = _search(store.client, [store.experiment_id], "tags.`config.hash` != ''")
    return {r.data.tags["config.hash"]: r.info.run_id for r in reversed(runs) if _finished(r)}


def find_trained(store: Store, train_hash: str) -> list[tuple[str, str]]:
    """Completed runs with these weights, newest first, each with its tag ``train.probes``."""
    where = f"tags.`train.hash` = '{train_hash}' and tags.`run.outcome` = 'completed'"
    runs = _search(store.client, [store.experiment_id], where)
    return [(str(run.info.run_id), run.data.tags.get("train.probes", "{}")) for run in runs]


def close_stale(store: Store, sweep_id: str) -> list[str]:
    """Close as interrupted what a driver that died left running; returns the names of the runs.

    Only for the one process that drives this sweep: whatever else is running of it is dead.
    """
    where = f"tags.`sweep.id` = '{sweep_id}' and attributes.status = 'RUNNING'"
    stale = _search(store.client, [store.experiment_id], where)
    for run in stale:
        RunLog(store, str(run.info.run_id)).end("interrupted")
    return [str(run.info.run_name) for run in stale]


def _finished(run: Run) -> bool:
    """Whether a run ended with a result; a divergence is one."""
    return OUTCOMES.get(run.data.tags.get("run.outcome", "")) == "FINISHED"


def _search(client: MlflowClient, experiments: list[str], where: str) -> list[Run]:
    """Every run that fits, newest first."""
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs(experiments, where, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


# ---------------------------------------------------------------- reading


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


HISTORIES = ("fit/", "test/", "dynamics/")
"""Metrics that are measured by epoch."""
SPECTRUM = "hessian/eigenvalues.csv"
DENSITY = "hessian/density.csv"
ALGORITHM_1 = "hessian/algorithm_1.csv"
SURFACE = "surface/surface.csv"
MARKS = "surface/marks.csv"
PROFILE = "profile/profile.csv"
PROFILE_CURVATURE = "profile/curvature.csv"
PATHS = "connectivity/paths.csv"
BARRIERS = "connectivity/barriers.csv"
WEIGHTS = "weights/final.safetensors"
JOURNAL = "weights/journal.json"
"""What training logged until the weights were final."""
CELLS = "cells.json"
"""On a sweep's own run: what it is made of."""
CONFIG = "config.json"


def load_sweep(uri: str, sweep: str | None = None, experiment_name: str | None = None) -> Sweep:
    """Read a sweep, or all runs of an experiment, back from MLflow.

    Args:
        uri: MLflow tracking URI.
        sweep: a sweep's id; it is looked for in every experiment.
        experiment_name: all runs of this experiment, where no sweep is given.

    Raises:
        ConfigError: no such sweep or experiment, listing those there are.
    """
    client = _client(uri)
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
    )


def load_runs(
    uri: str, sweep: str | None = None, experiment_name: str | None = None
) -> pd.DataFrame:
    """One row a run: ``run_id name label outcome reason command seconds``, then keys and metrics.

    Configuration keys are dotted; metrics are slashed and hold the last value, accuracy in 0..1.

    Raises:
        ConfigError: no such sweep or experiment, listing those there are.
    """
    return _run_table(_found(_client(uri), sweep, experiment_name)[1])


def _found(
    client: MlflowClient, sweep: str | None, experiment_name: str | None
) -> tuple[list[Run], list[Run]]:
    """Parents, and runs: of one sweep wherever it is, or of an experiment."""
    experiments = [e.experiment_id for e in client.search_experiments()]
    every = reversed(_search(client, experiments, "tags.`sweep.parent` != ''"))
    parents = {r.data.tags["sweep.parent"]: r for r in every}  # the newest of each sweep
    if sweep is not None:
        if sweep not in parents:
            raise ConfigError("sweep", sweep, "takes one of " + (", ".join(parents) or "none yet"))
        parent = parents[sweep]
        return [parent], _runs_of_sweep(client, parent)
    experiment = client.get_experiment_by_name(str(experiment_name))
    if experiment is None:
        names = ", ".join(e.name for e in client.search_experiments())
        raise ConfigError("experiment_name", experiment_name, f"takes one of {names}")
    runs = _search(client, [experiment.experiment_id], "tags.`config.hash` != ''")
    here = [r for r in parents.values() if r.info.experiment_id == experiment.experiment_id]
    return here, _newest_of_each_configuration(runs)


def _runs_of_sweep(client: MlflowClient, parent: Run) -> list[Run]:
    """One run for each cell of a sweep, named as this sweep names it.

    A cell that an earlier sweep of the same experiment had finished is that sweep's run.
    """
    sweep, experiments = parent.data.tags["sweep.parent"], [parent.info.experiment_id]
    cells = _cells(client, parent)
    if not cells:
        return _newest_of_each_configuration(
            _search(client, experiments, f"tags.`sweep.id` = '{sweep}'")
        )
    every = _search(client, experiments, "tags.`config.hash` != ''")
    runs = [run for run in every if run.data.tags["config.hash"] in cells]
    for run in runs:
        cell = cells[run.data.tags["config.hash"]]
        run.data.tags.update({"label": cell.label, "mlflow.runName": cell.name})
        run.data.tags["sweep.number"] = str(cell.number)
    return _newest_of_each_configuration(runs)


def _cells(client: MlflowClient, parent: Run) -> dict[str, CellRecord]:
    """The cells of a sweep by ``config.hash``; none, with a warning, where the list is damaged."""
    file = _artifact(client, str(parent.info.run_id), CELLS)
    if file is None:
        return {}
    try:
        listed = [CellRecord(**entry) for entry in json.loads(file.read_text())]
    except (TypeError, ValueError) as error:
        log.warning(
            "sweep %s: its %s is damaged (%s); only the runs that it started are shown, and the "
            "sweep's command mends it",
            *(parent.data.tags["sweep.parent"], CELLS, error),
        )
        return {}
    return {cell.identity: cell for cell in listed}


def _newest_of_each_configuration(found: Iterable[Run]) -> list[Run]:
    """One run a configuration, oldest first; a finished one before one that is not."""
    best: dict[str, Run] = {}
    for run in found:  # newest first
        identity = run.data.tags.get("config.hash", run.info.run_id)
        if identity not in best or (_finished(run) and not _finished(best[identity])):
            best[identity] = run
    return sorted(best.values(), key=lambda r: int(r.data.tags.get("sweep.number", "0")))


def log_cells(parent: RunLog, cells: Sequence[CellRecord]) -> None:
    """Put the list of a sweep's cells on the sweep's own run."""
    parent.text(json.dumps([asdict(cell) for cell in cells], indent=1), CELLS)


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


def _histories(client: MlflowClient, runs: Sequence[Run]) -> pd.DataFrame:
    rows = [
        (run.info.run_id, metric, point.step, point.value)
        for run in runs
        for metric in run.data.metrics
        if metric.startswith(HISTORIES)
        for point in client.get_metric_history(run.info.run_id, metric)
    ]
    return pd.DataFrame(rows, columns=["run_id", "metric", "step", "value"])


def _gathered(client: MlflowClient, runs: Sequence[Run], path: str) -> pd.DataFrame:
    """One artifact table of every run, with its ``run_id`` in front."""
    frames = []
    for run in runs:
        frame = _read(client, run, path)
        if not frame.empty:
            frame.insert(0, "run_id", run.info.run_id)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["run_id"])


def _read(client: MlflowClient, run: Run, path: str) -> pd.DataFrame:
    """An artifact table; empty where the run has none."""
    file = _artifact(client, str(run.info.run_id), path)
    return pd.read_csv(file) if file is not None else pd.DataFrame()


def _artifact(client: MlflowClient, run_id: str, path: str) -> Path | None:
    """A run's artifact as a file on this machine; None where the run has none."""
    folder = str(Path(path).parent)
    listed = client.list_artifacts(run_id, None if folder == "." else folder)
    if path not in {entry.path for entry in listed}:
        return None
    return Path(client.download_artifacts(run_id, path))
