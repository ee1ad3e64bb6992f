"""One MLflow run that is being written, and the journal from which another can go on."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import pandas as pd

from landscape_sweep.atomic import replacing
from landscape_sweep.tracking.layout import OUTCOMES
from landscape_sweep.tracking.patience import PatientClient, cause, is_away
from landscape_sweep.tracking.store import Store, client_of, read_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

log = logging.getLogger("landscape_sweep")

FLUSH_SECONDS = 5.0
"""Metrics wait at most this long before they are written in one batch."""
_BATCH = {"metrics": 1000, "params": 100}  # MLflow's limits for one log_batch


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
        told = asdict(self)
        return json.dumps({**told, "sha256": _digest(told)})


def journal_from_json(text: str) -> Journal:
    """The journal that ``Journal.as_json`` wrote.

    Raises:
        ValueError: a text that is cut short or changed, or something else.
    """
    try:
        found = json.loads(text)
        checksum = found.pop("sha256")
        metrics = [(str(name), float(value), int(step)) for name, value, step in found["metrics"]]
        journal = Journal(str(found["run_id"]), metrics, [str(path) for path in found["files"]])
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a journal: {error}") from error
    if checksum != _digest(found):
        raise ValueError("its checksum is wrong")
    return journal


def _digest(journal: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(journal, sort_keys=True).encode()).hexdigest()


class Pruned(Exception):  # noqa: N818, a way to end and no error
    """Ends a run early, because it promises too little."""


Watch = Callable[[Mapping[str, float], int], None]
"""Called with metrics and their step as they are logged; may raise ``Pruned``."""


class RunLog:
    """One MLflow run that is being written. Metrics are gathered and written in batches."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self.watch: Watch | None = None
        self.journal = Journal(run_id, [], [])
        self._waiting: list[Metric] = []
        self._flushed = time.monotonic()
        self._told = False  # that the store is away

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
            every = dict.fromkeys(n for n, v, _ in self.journal.metrics if not math.isfinite(v))
            self.tags({"nonfinite": ", ".join(every)})
        self._waiting += [
            Metric(name, float(value), now, step)
            for name, value in values.items()
            if name not in bad
        ]
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush_without_waiting()
        if self.watch is not None:
            self.watch(values, step)

    def flush(self) -> None:
        """Write every metric that waits."""
        self._write_metrics(self.store.client)

    def _flush_without_waiting(self) -> None:
        """Write every metric that waits; while the store is away they wait on, in memory."""
        try:
            self._write_metrics(self.store.client.impatient)
        except Exception as error:
            if not is_away(error):
                raise
            if not self._told:
                log.warning("  %s does not answer: metrics wait in memory", self.store.uri)
            self._told = True
            self._flushed = time.monotonic()

    def _write_metrics(self, client: PatientClient | MlflowClient) -> None:
        for part in _parts(self._waiting, _BATCH["metrics"]):
            client.log_batch(self.run_id, metrics=part)  # the same again does no harm
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
        with _staged(path) as file:
            file.write_text(text)
            self._put(file, path)

    def figure(self, figure: Figure, path: str) -> None:
        """Log a figure under ``path``; the suffix decides the format."""
        with _staged(path) as file:
            figure.savefig(file)
            self.file(file, path)

    def file(self, file: Path, path: str) -> None:
        """Log a file of the same name under ``path``."""
        self._put(file, path)
        self.journal.files.append(path)

    def _put(self, file: Path, path: str) -> None:
        """Make a file an artifact; on this machine whole or not at all, as MLflow's copy is not."""
        if self._folder is None:
            folder = str(Path(path).parent)
            self.store.client.log_artifact(self.run_id, str(file), "" if folder == "." else folder)
            return
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, self._folder.parent) as part:  # beside what MLflow lists
            shutil.copyfile(file, part)

    @functools.cached_property
    def _folder(self) -> Path | None:
        """Where the run's artifacts lie, if that is on this machine."""
        place = urlparse(self.store.client.get_run(self.run_id).info.artifact_uri)
        return Path(url2pathname(place.path)) if place.scheme == "file" else None

    def replay(self, journal: Journal) -> None:
        """Log again what another run had logged: its metrics, and copies of its files.

        Raises:
            FileNotFoundError: a file of that run is gone.
        """
        for path in journal.files:
            with read_file(self.store, journal.run_id, path) as file:
                self.file(file, path)
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


def reopen_run(store: Store, run_id: str) -> RunLog:
    """Go on writing to a run that ended."""
    store.client.update_run(run_id, status="RUNNING")
    return RunLog(store, run_id)


@contextmanager
def recording(record: RunLog) -> Iterator[None]:
    """Close the run whatever happens: a failure leaves its traceback in the run.

    The body closes the run itself when it ends well, because only it knows the outcome.
    """
    try:
        yield
    except Pruned as reason:
        log.info("  pruned: %s", reason)
        record.tags({"run.reason": str(reason)})
        record.end("pruned")
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        try:
            _close(record, error)
        except Exception as second:  # a full disk, a server that is gone: the first error counts
            log.error("  run %s can't be closed: %s", record.run_id, cause(second))
        raise


def _close(record: RunLog, error: BaseException) -> None:
    """End a run that ``error`` ended, and say in it why."""
    # A cluster's job that is queued again leaves its first attempt with SystemExit.
    if isinstance(error, KeyboardInterrupt | SystemExit):
        record.end("interrupted")
        return
    record.tags({"run.reason": f"{type(error).__name__}: {error}"[:500]})
    record.text("".join(traceback.format_exception(error)), "traceback.txt")
    record.end("failed")


def log_report(uri: str, parent_run_id: str, folder: Path, note: str) -> None:
    """Put a report's files on the sweep's run, under ``report``, and a note on the run itself."""
    client = client_of(uri)
    client.log_artifacts(parent_run_id, str(folder), "report")
    client.set_tag(parent_run_id, "mlflow.note.content", note)
