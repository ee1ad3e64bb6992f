"""What a sweep is made of: one configuration a cell, composed and checked before it runs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from landscape_sweep import config as schema
from landscape_sweep import names, tracking
from landscape_sweep.config import Config
from landscape_sweep.sweeps.jobs import without_hydra

log = logging.getLogger("landscape_sweep")


@dataclass(frozen=True)
class Cell:
    """One combination: its overrides, its checked configuration, and the name of its result."""

    number: int
    overrides: list[str]
    config: Config
    identity: str

    def record(self, varied: str) -> tracking.CellRecord:
        """The cell as the sweep's own run lists it."""
        link = dataclasses.replace(self.config.sweep, varied=varied)
        config = dataclasses.replace(self.config, sweep=link)
        return tracking.CellRecord(
            self.number, self.identity, names.label(config), names.name(config), self.overrides
        )


def parsed(
    params: Mapping[str, Any], arguments: Sequence[str], loader: ConfigLoader
) -> list[Override]:
    """The lines of ``hydra.sweeper.params``, then those of the command line."""
    lines = [f"{key}={value}" for key, value in params.items()] + list(arguments)
    return OverridesParser.create(config_loader=loader).parse_overrides(lines)


def composed(overrides: Sequence[str], hydra_config: DictConfig, loader: ConfigLoader) -> Config:
    """The configuration that a job with these overrides will have.

    Raises:
        ConfigError: a user's mistake in it.
    """
    return schema.load(without_hydra(loader.load_sweep_config(hydra_config, list(overrides))))


def finished(sweep_id: str, cells: Sequence[Cell], store: tracking.Store | None) -> dict[str, str]:
    """``config.hash`` and run of all that the experiment has finished; says how many cells are.

    None where there is no store yet, and where ``resume`` is off.
    """
    done = tracking.find_finished(store) if store and cells[0].config.resume else {}
    before = sum(cell.identity in done for cell in cells)
    log.info(
        "sweep %s: %d runs, %d already finished, %d to do",
        *(sweep_id, len(cells), before, len(cells) - before),
    )
    return done


def varied(overrides: Sequence[Override]) -> list[str]:
    """Keys that the sweep varies; where it varies several at once, ``stop={…},{…}``, each."""
    found: list[str] = []
    for override in overrides:
        if override.is_sweep_override():
            key, choices = override.get_key_element(), getattr(override.value(), "list", [])
            together = {name: 0 for each in choices if isinstance(each, dict) for name in each}
            found += [f"{key}.{name}" for name in together] or [key]
    return list(dict.fromkeys(found))  # the command line may repeat a line of the grid
