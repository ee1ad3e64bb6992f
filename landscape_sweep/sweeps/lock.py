"""One driver a sweep: a file lock that the operating system releases when its holder dies."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from landscape_sweep.config import ConfigError


@contextmanager
def driving(folder: Path, sweep_id: str) -> Iterator[None]:
    """Hold a sweep for this process.

    Raises:
        ConfigError: another process drives the sweep, naming it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / "driver.txt"
    lock = FileLock(folder / "driver.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        who = holder.read_text() if holder.exists() else "another process"
        raise ConfigError("sweep", sweep_id, f"is being run by {who}") from error
    try:
        since = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
