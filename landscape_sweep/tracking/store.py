"""A tracking server or database: reached, searched, and its artifacts read.

MLflow is imported late, because the import alone takes about two seconds.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from filelock import FileLock

from landscape_sweep.config import ConfigError
from landscape_sweep.tracking.patience import PatientClient, cause, trouble

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class Store:
    """An MLflow tracking server or database, and one experiment in it."""

    client: PatientClient
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
    client = client_of(uri)
    # A database has no artifact store of its own; a server chooses where its artifacts go.
    artifacts = None if uri.startswith("http") else Path(outputs, "mlartifacts").absolute().as_uri()
    try:
        return Store(client, uri, _experiment(client, experiment_name, artifacts))
    except Exception as error:
        raise _unusable(uri, error) from error


def find_store(uri: str, experiment_name: str) -> Store | None:
    """The store as ``connect`` gives it, where all of it is there already: nothing is made.

    Raises:
        ConfigError: the store can't be reached, naming ``tracking.uri``.
    """
    if _is_missing_file(uri):
        return None
    client = client_of(uri)
    try:
        found = client.get_experiment_by_name(experiment_name)
    except Exception as error:
        raise _unusable(uri, error) from error
    return None if found is None else Store(client, uri, str(found.experiment_id))


def existing(uri: str) -> PatientClient:
    """A client for a store that is read: a database that is not there is not made.

    Raises:
        ConfigError: there is none, or it can't be reached, naming ``tracking.uri``.
    """
    if _is_missing_file(uri):
        allowed = "there is no such file; outputs=FOLDER names the folder where runs wrote"
        raise ConfigError("tracking.uri", uri, allowed)
    return client_of(uri)


def _is_missing_file(uri: str) -> bool:
    """Whether ``uri`` is of an sqlite database that is not there."""
    parts = urlparse(uri)
    return parts.scheme == "sqlite" and not Path(parts.path[1:]).exists()


def _experiment(client: PatientClient, name: str, artifacts: str | None) -> str:
    """The id of an experiment, which is made where it is missing."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifacts))
        except Exception:
            found = client.get_experiment_by_name(name)  # another process may have been faster
            if found is None:
                raise
    return str(found.experiment_id)


def _unusable(uri: str, error: Exception) -> ConfigError:
    return ConfigError("tracking.uri", uri, f"can't be used: {trouble(error) or cause(error)}")


def client_of(uri: str) -> PatientClient:
    """A client for ``uri``, quiet and quick to say that nobody answers."""
    parts = urlparse(uri)
    known = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")
    if parts.scheme.partition("+")[0] not in known:
        raise ConfigError(
            "tracking.uri", uri, "takes one of " + ", ".join(known) + " as its scheme"
        )
    # MLflow's own defaults would keep a user waiting for minutes at an unreachable server, and
    # silently; we wait by ourselves.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # the last failure is told by us
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # says nothing of its tables
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # nor traces we tell

    alone: AbstractContextManager[object] = nullcontext()
    if parts.scheme == "sqlite" and parts.path.strip("/"):
        # MLflow remembers stores by URI: a relative one would mean the folder of its first use.
        file = Path(parts.path[1:]).absolute()
        file.parent.mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{file}"
        if os.access(file.parent, os.W_OK):
            # Two processes that make the tables of a fresh database get in each other's way.
            alone = FileLock(f"{file}.lock")
    try:
        with alone:
            return PatientClient(MlflowClient(tracking_uri=uri), uri)
    except Exception as error:
        raise _unusable(uri, error) from error


def search(client: PatientClient, experiments: list[str], where: str) -> list[Run]:
    """Every run that fits, newest first."""
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs(experiments, where, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def read_text(store: Store, run_id: str, path: str) -> str:
    """A text artifact of a run.

    Raises:
        FileNotFoundError: the run has no such artifact.
    """
    with read_file(store, run_id, path) as file:
        return file.read_text()


@contextmanager
def read_file(store: Store, run_id: str, path: str) -> Iterator[Path]:
    """An artifact of a run, as a file on this machine until the block ends.

    Raises:
        FileNotFoundError: the run has no such artifact.
    """
    with artifact(store.client, run_id, path) as file:
        if file is None:
            raise FileNotFoundError(f"run {run_id} has no artifact {path}")
        yield file


@contextmanager
def artifact(client: PatientClient, run_id: str, path: str) -> Iterator[Path | None]:
    """A run's artifact as a file on this machine until the block ends; None where it has none.

    A copy, in a folder of our own: the one that MLflow makes for it would stay for ever.
    """
    folder = str(Path(path).parent)
    listed = client.list_artifacts(run_id, None if folder == "." else folder)
    if path not in {entry.path for entry in listed}:
        yield None
        return
    with TemporaryDirectory() as folder:
        yield Path(client.download_artifacts(run_id, path, folder))
