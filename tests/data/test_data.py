"""Data sets: nested balanced subsets, label noise, bad files, nothing unpickled, the fallback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from landscape_sweep.data import DataError, describe, load


def test_subsets_are_nested_balanced_and_normalised_alike() -> None:
    full, part = load(name="digits"), load(name="digits", train_size=100, label_noise=0.5, seed=3)
    assert torch.equal(part.x_train, full.x_train[:100])
    assert torch.equal(part.y_train_clean, full.y_train[:100])
    assert torch.bincount(part.y_train_clean).tolist() == [10] * 10
    assert torch.equal(part.mean, full.mean)
    x = full.normalise(full.x_train)
    assert x.mean().abs() < 1e-5
    assert (x.std(correction=0) - 1).abs() < 1e-5


def test_label_noise() -> None:
    noisy = load(name="digits", label_noise=1.0, seed=1)
    right = (noisy.y_train == noisy.y_train_clean).double().mean()
    assert 0.06 < right < 0.14  # 1/10 by chance, +- 5 standard errors
    again = load(name="digits", label_noise=1.0, seed=1)
    assert torch.equal(noisy.y_train, again.y_train)


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"y_test": None}, "y_test is missing"),
        ({"x_train": np.zeros((20, 8, 8), np.float32)}, "isn't uint8"),
        ({"x_test": np.zeros((20, 9, 8), np.uint8)}, "unlike x_train"),
        ({"y_train": np.zeros(19, np.int64)}, "one label an image"),
        ({"x_train": np.array([_Bomb()], dtype=object)}, "Python objects"),
    ],
)
def test_a_bad_npz_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    images, labels = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels} | change
    path = tmp_path / "own.npz"
    np.savez(path, **{k: a for k, a in arrays.items() if a is not None})
    with pytest.raises(DataError, match=problem) as caught:
        describe(name="npz", path=str(path))
    assert caught.value.key == "data.path"
    assert "\n" not in str(caught.value)


def test_fallback_says_so_and_null_is_an_error(tmp_path: Path) -> None:
    said: list[str] = []
    data = load(name="cifar10", root=str(tmp_path), download=False, report=said.append)
    assert data.name == "digits (fallback for cifar10)"
    assert "WARNING: cifar10 was not found" in said[0]
    with pytest.raises(DataError, match=r"data\.root"):
        load(name="cifar10", root=str(tmp_path), download=False, fallback=None)


def test_too_many_images() -> None:
    with pytest.raises(DataError, match=r"data\.train_size=1438.*1 to 1437"):
        describe(name="digits", train_size=1438)
