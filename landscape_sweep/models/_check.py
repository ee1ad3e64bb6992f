"""Bounds on a network's options, in the words of the config keys."""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST_SIDE = 8


def one_of(key: str, value: str, allowed: Sequence[str]) -> None:
    """Raise `ValueError` unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{key}={value}: allowed: {', '.join(allowed)}")


def at_least(key: str, value: int, smallest: int) -> None:
    """Raise `ValueError` unless `value` is at least `smallest`."""
    if value < smallest:
        raise ValueError(f"{key}={value}: allowed: {smallest} or more")


def image_shape(shape: tuple[int, int, int], classes: int) -> None:
    """Raise `ValueError` unless images have a channel, are 8x8 or more, and there are classes."""
    channels, height, width = shape
    if channels < 1 or min(height, width) < SMALLEST_SIDE:
        allowed = f"1 channel or more, {SMALLEST_SIDE}x{SMALLEST_SIDE} or more"
        raise ValueError(f"shape={tuple(shape)}: allowed: {allowed}")
    at_least("classes", classes, 2)
