"""From a data set's name to its `Dataset`: find it, read it, order it, add noise, move it."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import landscape_sweep.data
from landscape_sweep.data._dataset import Dataset
from landscape_sweep.data._errors import DataError, DataMissingError
from landscape_sweep.data._noise import randomise_labels
from landscape_sweep.data._order import balanced_order
from landscape_sweep.data._source import Arrays, Report, Source, Spec


def names() -> tuple[str, ...]:
    """The data sets there are: the modules of this package without a leading underscore."""
    modules = pkgutil.iter_modules(landscape_sweep.data.__path__)
    return tuple(sorted(module.name for module in modules if not module.name.startswith("_")))


def describe(
    *,
    name: str = "cifar10",
    root: str = "data",
    path: str | None = None,
    train_size: int | None = None,
) -> Spec:
    """What the data set called `name` is, without reading an image.

    Of a file of the user's own only the arrays' headers and the labels are read. Raises `DataError`
    for an unknown name, a file that isn't what it should be, or a `train_size` out of bounds.
    """
    spec = _source(name, root, path).spec
    if train_size is not None and not 1 <= train_size <= spec.train:
        allowed = f"null (all) or 1 to {spec.train} (training images of {name})"
        raise DataError("data.train_size", train_size, allowed)
    return spec


def load(
    *,
    name: str = "cifar10",
    root: str = "data",
    path: str | None = None,
    fallback: str | None = "digits",
    train_size: int | None = None,
    label_noise: float = 0.0,
    seed: int = 0,
    download: bool = True,
    device: str | torch.device = "cpu",
    report: Report = print,
) -> Dataset:
    """The data set called `name`, whole, on `device`.

    `root` is the folder it is looked for in and downloaded to; `path` the user's own file (`npz`).
    `train_size` keeps that many training images, class-balanced and nested. `label_noise` is the
    fraction of those whose labels are drawn anew, by `seed`. If the set is nowhere to be found and
    `fallback` names another, that one is loaded, `report` gets a banner and `Dataset.name` says so.

    Raises `DataError`, naming the key, for a value that can't be used or a set that can't be had.
    """
    if not 0 <= label_noise <= 1:
        raise DataError("data.label_noise", label_noise, "0 to 1 (a fraction)")
    if not 0 <= seed < 2**32:
        raise DataError("data.seed", seed, "0 to 4294967295")
    if fallback not in (None, "digits"):
        raise DataError("data.fallback", fallback, "digits or null")
    describe(name=name, root=root, path=path, train_size=train_size)

    title = name
    try:
        arrays, classes = _read(name, root, path, download, report)
    except DataMissingError as error:
        if fallback is None or fallback == name:
            raise
        arrays, classes = _read(fallback, root, None, download, report)
        title = f"{fallback} (fallback for {name})"
        report(_banner(name, fallback, error, train_size, len(arrays.y_train)))

    train, test = (
        balanced_order(arrays.x_train, arrays.y_train),
        balanced_order(arrays.x_test, arrays.y_test),
    )
    mean, std = _channel_statistics(arrays.x_train)
    kept = train[:train_size]
    clean = arrays.y_train[kept]
    noisy = randomise_labels(clean, fraction=label_noise, classes=classes, seed=seed)
    return Dataset(
        name=title,
        x_train=_channels_first(arrays.x_train[kept]).to(device),
        y_train=torch.from_numpy(noisy).to(device),
        y_train_clean=torch.from_numpy(clean).to(device),
        x_test=_channels_first(arrays.x_test[test]).to(device),
        y_test=torch.from_numpy(arrays.y_test[test]).to(device),
        mean=mean.to(device),
        std=std.to(device),
        classes=classes,
    )


def _source(name: str, root: str, path: str | None) -> Source:
    if name not in names():
        raise DataError("data.name", name, ", ".join(names()))
    module = importlib.import_module(f"landscape_sweep.data.{name}")
    source: Source = module.source(root=root, path=path)
    return source


def _read(
    name: str, root: str, path: str | None, download: bool, report: Report
) -> tuple[Arrays, int]:
    source = _source(name, root, path)
    return source.read(download, report), source.spec.classes


def _channels_first(images: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _channel_statistics(images: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Mean and deviation (c,) of pixels in [0, 1], from exact counts of the 256 values.

    A channel that never varies gets deviation 1, so that normalising it gives zeros, not NaN.
    """
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[3]):
        counts = np.bincount(images[..., channel].ravel(), minlength=256)
        mean = np.average(values, weights=counts)
        deviation = np.sqrt(np.average((values - mean) ** 2, weights=counts))
        means.append(mean)
        deviations.append(deviation if np.count_nonzero(counts) > 1 else 1.0)
    return torch.tensor(means, dtype=torch.float32), torch.tensor(deviations, dtype=torch.float32)


def _banner(
    name: str, fallback: str, error: DataMissingError, train_size: int | None, available: int
) -> str:
    lines = [
        f"WARNING: {name} was not found. This run uses {fallback} instead.",
        f"Its results say nothing about {name}, and its data name says so.",
        error.problem,
        f"To get it: {error.allowed}.",
        "To make this an error instead: data.fallback=null.",
    ]
    if train_size is not None and train_size > available:
        lines.append(f"data.train_size={train_size} is lowered to {available}, all that it has.")
    rule = "!" * 79
    return "\n".join(["", rule, *(f"!! {line}" for line in lines), rule, ""])
