"""How far long work is: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import TextIO

log = logging.getLogger("landscape_sweep")

PLAIN_SECONDS = 30.0
"""Seconds between two plain lines."""

TOLD_SHARE = 0.02
"""Share of the work that has to be done before plain lines tell the time left."""

BAR_SECONDS = 0.1
"""Seconds between two looks of the bar; steps of small networks are far shorter."""


class StdoutHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Logs to whatever ``sys.stdout`` is at the moment, so that lines appear above a bar."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """The standard output of this moment."""
        return sys.stdout


class Progress:
    """Shows ``progress(done, total)`` with the time left, under a label.

    Use as a context: the bar vanishes at the end.
    """

    def __init__(self, label: str) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._label = label
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            transient=True,
            disable=not sys.stdout.isatty(),
        )
        self._task = self._bar.add_task(label, total=None)
        self._began = self._shown = time.monotonic()

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._shown < (PLAIN_SECONDS if self._bar.disable else BAR_SECONDS):
            return
        self._shown = now
        if self._bar.disable:
            left = ""
            if 0 < done >= TOLD_SHARE * total:
                left = f", {duration((now - self._began) * (total - done) / done)} left"
            log.info("  %s: %d of %d%s", self._label, done, total, left)
        else:
            self._bar.update(self._task, completed=done, total=total)


def duration(seconds: float) -> str:
    """A time span as people say it: ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
