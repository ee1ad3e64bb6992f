"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside ``file`` to write to; it takes the place of ``file`` when the body ends well.

    Whoever reads sees the old file or the new one, never a half; a failure leaves the old one.
    """
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
