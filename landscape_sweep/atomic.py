"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path, folder: Path | None = None) -> Iterator[Path]:
    """A path to write to; it takes the place of ``file`` when the body ends well.

    Whoever reads sees the old file or the new one, never a half, also after a power cut; a failure
    leaves the old one. The path is beside ``file``, or in ``folder`` of the same file system.
    """
    part = (folder or file.parent) / f"{file.name}.{os.getpid()}.part"
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
