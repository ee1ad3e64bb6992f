"""Fetching one published archive: fails in seconds without a network, is checked by its md5."""

from __future__ import annotations

import contextlib
import socket
import threading
import urllib.request
from collections.abc import Iterator

from landscape_sweep.data._source import Report

SECONDS = 5.0
STALL_SECONDS = 30.0


def fetch(url: str, folder: str, filename: str, md5: str, report: Report) -> None:
    """Download `url` to `folder`, unless it is there already, and unpack it there.

    torchvision does the work and shows the progress. Raises `OSError` or `RuntimeError` with a
    short message if the server can't be reached, stalls, or sends something else.
    """
    from torchvision.datasets.utils import check_integrity, download_and_extract_archive

    if not check_integrity(f"{folder}/{filename}", md5):
        _require_answer(url)
        report(f"Downloading {filename} to {folder}")
    with _stall_limit():
        download_and_extract_archive(url, folder, filename=filename, md5=md5)


def _require_answer(url: str) -> None:
    """Return once the server has answered; raise `OSError` after a few seconds if it hasn't.

    In a thread, because looking up a name can hang for long and takes no time limit of its own.
    """
    failure: list[Exception] = [TimeoutError(f"no answer within {SECONDS:g} s")]

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=SECONDS):
                failure.clear()
        except (OSError, ValueError) as error:
            failure[:] = [error]

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if failure:
        raise OSError(f"no network, or the server is away: {failure[0]}")


@contextlib.contextmanager
def _stall_limit() -> Iterator[None]:
    """torchvision opens its connections without a time limit: give them one."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
