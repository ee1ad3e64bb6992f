"""What a search varies: Hydra's sweep syntax as Optuna's distributions, and proposals back as
overrides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from landscape_sweep.config import ConfigError

Space = dict[str, BaseDistribution]


def split(overrides: Sequence[Override]) -> tuple[Space, list[str]]:
    """The distribution of every searched key, and the overrides that are fixed.

    A later line for a key replaces an earlier one.

    Raises:
        ConfigError: a range that can't be searched.
    """
    last: dict[str, Override] = {}
    for override in overrides:
        last.pop(override.get_key_element(), None)
        last[override.get_key_element()] = override
    searched = {key: distribution(o) for key, o in last.items() if o.is_sweep_override()}
    return searched, [str(o.input_line) for o in last.values() if not o.is_sweep_override()]


def distribution(override: Override) -> BaseDistribution:
    """Optuna's distribution of one override.

    A choice is an unordered set; a range is its numbers, in order; an interval is continuous, or
    whole numbers under ``int(…)``, and even in the logarithm under ``tag(log, …)``.

    Raises:
        ConfigError: an empty or reversed range, a logarithm of what is not positive.
    """
    value: Any = override.value()
    logarithmic = "log" in getattr(value, "tags", ())
    try:
        if override.is_interval_sweep():
            whole = isinstance(value.start, int)
            kind = IntDistribution if whole else FloatDistribution
            return kind(value.start, value.end, log=logarithmic)
        if logarithmic:
            raise ValueError("takes the tag log on an interval only")
        if override.is_range_sweep():
            return _of_range(sorted(value.range()))
        if getattr(value, "shuffle", False):
            value.shuffle = False  # the sampler chooses the order
        return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
    except ValueError as error:
        raise ConfigError(
            override.get_key_element(), override.get_value_string(), str(error)
        ) from error


def _of_range(numbers: Sequence[int | float]) -> BaseDistribution:
    if not numbers:
        raise ValueError("is an empty range")
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    kind = IntDistribution if isinstance(numbers[0], int) else FloatDistribution
    return kind(numbers[0], numbers[-1], step=step)  # type: ignore[arg-type]


def as_overrides(params: Mapping[str, object], space: Space) -> list[str]:
    """A proposal as overrides of a job."""
    return [f"{key}={_text(params[key], space[key])}" for key in space]


def _text(value: object, of: BaseDistribution) -> str:
    if isinstance(of, FloatDistribution) and of.step is not None:
        return f"{value:.12g}"  # 3 · 0.1 is 0.3, as it is in the range
    return str(value)


def corners(space: Space) -> Iterator[list[str]]:
    """Every choice and both ends of every range, one key at a time, the others at their first."""
    first = {key: _ends(of)[0] for key, of in space.items()}
    for key, of in space.items():
        for value in _ends(of):
            yield as_overrides({**first, key: value}, space)


def _ends(of: BaseDistribution) -> Sequence[object]:
    if isinstance(of, CategoricalDistribution):
        return of.choices
    assert isinstance(of, IntDistribution | FloatDistribution)
    return of.low, of.high
