"""``rerun=RUN_ID``: a stored run's configuration as overrides, to which others can be added."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Quote, QuotedString

from landscape_sweep import config as schema
from landscape_sweep import tracking
from landscape_sweep.config import Config, ConfigError

GROUPS = ("model", "optimizer", "data", "probe")
"""An override that chooses an option of a group replaces all that was stored of the group."""

OF_THIS_CALL = ("sweep", "resume", "outputs", "uri", "rerun", "dry_run")
"""Keys that say what a call does and where it writes: a stored value says nothing of that."""


def expand(arguments: Sequence[str], folder: Path) -> list[str]:
    """The command line with the stored configuration of ``rerun=RUN_ID`` in front.

    A single run with the same training is trained again, unless it asks for probes: these take
    the stored weights.

    Args:
        arguments: what was typed after ``python -m landscape_sweep``.
        folder: the configuration's files, ``conf``.

    Raises:
        ConfigError: no such run, or one whose configuration can't be read.
    """
    asked = [text for text in arguments if _key(text) == "rerun"]
    run_id = asked[-1].partition("=")[2].strip("'\"") if asked else "null"
    if run_id == "null":
        return list(arguments)
    if not run_id:
        raise ConfigError("rerun", "", "takes the id of a run, which it said as it ended")
    own = [text for text in arguments if _key(text) != "rerun"]
    keys = {_key(text): text.partition("=")[2] for text in own}
    if keys.get("experiment", "null") != "null":
        raise ConfigError(
            "experiment", keys["experiment"], "takes null beside rerun; change single keys instead"
        )
    places = [text for text in own if _key(text) in ("outputs", "tracking.uri")]
    stored = tracking.stored_config(_composed(places, folder).tracking.uri, run_id)
    lines = [*overrides(stored, folder, chosen=keys), f"rerun='{run_id}'"]
    probing = any(key == "probe" or key.startswith("probe.") for key in keys)
    if not probing and not {"-m", "--multirun"} & set(own):
        lines.append("resume=false")
    first = next(at for at, text in enumerate(arguments) if _key(text))  # options of Hydra stay
    return [*own[:first], *lines, *own[first:]]


def overrides(stored: Config, folder: Path, chosen: Sequence[str] | dict[str, str]) -> list[str]:
    """What makes ``stored`` of the defaults, but for the groups that are ``chosen`` otherwise."""
    groups = [group for group in GROUPS if group not in chosen]
    names = {group: getattr(stored, group).name for group in groups}
    options = [
        f"{group}={name}"
        for group, name in names.items()
        if (folder / group / f"{name}.yaml").exists()
    ]
    return options + [
        line
        for line in _differences(stored, _composed(options, folder))
        if re.split(r"[.=]", line.lstrip("+"))[0] not in set(GROUPS) - set(groups)
    ]


def _key(text: str) -> str:
    """The key of an override; empty for an option of Hydra."""
    found = re.match(r"[+~]*([\w./]+)(@[\w.]+)?(=|$)", text)
    return found[1] if found and ("=" in text or text.startswith("~")) else ""


def _composed(lines: Sequence[str], folder: Path) -> Config:
    with initialize_config_dir(str(folder), version_base="1.3"):
        return schema.load(compose("config", overrides=list(lines)))


def _differences(stored: Any, base: Any, prefix: str = "") -> Iterator[str]:
    """An override for each key in which ``stored`` differs from ``base``."""
    for spec in dataclasses.fields(stored):
        key, new, old = prefix + spec.name, getattr(stored, spec.name), getattr(base, spec.name)
        if new == old or spec.name in OF_THIS_CALL:
            continue
        if dataclasses.is_dataclass(new) and dataclasses.is_dataclass(old):
            yield from _differences(new, old, f"{key}.")
        else:
            force = "++" if old is None else ""  # what is null by default may not be in a file
            yield f"{force}{key}={_literal(new)}"


def _literal(value: Any) -> str:
    """A value as Hydra's grammar reads it back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((spec.name, getattr(value, spec.name)) for spec in dataclasses.fields(value))
        return "{" + ",".join(f"{name}:{_literal(of)}" for name, of in pairs) + "}"
    if value is None:
        return "null"
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    return str(value).lower() if isinstance(value, bool) else repr(value)
