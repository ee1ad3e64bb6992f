"""The contract between the data sets and the loader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Report = Callable[[str], object]
"""Takes a line (or a few) of progress or warning, as `print` does."""


@dataclass(frozen=True)
class Spec:
    """What a data set is, known without reading its images.

    `shape` is (channels, height, width) of one image; `classes` the number of classes; `train` and
    `test` the numbers of images.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int


@dataclass(frozen=True)
class Arrays:
    """A data set as read: images (n, height, width, channels) uint8, labels (n,) int64."""

    x_train: npt.NDArray[np.uint8]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.uint8]
    y_test: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """A data set that has been described but not read.

    `read(download, report)` returns its `Arrays`. It raises `DataMissingError` if they are nowhere
    to be found, and `DataError` if what was found is damaged.
    """

    spec: Spec
    read: Callable[[bool, Report], Arrays]


def as_images(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """(n, h, w) or (n, h, w, c) uint8 to (n, h, w, c)."""
    return array[..., None] if array.ndim == 3 else array
