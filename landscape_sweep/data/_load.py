"""From a data set's name to its `Dataset`: find it, read it, order it, add noise, move it."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from dataclasses import replace

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
    classes: int | None = None,
    train_size: int | None = None,
) -> Spec:
    """What the data set called `name` is, without reading an image.

    Of a file of the user's own only the arrays' headers and the labels are read. Numbers of images
    are those of all classes. Raises `DataError` for an unknown name, a file that isn't what it
    should be, or `classes` or `train_size` out of bounds.
    """
    spec = _source(name, root, path).spec
    _check_classes(classes, spec)
    _check_train_size(train_size, spec.train, spec.name)
    return spec if classes is None else replace(spec, classes=classes)


def load(
    *,
    name: str = "cifar10",
    root: str = "data",
    path: str | None = None,
    fallback: str | None = "digits",
    classes: int | None = None,
    train_size: int | None = None,
    label_noise: float = 0.0,
    seed: int = 0,
    download: bool = True,
    device: str | torch.device = "cpu",
    report: Report = print,
) -> Dataset:
    """The data set called `name`, whole, on `device`.

    `root` is the folder it is looked for in and downloaded to; `path` the user's own file (`npz`).
    `classes` keeps the images of the first so many classes; `train_size` that many training images,
    class-balanced and nested. `label_noise` is the fraction of those whose labels are drawn anew,
    by `seed`. If the set is nowhere to be found and
    `fallback` names another, that one is loaded, `report` gets a banner and `Dataset.name` says so.

    Raises `DataError`, naming the key, for a value that can't be used or a set that can't be had.
    """
    if not 0 <= label_noise <= 1:
        raise DataError("data.label_noise", label_noise, "0 to 1 (a fraction)")
    if not 0 <= seed < 2**32:
        raise DataError("data.seed", seed, "0 to 4294967295")
    if fallback not in (None, "digits"):
        raise DataError("data.fallback", fallback, "digits or null")
    source = _source(name, root, path)
    _check_classes(classes, source.spec)
    _check_train_size(train_size, source.spec.train, source.spec.name)

    title = name
    try:
        arrays = source.read(download, report)
    except DataMissingError as error:
        if fallback is None:
            raise
        source = _source(fallback, root, None)
        arrays = source.read(download, report)
        title = f"{fallback} (fallback for {name})"
        report(_banner(name, fallback, error, train_size, source.spec.train))

    mean, std = _channel_statistics(arrays.x_train)
    if classes is None:
        classes = source.spec.classes
    else:
        _check_classes(classes, source.spec)
        arrays = _first_classes(arrays, classes)
        if title == name:
            _check_train_size(train_size, len(arrays.y_train), f"{name}, {classes} classes")
    train = balanced_order(arrays.x_train, arrays.y_train)
    test = balanced_order(arrays.x_test, arrays.y_test)
    kept = train[:train_size]
    clean = arrays.y_train[kept]
    noisy = randomise_labels(clean, fraction=label_noise, classes=classes, seed=seed)
    if title == name and path is not None:
        title = f"{name} {_fingerprint(arrays)}"  # the same name for the same images, wherever
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


def _check_train_size(train_size: int | None, images: int, title: str) -> None:
    if train_size is not None and not 1 <= train_size <= images:
        allowed = f"null (all) or 1 to {images} (training images of {title})"
        raise DataError("data.train_size", train_size, allowed)


def _check_classes(classes: int | None, spec: Spec) -> None:
    if classes is not None and not 2 <= classes <= spec.classes:
        allowed = f"null (all) or 2 to {spec.classes} (classes of {spec.name})"
        raise DataError("data.classes", classes, allowed)


def _first_classes(arrays: Arrays, classes: int) -> Arrays:
    """The images whose label is below ``classes``."""
    train, test = arrays.y_train < classes, arrays.y_test < classes
    return Arrays(
        arrays.x_train[train], arrays.y_train[train], arrays.x_test[test], arrays.y_test[test]
    )


def _fingerprint(arrays: Arrays) -> str:
    """Eight hexadecimal digits of all images and labels."""
    found = hashlib.sha256()
    for array in (arrays.x_train, arrays.y_train, arrays.x_test, arrays.y_test):
        found.update(str(array.shape).encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()[:8]


def _channels_first(images: npt.NDArray[np.uint8]) -> Tensor:
    """(n, h, w, c) to (n, c, h, w), in fresh memory with canonical strides.

    With one channel the transposed array counts as contiguous already, but its strides are those
    of channels_last; torch 2.14 then writes out of bounds on the CPU in narrow networks.
    """
    n, height, width, channels = images.shape
    canonical = np.empty((n, channels, height, width), dtype=np.uint8)
    canonical[...] = images.transpose(0, 3, 1, 2)
    return torch.from_numpy(canonical)


def _channel_statistics(images: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Mean and deviation (c,) of pixels in [0, 1], from exact counts of the 256 values.

    A channel that never varies gets deviation 1, so that normalising it gives zeros, not NaN.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in torch.from_numpy(images).unbind(3):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * values).sum()
        deviation = (share * (values - mean) ** 2).sum().sqrt()
        means.append(mean)
        deviations.append(deviation if share.max() < 1 else torch.ones(()))
    return torch.stack(means).float(), torch.stack(deviations).float()


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
