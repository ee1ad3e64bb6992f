"""The grid sweeper: every combination under one parent run, then the analysis.

Hydra's own sweeper stops at the first failure and knows no end of a sweep; this one checks every
combination before the first runs, lets the others go on when one fails, skips what an earlier call
has finished, and always ends with the report.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, open_dict

from landscape_sweep import config as schema
from landscape_sweep import finish, run, tracking
from landscape_sweep.config import Config
from landscape_sweep.sweeps.lock import driving

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
            self.number, self.identity, run.label(config), run.name(config), self.overrides
        )


def sweep(
    hydra_config: DictConfig,
    loader: ConfigLoader,
    launcher: Launcher,
    params: Mapping[str, Any],
    arguments: Sequence[str],
) -> None:
    """Run every combination that is not finished yet, then analyse them all.

    Args:
        hydra_config: what Hydra composed for the multirun; the sweep's id is written here.
        loader: composes the configuration of one combination.
        launcher: runs jobs; any Hydra launcher.
        params: the grid of ``hydra.sweeper.params``, which ``arguments`` override key by key.
        arguments: overrides of the command line.

    Raises:
        ConfigError: a user's mistake in any combination, before the first one runs; another
            process that runs the same sweep.
        SystemExit: status 1, where some runs failed.
    """
    lines = [f"{key}={value}" for key, value in params.items()] + list(arguments)
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(lines)
    cells = _cells(overrides, hydra_config, loader)
    first = cells[0].config
    sweep_id = schema.digest(" ".join(sorted({cell.identity for cell in cells})))
    store = tracking.connect(first.tracking.uri, first.tracking.experiment_name, first.outputs)
    with driving(finish.folder(first.outputs, sweep_id), sweep_id):
        for stale in tracking.close_stale(store, sweep_id):
            log.warning("  was left running by a process that died: %s", stale)
        parent = _open_parent(store, sweep_id, arguments, cells)
        with open_dict(hydra_config):
            hydra_config.sweep.id = sweep_id  # part of hydra.sweep.dir
        failed = _drive(store, launcher, parent, sweep_id, cells, " ".join(_varied(overrides)))
    if failed:
        log.error("%d of %d runs failed: the same command runs them again", failed, len(cells))
        sys.exit(1)


def _drive(
    store: tracking.Store,
    launcher: Launcher,
    parent: tracking.RunLog,
    sweep_id: str,
    cells: Sequence[Cell],
    varied: str,
) -> int:
    """Run what is missing and, whatever happens, make the report; returns how many failed."""
    first = cells[0].config
    done = tracking.find_finished(store) if first.resume else {}
    missing = [cell for cell in cells if cell.identity not in done]
    records = [cell.record(varied) for cell in cells]
    tracking.log_cells(parent, records)
    log.info(
        "sweep %s: %d runs, %d already finished, %d to do",
        *(sweep_id, len(cells), len(cells) - len(missing), len(missing)),
    )
    for cell in records:
        if cell.identity in done:
            log.info("  finished before: %s (run %s)", cell.name, done[cell.identity])
    link = [
        f"sweep.id='{sweep_id}'",  # quoted: digits alone would be read as a number
        f"sweep.parent_run_id='{parent.run_id}'",
        f"sweep.varied='{varied}'",
    ]
    outcome = "failed"
    try:
        failed = _launch(launcher, missing, link)
        outcome = "failed" if failed else "completed"
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    finally:
        try:
            finish.finish(first, sweep_id, parent)
        finally:
            parent.end(outcome)
    return failed


def _cells(overrides: list[Override], hydra_config: DictConfig, loader: ConfigLoader) -> list[Cell]:
    """Every combination, composed and checked."""
    (combinations,) = BasicSweeper.split_arguments(overrides, None)
    configs = []
    for combination in combinations:
        composed = loader.load_sweep_config(hydra_config, list(combination))
        with open_dict(composed):
            del composed["hydra"]
        configs.append(schema.load(composed))
        run.check(configs[-1])
    # Images are read only when every combination has been checked.
    names = [run.dataset(config).name for config in configs]
    return [
        Cell(number, list(combination), config, schema.config_hash(config, name))
        for number, (combination, config, name) in enumerate(
            zip(combinations, configs, names, strict=True)
        )
    ]


def _varied(overrides: Sequence[Override]) -> list[str]:
    """Keys that the sweep varies; where it varies several at once, ``stop={…},{…}``, each."""
    varied: list[str] = []
    for override in overrides:
        if override.is_sweep_override():
            key, choices = override.get_key_element(), getattr(override.value(), "list", [])
            together = {name: 0 for each in choices if isinstance(each, dict) for name in each}
            varied += [f"{key}.{name}" for name in together] or [key]
    return list(dict.fromkeys(varied))  # the command line may repeat a line of the grid


def _open_parent(
    store: tracking.Store, sweep_id: str, arguments: Sequence[str], cells: Sequence[Cell]
) -> tracking.RunLog:
    """The sweep's own run: the one of an earlier call, or a new one."""
    command = run.command(["-m", *arguments], cells[0].config)
    earlier = tracking.find_parent(store, sweep_id)
    if earlier is not None:
        return tracking.reopen_run(store, earlier)
    configurations = {run.label(cell.config) for cell in cells}
    return tracking.open_run(
        store,
        name=f"sweep {sweep_id}",
        tags={
            "sweep.parent": sweep_id,
            "command": command,
            "mlflow.note.content": f"{len(cells)} runs of {len(configurations)} configurations."
            f"\n\n    {command}\n\nFigures and the report are under Artifacts.",
        },
    )


def _launch(launcher: Launcher, cells: Sequence[Cell], link: Sequence[str]) -> int:
    """Run the cells; returns how many failed. Each failure has been logged in its own run."""
    if not cells:
        return 0
    jobs = [[*cell.overrides, *link, f"sweep.number={cell.number}"] for cell in cells]
    results: Sequence[JobReturn] = launcher.launch(jobs, initial_job_idx=0)
    return sum(result.status != JobStatus.COMPLETED for result in results)
