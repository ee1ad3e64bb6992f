"""What a run is called, what tells it from others, and the command that repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from landscape_sweep import config as schema
from landscape_sweep.config import Config


def name(config: Config) -> str:
    """What a run is called."""
    return f"{label(config)} seed{config.seed}"


def label(config: Config) -> str:
    """What tells configurations of a sweep apart; seeds and keys that are not set are left out."""
    values = schema.flat(config)
    words = [f"{config.model.name} bs{config.batch_size} lr{config.optimizer.lr:g}"]
    for key in (config.sweep.varied or "").split():
        if key not in ("batch_size", "optimizer.lr", "seed", "model", "model.name"):
            value = values.get(key, values.get(f"{key}.name"))  # of a key, or of a group's option
            text = f"{value:g}" if isinstance(value, float) else value
            words += [f"{key.rpartition('.')[2]}={text}"] * (value is not None)
    return " ".join(words)


def command(overrides: Sequence[str], config: Config) -> str:
    """A line that repeats exactly this run when pasted into a shell."""
    link = ("sweep.", "rerun=")  # what they stand for is written out
    told = [text for text in overrides if not text.lstrip("+").startswith(link)]
    told = list({text.partition("=")[0]: text for text in told}.values())  # the last one holds
    if config.data.root is not None and not any(t.startswith("data.root=") for t in told):
        told.append(f"data.root={config.data.root}")  # it may have come from the environment
    return shlex.join(["python", "-m", "landscape_sweep", *told])
