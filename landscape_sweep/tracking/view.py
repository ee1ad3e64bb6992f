"""What people open in the MLflow UI: runs with columns chosen to compare them, and the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from landscape_sweep.tracking.store import client_of

VIEW = "landscape_sweep"
"""Key of the view; the UI keeps those that people share as tags of the experiment."""

LOCAL = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` listens."""


@dataclass(frozen=True)
class Links:
    """Addresses in the MLflow UI.

    Attributes:
        server: the command that starts it; empty where a server runs anyway.
        runs: all runs of the experiment with the columns of ``save_view``.
        report: the page of one sweep.
    """

    server: str
    runs: str
    report: str


def save_view(uri: str, parent_run_id: str, columns: Sequence[str]) -> Links:
    """Choose the columns in which the MLflow UI compares the runs of a sweep's experiment.

    Args:
        uri: MLflow tracking URI.
        parent_run_id: the sweep's own run.
        columns: configuration keys, dotted, and metrics, slashed.
    """
    client = client_of(uri)
    experiment = client.get_run(parent_run_id).info.experiment_id
    kinds = ["metrics" if "/" in column else "params" for column in columns]
    state = {"selectedColumns": [f"{k}.`{c}`" for k, c in zip(kinds, columns, strict=True)]}
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{VIEW}", json.dumps(state))
    served = uri.startswith("http")
    start = f"{uri.rstrip('/') if served else LOCAL}/#/experiments/{experiment}/runs"
    training = "workflowType=machine_learning"  # the UI opens for language models otherwise
    return Links(
        server="" if served else f"mlflow ui --backend-store-uri {uri}",
        runs=f"{start}?{training}&viewStateShareKey={VIEW}",
        report=f"{start}/{parent_run_id}/artifacts/report/report.html?{training}",
    )
