"""Bounds on a network's options, in the words of the config keys."""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST_SIDE = 8


class ModelError(ValueError):
    """An option of a network is out of bounds. `str()` is one line.

    Attributes: `key`, the config key (`model.width` …; `shape` and `classes` come from the data);
    `value`, what it was; `allowed`, what it may be.
    """

    def __init__(self, key: str, value: object, allowed: str) -> None:
        self.key, self.value, self.allowed = key, value, allowed
        super().__init__(f"{key}={value}: allowed: {allowed}")


def one_of(key: str, value: str, allowed: Sequence[str]) -> None:
    """Raise `ModelError` unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ModelError(key, value, ", ".join(allowed))


def at_least(key: str, value: int, smallest: int) -> None:
    """Raise `ModelError` unless `value` is at least `smallest`."""
    if value < smallest:
        raise ModelError(key, value, f"{smallest} or more")


def image_shape(shape: tuple[int, int, int], classes: int) -> None:
    """Raise `ModelError` unless images have a channel, are 8x8 or more, and there are classes."""
    channels, height, width = shape
    if channels < 1 or min(height, width) < SMALLEST_SIDE:
        allowed = f"1 channel or more, {SMALLEST_SIDE}x{SMALLEST_SIDE} or more"
        raise ModelError("shape", tuple(shape), allowed)
    at_least("classes", classes, 2)
