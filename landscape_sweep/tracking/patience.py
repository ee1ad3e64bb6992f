"""Calls to a tracking store that wait while it is away, and what its troubles mean, in one line.

A server may restart and a database be locked by a neighbour: hours of training must not be lost to
that. A store that has never answered is not waited for, because then its address is wrong.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logging.getLogger("landscape_sweep")

PATIENCE = 600.0
"""Seconds to wait for a store that has answered before."""
LONGEST_PAUSE = 15.0
"""Seconds between two attempts, at most."""

_AWAY = (
    *("Max retries exceeded", "Connection aborted", "Connection refused", "Connection reset"),
    *("Connection broken", "timed out", "server closed the connection", "database is locked"),
)
"""What urllib3, PostgreSQL and SQLite say; MLflow hands on their words, not always their errors."""

_ADVICE = {
    "No space left on device": "free some space, and the same command goes on",
    "Disk quota exceeded": "free some space, and the same command goes on",
    "File too large": "raise the limit on files (ulimit -f), and the same command goes on",
    "database or disk is full": "free some space, and the same command goes on",
    "disk I/O error": "the disk fails or is full; when it works again the same command goes on",
    "Read-only file system": "make it writable, or take another folder with outputs=FOLDER",
    "readonly database": "make it writable, or take another folder with outputs=FOLDER",
    "unable to open database file": "make its folder writable, or take another with outputs=FOLDER",
    "malformed": "save what is readable (sqlite3 FILE .recover), or move the file away",
    "not a database": "move the file away, and the same command runs again",
    **dict.fromkeys(_AWAY, "when it answers again, the same command goes on"),
}
"""Words of the operating system and of databases, each with what a user can do."""

_answered: set[str] = set()
"""Stores that this process may wait for; one that was waited for in vain is not among them."""


def expect(uri: str) -> None:
    """Wait for this store from the first call on: another process has had its answers."""
    _answered.add(uri)


class PatientClient:
    """An MLflow client whose calls wait for a store that has answered before and is away.

    Attributes:
        impatient: the client itself, whose calls fail at once.
    """

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self.impatient, self._uri = client, uri

    def __getattr__(self, name: str) -> Any:
        return functools.partial(self._patiently, getattr(self.impatient, name))

    def _patiently(self, method: Any, *arguments: Any, **keys: Any) -> Any:
        began, pause = time.monotonic(), 1.0
        while True:
            try:
                found = method(*arguments, **keys)
            except Exception as error:
                left = began + PATIENCE - time.monotonic()
                if not is_away(error) or self._uri not in _answered:
                    raise
                if left <= 0:
                    _answered.discard(self._uri)  # what follows is not to wait again
                    raise
                if pause == 1.0:
                    told = (self._uri, cause(error), left)
                    log.warning("  %s does not answer (%s): waiting up to %.0f s", *told)
                time.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                _answered.add(self._uri)
                if pause > 1.0:
                    log.info("  %s answers again", self._uri)
                return found


def is_away(error: BaseException) -> bool:
    """Whether waiting may help: the store does not answer, or is locked."""
    texts = [str(link) for link in _chain(error)]
    broken = any("too many 500 error responses" in text for text in texts)  # it does answer
    return not broken and any(words in text for text in texts for words in _AWAY)


def trouble(error: BaseException) -> str | None:
    """What the disk, the database or the server did, and what to do about it, in one line.

    None for an error of any other kind.
    """
    for link in _chain(error):
        for words, advice in _ADVICE.items():
            if words in str(link):
                return f"{cause(error)}: {advice}"
    return None


def cause(error: BaseException) -> str:
    """The innermost cause in one line: what MLflow wraps around it helps nobody."""
    *_, innermost = _chain(error)
    return " ".join(str(innermost).split())[:200] or type(innermost).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
