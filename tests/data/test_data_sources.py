"""Every source of images: read rightly, refused rightly, and never unpickled."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10

from landscape_sweep import data
from landscape_sweep.data import DataError, Spec, _download, fashion_mnist
from landscape_sweep.data._errors import DataMissingError

PROJECT = Path(__file__).parents[2]


def cifar_root() -> str:
    """The folder with the real CIFAR-10; the test is skipped where there is none."""
    for root in (os.environ.get("LANDSCAPE_SWEEP_DATA"), PROJECT / ".." / "shared" / "data"):
        if root and Path(PROJECT, root, "cifar10.npz").exists():
            return str(Path(PROJECT, root))
    pytest.skip("needs cifar10.npz: set LANDSCAPE_SWEEP_DATA to its folder")


@pytest.fixture(scope="module")
def cifar10() -> data.Dataset:
    return data.load(name="cifar10", root=cifar_root(), download=False, fallback=None)


def arrays(**changed: Any) -> dict[str, Any]:
    """A small valid set of 3 classes, with some arrays replaced."""
    random = np.random.default_rng(0)
    valid = {
        "x_train": random.integers(256, size=(12, 8, 9, 3), dtype=np.uint8),
        "y_train": np.arange(12) % 3,
        "x_test": random.integers(256, size=(6, 8, 9, 3), dtype=np.uint8),
        "y_test": np.arange(6) % 3,
    }
    return {key: value for key, value in (valid | changed).items() if value is not None}


def refused(load: Callable[[], object], key: str, *words: str) -> DataError:
    """The `DataError` that `load` raises: one line that names its key and says `words`."""
    with pytest.raises(DataError) as caught:
        load()
    text = str(caught.value)
    assert caught.value.key == key
    assert text.startswith(f"{key}=")
    assert "\n" not in text
    for word in (*words, caught.value.allowed):
        assert word in text
    return caught.value


def off_line(*_: Any, **__: Any) -> None:
    raise OSError("Name or service not known")


# ---------------------------------------------------------------- CIFAR-10


def test_cifar10_has_its_published_statistics(cifar10: data.Dataset) -> None:
    assert cifar10.name == "cifar10"
    assert cifar10.x_train.shape == (50_000, 3, 32, 32)
    assert cifar10.x_test.shape == (10_000, 3, 32, 32)
    assert cifar10.x_train.dtype == torch.uint8
    assert cifar10.y_train.dtype == torch.int64
    assert cifar10.mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-5)
    assert cifar10.std.tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=5e-5)
    assert cifar10.y_train.bincount().tolist() == [5000] * 10
    assert cifar10.y_test.bincount().tolist() == [1000] * 10


def test_cifar10_images_keep_their_labels_and_orientation(cifar10: data.Dataset) -> None:
    with np.load(Path(cifar_root(), "cifar10.npz"), allow_pickle=False) as file:
        original = {x.tobytes(): y for x, y in zip(file["x_test"], file["y_test"], strict=True)}
    images = cifar10.x_test.permute(0, 2, 3, 1).contiguous().numpy()
    labels = [original[image.tobytes()] for image in images]
    assert labels == cifar10.y_test.tolist()


def test_cifar10_is_described_without_reading_images() -> None:
    start = time.perf_counter()
    spec = data.describe(name="cifar10", root=cifar_root())
    assert spec == Spec("cifar10", (3, 32, 32), 10, 50_000, 10_000)
    assert time.perf_counter() - start < 1  # reading the images takes longer


def test_a_cifar10_npz_that_is_something_else_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "cifar10.npz", **arrays())
    refused(lambda: data.describe(name="cifar10", root=str(tmp_path)), "data.root", "data=npz")


def python_2_batch(images: np.ndarray, labels: list[int]) -> bytes:
    """A batch as published: the same opcodes, which no Python 3 pickler writes."""
    raw = images.transpose(0, 3, 1, 2).tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\t"
        b"(K\x01M" + struct.pack("<H", len(images)) + b"M\x00\x0c\x86"
        b"cnumpy\ndtype\nq\nU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", len(raw))
        + raw
        + b"tb"
    )
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    return b"\x80\x02}q\x01(U\x06labelsq\x04]q\x05(" + numbers + b"eU\x04dataq\x06" + array + b"u."


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """torchvision's layout with 20 images a batch, whose md5 sums are taken for the real ones."""
    random = np.random.default_rng(1)
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    files = {}
    for listing in ("train_list", "test_list"):
        sums = []
        for name, _ in getattr(CIFAR10, listing):
            images = random.integers(256, size=(20, 32, 32, 3), dtype=np.uint8)
            files[name] = folder / name
            files[name].write_bytes(python_2_batch(images, [*range(10)] * 2))
            sums.append([name, hashlib.md5(files[name].read_bytes()).hexdigest()])
        monkeypatch.setattr(CIFAR10, listing, sums)
    return files


