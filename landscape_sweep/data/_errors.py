"""What is raised when a data set cannot be had as asked: one line that a user can act on."""

from __future__ import annotations


class DataError(ValueError):
    """A data key has a value that cannot be used. `str()` is one line.

    Attributes: `key`, the config key (`data.path`, `data.train_size` …); `value`, what it was;
    `allowed`, what it may be; `problem`, what is wrong with the value, where that isn't plain.
    """

    def __init__(self, key: str, value: object, allowed: str, problem: str = "") -> None:
        self.key, self.value, self.allowed, self.problem = key, value, allowed, problem
        shown = "null" if value is None else str(value)
        text = f"{key}={shown}: {problem + '; ' if problem else ''}allowed: {allowed}"
        super().__init__(" ".join(text.splitlines()))


class DataMissingError(DataError):
    """The data set is nowhere to be found and could not be downloaded: a fallback may step in."""
