"""Reading an npz of images and labels: checked by its headers first, and never unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from landscape_sweep.data._errors import DataError
from landscape_sweep.data._source import Arrays, Spec, as_images

KEYS = ("x_train", "y_train", "x_test", "y_test")
ALLOWED = (
    "an npz file with x_train and x_test (n, height, width[, channels]) uint8, at least 8x8, and "
    "y_train and y_test (n,) integers 0 … classes - 1"
)
SMALLEST_SIDE = 8


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def describe_npz(path: str, *, name: str, key: str) -> Spec:
    """What the npz file at `path` holds, from the headers of its arrays and from its labels.

    No image is read. Raises `DataError` for `key` if the file can't be read, lacks an array, or has
    one of the wrong type or shape; an array of Python objects is refused by its header, so that
    nothing is ever unpickled.
    """
    with _reading(path, key):
        with zipfile.ZipFile(path) as archive:
            headers = {array: _header(archive, array, path, key) for array in KEYS}
        _check_headers(headers, path, key)
        with np.load(path, allow_pickle=False) as file:
            classes = _check_labels(file["y_train"], file["y_test"], path, key)
    images = headers["x_train"].shape
    channels = images[3] if len(images) == 4 else 1
    shape = (channels, images[1], images[2])
    return Spec(name, shape, classes, train=images[0], test=headers["x_test"].shape[0])


def read_npz(path: str, *, key: str) -> Arrays:
    """The arrays of a file that `describe_npz` has passed. Raises `DataError` if it is damaged."""
    with _reading(path, key), np.load(path, allow_pickle=False) as file:
        return Arrays(
            x_train=as_images(file["x_train"]),
            y_train=file["y_train"].astype(np.int64),
            x_test=as_images(file["x_test"]),
            y_test=file["y_test"].astype(np.int64),
        )


@contextmanager
def _reading(path: str, key: str) -> Iterator[None]:
    """What can go wrong with a file becomes one line that names it."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(key, path, ALLOWED, "no such file") from None
    # RuntimeError: an encrypted archive; NotImplementedError: a compression Python can't undo.
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(key, path, ALLOWED, f"can't be read ({error})") from None


def _header(archive: zipfile.ZipFile, array: str, path: str, key: str) -> _Header:
    """Type and shape of one array, from the npy header at its start."""
    member = f"{array}.npy"
    if member not in archive.namelist():
        found = ", ".join(name.removesuffix(".npy") for name in archive.namelist()) or "nothing"
        raise DataError(key, path, ALLOWED, f"{array} is missing (it holds {found})")
    with archive.open(member) as file:
        shape, dtype = _read_npy_header(file)
        header_bytes = file.tell()
    if dtype.hasobject:
        problem = f"{array} holds Python objects, which only unpickling could read"
        raise DataError(key, path, ALLOWED, problem)
    announced = header_bytes + dtype.itemsize * int(np.prod(shape, dtype=object))
    if announced != archive.getinfo(member).file_size:
        raise DataError(key, path, ALLOWED, f"{array} is cut short or damaged")
    return _Header(shape, dtype)


def _read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    # Later versions exist for types with long or non-Latin field names, which images don't have.
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"npy version {version}")
    return shape, dtype


def _check_headers(headers: dict[str, _Header], path: str, key: str) -> None:
    def refuse(array: str, problem: str) -> None:
        header = headers[array]
        what = f"{array} {problem}: it is {header.shape} {header.dtype}"
        raise DataError(key, path, ALLOWED, what)

    for split in ("train", "test"):
        x, y = headers[f"x_{split}"], headers[f"y_{split}"]
        if x.dtype != np.uint8:
            refuse(f"x_{split}", "isn't uint8")
        if len(x.shape) not in (3, 4) or 0 in x.shape:
            refuse(f"x_{split}", "isn't (n, height, width[, channels])")
        if min(x.shape[1:3]) < SMALLEST_SIDE:
            refuse(f"x_{split}", f"has images under {SMALLEST_SIDE}x{SMALLEST_SIDE}")
        if y.dtype.kind not in "iu":
            refuse(f"y_{split}", "isn't of integers")
        if y.shape != x.shape[:1]:
            refuse(f"y_{split}", f"isn't ({x.shape[0]},), one label an image")
    if headers["x_train"].shape[1:] != headers["x_test"].shape[1:]:
        refuse("x_test", f"has images unlike x_train's {headers['x_train'].shape[1:]}")


def _check_labels(y_train: npt.NDArray[Any], y_test: npt.NDArray[Any], path: str, key: str) -> int:
    """The number of classes. Every class from 0 up must occur among the training labels."""
    present = np.unique(y_train)
    classes = len(present)
    if classes < 2 or not np.array_equal(present, np.arange(classes)):
        shown = ", ".join(map(str, present[:5])) + (", …" if classes > 5 else "")
        problem = f"the labels in y_train must be 0 … classes - 1, each at least once, not {shown}"
        raise DataError(key, path, ALLOWED, problem)
    if y_test.min() < 0 or y_test.max() >= classes:
        problem = f"y_test has labels outside y_train's 0 … {classes - 1}"
        raise DataError(key, path, ALLOWED, problem)
    return classes