def test_torchvisions_layout_is_read_as_torchvision_reads_it(
    tmp_path: Path, batches: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    theirs = CIFAR10(tmp_path, train=True)
    known = {x.tobytes(): y for x, y in zip(theirs.data, theirs.targets, strict=True)}
    ours = data.load(name="cifar10", root=str(tmp_path), download=False, fallback=None)
    images = ours.x_train.permute(0, 2, 3, 1).contiguous().numpy()
    assert [known[image.tobytes()] for image in images] == ours.y_train.tolist()
    assert len(known) == len(images) == 100
    assert ours.x_test.shape == (20, 3, 32, 32)


def test_a_batch_with_the_wrong_md5_is_not_read(tmp_path: Path, batches: dict[str, Path]) -> None:
    batches["data_batch_3"].write_bytes(batches["data_batch_2"].read_bytes())
    load = lambda: data.load(name="cifar10", root=str(tmp_path), download=False, fallback=None)  # noqa: E731
    refused(load, "data.root", CIFAR10.base_folder)


class Bomb:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, crater: Path) -> None:
        self.crater = str(crater)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.crater,)


def test_a_forged_batch_runs_nothing(
    tmp_path: Path, batches: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    crater = tmp_path / "crater"
    bomb = pickle.dumps({"data": Bomb(crater), "labels": []}, protocol=2)
    batches["test_batch"].write_bytes(bomb)
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", hashlib.md5(bomb).hexdigest()]])
    load = lambda: data.load(name="cifar10", root=str(tmp_path), download=False)  # noqa: E731
    refused(load, "data.root", "mkdir is not a NumPy array")
    assert not crater.exists()


# ---------------------------------------------------------------- when it can't be had


def test_the_fallback_cannot_be_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", off_line)
    said: list[str] = []
    loaded = data.load(name="cifar10", root=str(tmp_path), train_size=5000, report=said.append)
    assert loaded.name == "digits (fallback for cifar10)"
    assert loaded.shape == (1, 8, 8)
    assert len(loaded.x_train) == 1437
    banner = said[-1]
    assert len(banner.splitlines()) >= 6
    for words in (
        "WARNING",
        "digits",
        "cifar10.npz",
        "Name or service not known",
        "train_size=5000",
    ):
        assert words in banner
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist"])
def test_without_a_fallback_it_is_an_error_that_says_where_it_looked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", off_line)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", ())
    load = lambda: data.load(name=name, root=str(tmp_path), fallback=None, report=print)  # noqa: E731
    error = refused(load, "data.root", str(tmp_path), "looked", "Name or service not known")
    assert isinstance(error, DataMissingError)


def test_a_network_that_never_answers_is_given_up_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()

    def hang(*_: Any, **__: Any) -> None:
        never.wait(60)
        off_line()

    monkeypatch.setattr(urllib.request, "urlopen", hang)
    monkeypatch.setattr(_download, "SECONDS", 0.2)
    start = time.perf_counter()
    load = lambda: data.load(name="cifar10", root=str(tmp_path), fallback=None)  # noqa: E731
    refused(load, "data.root", "no answer within 0.2 s")
    assert time.perf_counter() - start < 10
    never.set()


def test_a_damaged_archive_on_disk_does_not_stop_the_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", off_line)
    (tmp_path / CIFAR10.filename).write_bytes(b"not an archive")
    loaded = data.load(name="cifar10", root=str(tmp_path), report=lambda text: None)
    assert loaded.name.startswith("digits")


@pytest.mark.parametrize(
    ("keys", "key", "words"),
    [
        ({"name": "cifar11"}, "data.name", "cifar10, digits, fashion_mnist, npz"),
        ({"name": "_load"}, "data.name", "digits"),
        ({"train_size": 1438}, "data.train_size", "1 to 1437"),
        ({"train_size": 0}, "data.train_size", "1 to 1437"),
        ({"classes": 1}, "data.classes", "2 to 10"),
        ({"classes": 11}, "data.classes", "2 to 10"),
        ({"classes": 2, "train_size": 300}, "data.train_size", "digits, 2 classes"),
        ({"label_noise": 1.5}, "data.label_noise", "0 to 1"),
        ({"label_noise": float("nan")}, "data.label_noise", "0 to 1"),
        ({"fallback": "npz"}, "data.fallback", "digits or null"),
        ({"seed": -1}, "data.seed", "0 to 4294967295"),
        ({"name": "npz"}, "data.path", "data=npz needs a file"),
    ],
)
def test_a_bad_value_is_refused(keys: dict[str, Any], key: str, words: str) -> None:
    refused(lambda: data.load(**({"name": "digits"} | keys)), key, words)


