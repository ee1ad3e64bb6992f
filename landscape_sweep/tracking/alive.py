"""Which single runs are alive: each holds a file lock that the system releases when it dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from landscape_sweep.tracking.ledger import end_left
from landscape_sweep.tracking.store import Store, search

TAG = "run.lock"
"""Tag of a run with the name of the lock that its process holds."""


@contextmanager
def alive(outputs: str) -> Iterator[dict[str, str]]:
    """Hold a lock under ``outputs`` for this process; gives the tag that tells which.

    Held before the run is opened and until it is closed: whoever finds the run finds the lock.
    """
    name = f"{uuid4().hex}.lock"
    file = _file(outputs, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file, blocking=False):
        try:
            yield {TAG: name}
        finally:
            file.unlink(missing_ok=True)


def close_dead(store: Store, outputs: str) -> list[str]:
    """Close single runs of dead processes as interrupted; returns the names of those cut off.

    A run whose lock is not under ``outputs``, another machine's perhaps, is left as it is.
    """
    where = f"tags.`{TAG}` != '' and attributes.status = 'RUNNING'"
    cut_off: list[str] = []
    for run in search(store.client, [store.experiment_id], where):
        file = _file(outputs, run.data.tags[TAG])
        if not file.exists():
            continue
        try:
            with FileLock(file, blocking=False):
                cut_off += end_left(store, run)
                file.unlink(missing_ok=True)
        except Timeout:
            continue  # its process is alive
    return cut_off


def _file(outputs: str, name: str) -> Path:
    return Path(outputs, "runs", name)
