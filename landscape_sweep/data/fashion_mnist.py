"""Fashion-MNIST (Xiao et al. 2017): torchvision's files, or Debian's package, or a download."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from landscape_sweep.data._download import fetch
from landscape_sweep.data._errors import DataError, DataMissingError
from landscape_sweep.data._idx import read_idx
from landscape_sweep.data._source import Arrays, Report, Source, Spec, as_images

SPEC = Spec(name="fashion_mnist", shape=(1, 28, 28), classes=10, train=60_000, test=10_000)
# Where Debian's package dataset-fashion-mnist puts its files.
DEBIAN = (Path("/usr/share/datasets/fashion-mnist"), Path("/usr/share/dataset-fashion-mnist"))
FILES = {
    "x_train": ("train-images-idx3-ubyte", (60_000, 28, 28)),
    "y_train": ("train-labels-idx1-ubyte", (60_000,)),
    "x_test": ("t10k-images-idx3-ubyte", (10_000, 28, 28)),
    "y_test": ("t10k-labels-idx1-ubyte", (10_000,)),
}


def source(root: str, path: str | None) -> Source:
    """Fashion-MNIST under `root` or where Debian has it; `path` is not used."""
    return Source(SPEC, lambda download, report: _read(root, download, report))


def _read(root: str, download: bool, report: Report) -> Arrays:
    own = Path(root) / "FashionMNIST" / "raw"
    failure = "download not asked for"
    folder = _first_complete(own, *DEBIAN)
    if folder is None and download:
        failure = _download(own, report)
        folder = _first_complete(own)
    if folder is None:
        looked = f"looked in {', '.join(map(str, (own, *DEBIAN)))}; {failure}"
        allowed = "a folder with torchvision's FashionMNIST/raw, or Debian's package "
        allowed += "dataset-fashion-mnist installed, or a network to download it"
        raise DataMissingError("data.root", root, allowed, looked)
    return _read_folder(folder, root)


def _find(folder: Path, stem: str) -> Path | None:
    candidates = (folder / stem, folder / f"{stem}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _first_complete(*folders: Path) -> Path | None:
    for folder in folders:
        if all(_find(folder, stem) for stem, _ in FILES.values()):
            return folder
    return None


def _download(folder: Path, report: Report) -> str:
    """Fetch the four files; return what went wrong, if anything."""
    from torchvision.datasets import FashionMNIST

    try:
        for filename, md5 in FashionMNIST.resources:
            url = FashionMNIST.mirrors[0] + filename
            fetch(url, str(folder), filename, md5, report)
    except (OSError, RuntimeError) as error:
        return f"download failed ({error})"
    return ""


def _read_folder(folder: Path, root: str) -> Arrays:
    arrays = {}
    for key, (stem, shape) in FILES.items():
        path = _find(folder, stem)
        assert path is not None, "the folder is complete"
        try:
            array = read_idx(path)
            if array.shape != shape:
                raise ValueError(f"{array.shape}, not {shape}")
        except (OSError, ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            problem = f"{path} can't be read ({error})"
            raise DataError("data.root", root, "Fashion-MNIST as published", problem) from None
        arrays[key] = array
    return Arrays(
        x_train=as_images(arrays["x_train"]),
        y_train=arrays["y_train"].astype(np.int64),
        x_test=as_images(arrays["x_test"]),
        y_test=arrays["y_test"].astype(np.int64),
    )
