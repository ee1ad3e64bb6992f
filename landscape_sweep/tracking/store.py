"""A tracking server or database: reached, searched, and its artifacts read.

MLflow is imported late, because the import alone takes about two seconds.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from landscape_sweep.config import ConfigError

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient


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
    client = client_of(uri)
    try:
        experiment = client.get_experiment_by_name(experiment_name)
        if experiment is not None:
            return Store(client, uri, str(experiment.experiment_id))
        # A database has no artifact store of its own; a server chooses where its artifacts go.
        local = Path(outputs, "mlartifacts").absolute().as_uri() if "://" in uri else None
        location = None if uri.startswith("http") else local
        return Store(client, uri, str(client.create_experiment(experiment_name, location)))
    except Exception as error:
        raise ConfigError("tracking.uri", uri, f"can't be used: {reason(error)}") from error


def client_of(uri: str) -> MlflowClient:
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
        raise ConfigError("tracking.uri", uri, f"can't be used: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """The innermost cause in one line: what MLflow wraps around it helps nobody."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return " ".join(str(error).split())[:200] or type(error).__name__


def search(client: MlflowClient, experiments: list[str], where: str) -> list[Run]:
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
    return read_file(store, run_id, path).read_text()


def read_file(store: Store, run_id: str, path: str) -> Path:
    """An artifact of a run, as a file on this machine.

    Raises:
        FileNotFoundError: the run has no such artifact.
    """
    file = artifact(store.client, run_id, path)
    if file is None:
        raise FileNotFoundError(f"run {run_id} has no artifact {path}")
    return file


def artifact(client: MlflowClient, run_id: str, path: str) -> Path | None:
    """A run's artifact as a file on this machine; None where the run has none."""
    folder = str(Path(path).parent)
    listed = client.list_artifacts(run_id, None if folder == "." else folder)
    if path not in {entry.path for entry in listed}:
        return None
    return Path(client.download_artifacts(run_id, path))