def test_train_size_is_known_to_be_too_large_before_anything_is_read(tmp_path: Path) -> None:
    describe = lambda: data.describe(name="cifar10", root=str(tmp_path), train_size=50_001)  # noqa: E731
    error = refused(describe, "data.train_size", "50001", "1 to 50000")
    assert error.value == 50_001


# ---------------------------------------------------------------- Fashion-MNIST


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(struct.pack(">I", size) for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def small_fashion(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Two images a class in place of thousands, and no Debian package."""
    random = np.random.default_rng(2)
    small: dict[str, np.ndarray] = {
        "train-images-idx3-ubyte": random.integers(256, size=(20, 28, 28)),
        "train-labels-idx1-ubyte": np.arange(20) % 10,
        "t10k-images-idx3-ubyte": random.integers(256, size=(10, 28, 28)),
        "t10k-labels-idx1-ubyte": np.arange(10),
    }
    files = {key: (stem, small[stem].shape) for key, (stem, _) in fashion_mnist.FILES.items()}
    monkeypatch.setattr(fashion_mnist, "FILES", files)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", ())
    return small


@pytest.mark.parametrize("place", ["torchvision", "debian"])
def test_fashion_mnist_is_read_from_idx_files(
    place: str,
    tmp_path: Path,
    small_fashion: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / ("FashionMNIST/raw" if place == "torchvision" else "package")
    folder.mkdir(parents=True)
    for stem, array in small_fashion.items():
        if place == "torchvision":
            (folder / stem).write_bytes(idx(array))
        else:
            (folder / f"{stem}.gz").write_bytes(gzip.compress(idx(array)))
            monkeypatch.setattr(fashion_mnist, "DEBIAN", (folder,))
    loaded = data.load(name="fashion_mnist", root=str(tmp_path), download=False, fallback=None)
    images = small_fashion["train-images-idx3-ubyte"].astype(np.uint8)
    known = {image.tobytes(): k % 10 for k, image in enumerate(images)}
    assert [known[x.numpy().tobytes()] for x in loaded.x_train] == loaded.y_train.tolist()
    assert loaded.shape == (1, 28, 28)


@pytest.mark.parametrize("damage", ["cut", "type", "shape", "gzip"])
def test_damaged_idx_files_are_refused(
    damage: str, tmp_path: Path, small_fashion: dict[str, np.ndarray]
) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for stem, array in small_fashion.items():
        (folder / stem).write_bytes(idx(array))
    victim = folder / "t10k-images-idx3-ubyte"
    content = victim.read_bytes()
    if damage == "gzip":
        victim.unlink()
        victim.with_name(victim.name + ".gz").write_bytes(gzip.compress(content)[:-500])
    else:
        damaged = {
            "cut": content[:-1],
            "type": b"\0\0\x0d" + content[3:],
            "shape": idx(small_fashion["t10k-images-idx3-ubyte"][:, :27]),
        }
        victim.write_bytes(damaged[damage])
    load = lambda: data.load(name="fashion_mnist", root=str(tmp_path), download=False)  # noqa: E731
    refused(load, "data.root", "t10k-images-idx3-ubyte")


# ---------------------------------------------------------------- digits


def test_digits_are_scikit_learns_in_a_fixed_stratified_split() -> None:
    first, second = data.load(name="digits"), data.load(name="digits", seed=5)
    assert torch.equal(first.x_train, second.x_train)
    assert (len(first.x_train), len(first.x_test)) == (1437, 360)
    bunch = load_digits()
    theirs = sorted(
        (15 * x).astype(np.uint8).tobytes() + bytes([y])
        for x, y in zip(bunch.images, bunch.target, strict=True)
    )
    pairs = [(first.x_train, first.y_train), (first.x_test, first.y_test)]
    ours = sorted(
        x.numpy().tobytes() + bytes([int(y)])
        for xs, ys in pairs
        for x, y in zip(xs, ys, strict=True)
    )
    assert ours == theirs
    expected = np.bincount(bunch.target) / len(bunch.target)
    for labels in (first.y_train, first.y_test):
        np.testing.assert_allclose(
            labels.bincount() / len(labels), expected, atol=1.5 / len(labels)
        )


# ---------------------------------------------------------------- a user's own file


def save(path: Path, **changed: Any) -> str:
    np.savez(path / "own.npz", **arrays(**changed))
    return str(path / "own.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_users_own_file_is_read(compressed: bool, tmp_path: Path) -> None:
    own = arrays()
    path = tmp_path / "own.npz"
    (np.savez_compressed if compressed else np.savez)(path, **own)
    assert data.describe(name="npz", path=str(path)) == Spec("npz", (3, 8, 9), 3, 12, 6)
    loaded = data.load(name="npz", path=str(path))
    digest = hashlib.sha256()
    for key in ("x_train", "y_train", "x_test", "y_test"):
        values = own[key] if key.startswith("x") else own[key].astype(np.int64)
        digest.update(f"{values.shape}".encode() + values.tobytes())
    assert loaded.name == f"npz {digest.hexdigest()[:8]}"  # of the content, not the file's place
    known = {
        x.transpose(2, 0, 1).tobytes(): y
        for x, y in zip(own["x_train"], own["y_train"], strict=True)
    }
    assert [known[x.numpy().tobytes()] for x in loaded.x_train] == loaded.y_train.tolist()
    pixels = own["x_train"].astype(float) / 255
    np.testing.assert_allclose(loaded.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(loaded.std, pixels.std(axis=(0, 1, 2)), rtol=1e-6)


def test_grey_images_need_no_channel_axis_and_a_constant_channel_is_no_nan(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        x_train=np.full((12, 8, 8), 7, dtype=np.uint8),
        x_test=np.full((6, 8, 8), 9, dtype=np.uint8),
        y_train=(np.arange(12) % 3).astype(np.uint8),
    )
    loaded = data.load(name="npz", path=path)
    assert loaded.shape == (1, 8, 8)
    assert loaded.y_train.dtype == torch.int64
    torch.testing.assert_close(loaded.normalise(loaded.x_train), torch.zeros(12, 1, 8, 8))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"x_test": None}, ["x_test is missing", "x_train, y_train, y_test"]),
        ({"x_train": np.zeros((12, 8, 9, 3))}, ["x_train isn't uint8", "float64"]),
        ({"x_train": np.zeros((12, 72), np.uint8)}, ["x_train isn't (n, height, width"]),
        ({"x_train": np.zeros((0, 8, 9, 3), np.uint8)}, ["x_train isn't (n, height, width"]),
        ({"x_train": np.zeros((12, 7, 9, 3), np.uint8)}, ["under 8x8"]),
        ({"x_test": np.zeros((6, 9, 8, 3), np.uint8)}, ["unlike x_train's (8, 9, 3)"]),
        ({"y_train": np.zeros(11, np.int64)}, ["y_train isn't (12,)"]),
        ({"y_train": np.zeros((12, 3), np.int64)}, ["y_train isn't (12,)"]),
        ({"y_test": np.arange(6) / 2}, ["y_test isn't of integers"]),
        ({"y_train": np.arange(12) % 3 + 1}, ["0 … classes - 1", "1, 2, 3"]),
        ({"y_train": np.arange(12) % 3 - 1}, ["0 … classes - 1", "-1, 0, 1"]),
        ({"y_train": np.zeros(12, np.int64)}, ["0 … classes - 1"]),
        ({"y_test": np.arange(6)}, ["y_test has labels outside"]),
    ],
)
def test_an_own_file_with_wrong_arrays_is_refused(
    changed: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    path = save(tmp_path, **changed)
    refused(lambda: data.describe(name="npz", path=path), "data.path", "own.npz", *words)


@pytest.mark.parametrize("array", ["x_train", "y_train", "x_test", "y_test"])
def test_object_arrays_are_refused_without_unpickling(array: str, tmp_path: Path) -> None:
    crater = tmp_path / "crater"
    path = save(tmp_path, **{array: np.array([Bomb(crater)] * 12, dtype=object)})
    words = f"{array} holds Python objects"
    refused(lambda: data.describe(name="npz", path=path), "data.path", words)
    refused(lambda: data.load(name="npz", path=path), "data.path", words)
    assert not crater.exists()


def test_a_bare_pickle_is_refused_without_unpickling(tmp_path: Path) -> None:
    crater, path = tmp_path / "crater", tmp_path / "own.npz"
    path.write_bytes(pickle.dumps(Bomb(crater)))
    refused(lambda: data.describe(name="npz", path=str(path)), "data.path", "not a zip file")
    with zipfile.ZipFile(path, "w") as archive:
        for key in arrays():
            archive.writestr(f"{key}.npy", pickle.dumps(Bomb(crater)))
    refused(lambda: data.describe(name="npz", path=str(path)), "data.path", "can't be read")
    assert not crater.exists()


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", arrays()["x_train"])
    for path in (tmp_path / "absent.npz", tmp_path, tmp_path / "one.npy"):
        refused(lambda path=path: data.describe(name="npz", path=str(path)), "data.path", str(path))


def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **arrays())
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["x_train.npy"] = members["x_train.npy"].replace(b"(12, 8", b"(99, 8")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refused(lambda: data.describe(name="npz", path=str(path)), "data.path", "cut short")


def test_damaged_pixels_are_refused(tmp_path: Path) -> None:
    path = Path(save(tmp_path))
    content = bytearray(path.read_bytes())
    at = content.find(arrays()["x_train"].tobytes())
    content[at + 50] ^= 255
    path.write_bytes(content)
    refused(lambda: data.load(name="npz", path=str(path)), "data.path", "CRC")
