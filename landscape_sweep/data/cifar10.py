"""CIFAR-10 (Krizhevsky 2009): an npz under the root, or torchvision's files, or a download."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from landscape_sweep.data._download import fetch
from landscape_sweep.data._errors import DataError, DataMissingError
from landscape_sweep.data._npz_file import describe_npz, read_npz
from landscape_sweep.data._source import Arrays, Report, Source, Spec

SPEC = Spec(name="cifar10", shape=(3, 32, 32), classes=10, train=50_000, test=10_000)
ALLOWED = (
    "a folder with cifar10.npz (x_train, y_train, x_test, y_test) or torchvision's "
    "cifar-10-batches-py, or a network to download it by"
)


def source(root: str, path: str | None) -> Source:
    """CIFAR-10 under `root`; `path` is not used. A `cifar10.npz` that isn't CIFAR-10 is refused."""
    npz = Path(root) / "cifar10.npz"
    if not npz.exists():
        return Source(SPEC, lambda download, report: _read_batches(root, download, report))
    found = describe_npz(str(npz), name="cifar10", key="data.root")
    if found != SPEC:
        allowed = f"CIFAR-10 in full, {SPEC}; other data goes by data=npz data.path=FILE"
        raise DataError("data.root", root, allowed, f"{npz} is {found}")
    return Source(SPEC, lambda download, report: read_npz(str(npz), key="data.root"))


def _read_batches(root: str, download: bool, report: Report) -> Arrays:
    """torchvision's own layout, `cifar-10-batches-py`; downloaded if it isn't there."""
    # Imported late: torchvision takes a second or two.
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    folder = Path(root) / CIFAR10.base_folder
    batches = CIFAR10.train_list + CIFAR10.test_list

    def complete() -> bool:
        return all(check_integrity(str(folder / name), md5) for name, md5 in batches)

    failure = "" if download else "download not asked for"
    if not complete() and download:
        try:
            fetch(CIFAR10.url, root, CIFAR10.filename, CIFAR10.tgz_md5, report)
        except (OSError, RuntimeError) as error:
            failure = f"download failed ({error})"
    if not complete():
        npz = Path(root) / "cifar10.npz"
        looked = f"looked for {npz} and {folder}; {failure or 'md5 differs'}"
        raise DataMissingError("data.root", root, ALLOWED, looked)
    train = [_read_batch(folder / name) for name, _ in CIFAR10.train_list]
    test = [_read_batch(folder / name) for name, _ in CIFAR10.test_list]
    return Arrays(
        x_train=np.concatenate([images for images, _ in train]),
        y_train=np.concatenate([labels for _, labels in train]),
        x_test=np.concatenate([images for images, _ in test]),
        y_test=np.concatenate([labels for _, labels in test]),
    )


# All that a NumPy array's pickle names, and what it stands for.
_CONSTRUCTORS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    """Builds dicts, lists, numbers, strings and NumPy arrays; refuses to look up anything else.

    The published batches are pickles, and a pickle may call any function that it names. The md5
    sums already say that these are the published bytes; this makes sure that even a forged file
    (md5 can be forged) calls nothing but NumPy's constructors. torchvision's own loader would.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _CONSTRUCTORS:
            raise pickle.UnpicklingError(f"{module}.{name} is not a NumPy array")
        return _CONSTRUCTORS[module, name]


def _read_batch(path: Path) -> tuple[Any, Any]:
    """Images (n, 32, 32, 3) uint8 and labels (n,) int64 of one batch."""
    try:
        batch = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        problem = f"{path} can't be read ({error})"
        raise DataError("data.root", path.parent.parent, ALLOWED, problem) from None
    images = np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
    return images.transpose(0, 2, 3, 1), np.asarray(batch["labels"], dtype=np.int64)
