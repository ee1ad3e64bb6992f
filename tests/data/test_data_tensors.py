"""What is done to images and labels once read: order, noise, normalisation, augmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from landscape_sweep import data
from landscape_sweep.data import DataError
from landscape_sweep.data._noise import randomise_labels
from landscape_sweep.data._order import balanced_order


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load(name="digits")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------- order


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_any_first_m_are_balanced_and_the_order_follows_the_images_not_the_file(
    labels: list[int], random: np.random.RandomState
) -> None:
    y = np.array(labels, dtype=np.int64)
    x = np.random.default_rng(len(labels)).integers(256, size=(len(y), 4, 4, 1), dtype=np.uint8)
    order = balanced_order(x, y)
    assert sorted(order) == list(range(len(y)))
    total = np.bincount(y, minlength=5)
    for m in range(len(y) + 1):
        counts = np.bincount(y[order[:m]], minlength=5)
        unfinished = counts[counts < total]  # a class that has run out may lag behind
        assert unfinished.size == 0 or counts.max() - unfinished.min() <= 1

    shuffle = np.random.default_rng(1).permutation(len(y))
    again = balanced_order(x[shuffle], y[shuffle])
    np.testing.assert_array_equal(x[shuffle][again], x[order])
    np.testing.assert_array_equal(y[shuffle][again], y[order])


def test_probe_images_are_the_same_for_every_run_of_a_sweep(digits: data.Dataset) -> None:
    expected = digits.x_train[digits.probe_indices(200)]
    for keys in ({"seed": 3, "label_noise": 0.5}, {"train_size": 200}, {"train_size": 900}):
        other = data.load(name="digits", **keys)  # type: ignore[arg-type]
        assert torch.equal(other.x_train[other.probe_indices(200)], expected)
        assert torch.equal(other.y_train_clean[:200], digits.y_train[:200])
        assert torch.equal(other.mean, digits.mean)
        assert torch.equal(other.std, digits.std)


def test_probe_indices_are_balanced_nested_and_within_bounds(digits: data.Dataset) -> None:
    many = digits.probe_indices(1000)
    assert torch.equal(digits.probe_indices(300), many[:300])
    assert many.dtype == torch.int64
    assert digits.y_train[many].bincount().tolist() == [100] * 10
    for n in (0, 1438):
        with pytest.raises(DataError, match=rf"probe\.samples={n}: allowed: 1 to 1437"):
            digits.probe_indices(n)


def test_train_size_keeps_a_balanced_nested_subset(digits: data.Dataset) -> None:
    small, larger = (data.load(name="digits", train_size=n) for n in (100, 250))
    assert small.y_train.bincount().tolist() == [10] * 10
    assert torch.equal(larger.x_train[:100], small.x_train)
    assert torch.equal(small.x_test, digits.x_test)


def test_classes_keeps_the_images_of_the_first_ones(digits: data.Dataset) -> None:
    few = data.load(name="digits", classes=3, train_size=30, label_noise=1.0)
    kept = digits.y_train < 3
    assert few.classes == 3
    assert torch.equal(few.x_train, digits.x_train[kept][:30])
    assert torch.equal(few.y_train_clean, digits.y_train[kept][:30])
    assert few.y_train.unique().tolist() == [0, 1, 2]
    assert torch.equal(few.y_test, digits.y_test[digits.y_test < 3])
    assert torch.equal(few.normalise(few.x_train), digits.normalise(few.x_train))


# ---------------------------------------------------------------- label noise

LABELS = np.arange(30_000) % 10


def test_label_noise_draws_a_fraction_of_the_labels_uniformly() -> None:
    noisy = randomise_labels(LABELS, fraction=0.4, classes=10, seed=0)
    changed = noisy != LABELS
    # 12,000 drawn anew, of which 1 in 10 hits its own class: 10,800, deviation 33.
    assert abs(changed.sum() - 10_800) < 5 * 33
    counts = np.bincount(noisy[changed], minlength=10)
    assert np.abs(counts - 1080).max() < 5 * 32


def test_full_noise_tells_nothing_of_the_label() -> None:
    noisy = randomise_labels(LABELS, fraction=1.0, classes=10, seed=0)
    table = np.histogram2d(LABELS, noisy, bins=10)[0]
    chi_square = ((table - 300) ** 2 / 300).sum()
    assert chi_square < 81 + 5 * np.sqrt(2 * 81)  # 81 degrees of freedom


def test_label_noise_follows_its_seed_and_grows_by_addition() -> None:
    def noisy(fraction: float, seed: int) -> np.ndarray:
        return randomise_labels(LABELS, fraction=fraction, classes=10, seed=seed)

    np.testing.assert_array_equal(noisy(0.3, 1), noisy(0.3, 1))
    assert (noisy(0.3, 1) != noisy(0.3, 2)).any()
    np.testing.assert_array_equal(noisy(0.0, 1), LABELS)
    kept = noisy(0.2, 1) != LABELS
    np.testing.assert_array_equal(noisy(0.6, 1)[kept], noisy(0.2, 1)[kept])


def test_noise_touches_training_labels_alone(digits: data.Dataset) -> None:
    noisy = data.load(name="digits", label_noise=0.5)
    assert torch.equal(noisy.y_train_clean, digits.y_train)
    assert not torch.equal(noisy.y_train, digits.y_train)
    assert torch.equal(noisy.y_test, digits.y_test)


# ---------------------------------------------------------------- normalisation, augmentation


@pytest.mark.parametrize("keys", [{}, {"train_size": 1}])
def test_images_have_canonical_strides(keys: dict[str, int]) -> None:
    # With one channel those of channels_last count as contiguous too, and crash torch 2.14.
    loaded = data.load(name="digits", **keys)  # type: ignore[arg-type]
    for x in (loaded.x_train, loaded.x_test, loaded.normalise(loaded.x_train)):
        assert x.stride() == (64, 64, 8, 1)


def test_normalised_training_images_have_mean_0_and_deviation_1(digits: data.Dataset) -> None:
    x = digits.normalise(digits.x_train)
    assert x.dtype == torch.float32
    assert x.mean().item() == pytest.approx(0, abs=1e-5)
    assert x.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def images(n: int, height: int, width: int, channels: int = 3) -> Tensor:
    shape = (n, channels, height, width)
    return torch.randint(256, shape, generator=generator(7), dtype=torch.uint8)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (28, 28), (32, 32), (9, 40)])
def test_flip_crop_gives_reflected_crops_of_flipped_images(height: int, width: int) -> None:
    x = images(200, height, width)
    augmented = data.augment("flip_crop")(x, generator())
    assert augmented.shape == x.shape
    assert augmented.dtype == torch.uint8
    assert augmented.stride() == x.stride()
    down, across = round(height / 8), round(width / 8)
    padded = torch.nn.functional.pad(x.float(), (across, across, down, down), mode="reflect").byte()
    seen = set()
    for image, big in zip(augmented, padded, strict=True):
        places = {
            (flip, top, left)
            for flip, source in ((False, big), (True, big.flip(2)))
            for top in range(2 * down + 1)
            for left in range(2 * across + 1)
            if torch.equal(image, source[:, top : top + height, left : left + width])
        }
        assert len(places) == 1
        seen |= places
    flips = {flip for flip, _, _ in seen}
    assert flips == {False, True}
    assert {top for _, top, _ in seen} == set(range(2 * down + 1))
    assert {left for _, _, left in seen} == set(range(2 * across + 1))


def test_augmentation_follows_its_generator() -> None:
    x, flip_crop = images(50, 32, 32), data.augment("flip_crop")
    assert torch.equal(flip_crop(x, generator(1)), flip_crop(x, generator(1)))
    assert not torch.equal(flip_crop(x, generator(1)), flip_crop(x, generator(2)))
    assert torch.equal(data.augment("none")(x, generator()), x)


def test_an_unknown_augmentation_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.augment=mixup: allowed: none or flip_crop"):
        data.augment("mixup")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_everything_is_there_and_the_same(digits: data.Dataset) -> None:
    there = data.load(name="digits", device="cuda", label_noise=0.3)
    here = data.load(name="digits", label_noise=0.3)
    for field in ("x_train", "y_train", "y_train_clean", "x_test", "y_test", "mean", "std"):
        tensor = getattr(there, field)
        assert tensor.device.type == "cuda"
        assert torch.equal(tensor.cpu(), getattr(here, field))
    assert there.probe_indices(5).device.type == "cuda"
    flip_crop = data.augment("flip_crop")
    augmented = flip_crop(there.x_train, generator())
    assert torch.equal(augmented.cpu(), flip_crop(here.x_train, generator()))
    torch.testing.assert_close(there.normalise(augmented).cpu(), here.normalise(augmented.cpu()))


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist", "digits", "npz"])
def test_every_data_set_has_a_config_of_the_same_name_with_a_comment_on_every_key(
    name: str,
) -> None:
    text = (Path(__file__).parents[2] / "conf" / "data" / f"{name}.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines[0].split("#")[0].strip() == f"name: {name}"
    assert all(" # " in line for line in lines)
    assert name in data.names()
