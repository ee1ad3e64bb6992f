"""A user's own data set: one npz file with x_train, y_train, x_test and y_test."""

from __future__ import annotations

from landscape_sweep.data._errors import DataError
from landscape_sweep.data._npz_file import describe_npz, read_npz
from landscape_sweep.data._source import Source


def source(root: str, path: str | None) -> Source:
    """The file at `path`; `root` is not used. Raises `DataError` (key `data.path`)."""
    if path is None:
        allowed = "an npz file with x_train, y_train, x_test and y_test"
        raise DataError("data.path", path, allowed, "data=npz needs a file")
    spec = describe_npz(path, name="npz", key="data.path")
    return Source(spec, lambda download, report: read_npz(path, key="data.path"))
