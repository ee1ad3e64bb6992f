"""The grid sweeper: every combination under one parent run, then the analysis.

Hydra's own sweeper stops at the first failure and knows no end of a sweep; this one checks every
combination before the first runs, lets the others go on when one fails, skips what an earlier call
has finished, and always ends with the report.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from landscape_sweep import build, finish, tracking
from landscape_sweep import config as schema
from landscape_sweep.check import check
from landscape_sweep.config import ConfigError
from landscape_sweep.fit import remove_checkpoints
from landscape_sweep.names import label
from landscape_sweep.run import report_dead
from landscape_sweep.sweeps.cells import Cell, composed, finished, parsed, varied
from landscape_sweep.sweeps.lock import driving
from landscape_sweep.sweeps.look import look
from landscape_sweep.sweeps.parent import link, open_parent, reported

log = logging.getLogger("landscape_sweep")


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
    overrides = parsed(params, arguments, loader)
    cells = _cells(overrides, hydra_config, loader)
    first = cells[0].config
    sweep_id = schema.digest(" ".join(sorted({cell.identity for cell in cells})))
    if first.dry_run:
        look(sweep_id, cells, " ".join(varied(overrides)))
        return
    store = tracking.connect(first.tracking.uri, first.tracking.experiment_name, first.outputs)
    with driving(finish.folder(first.outputs, sweep_id), sweep_id):
        report_dead(store, first.outputs, sweep_id)
        configurations = {label(cell.config) for cell in cells}
        about = f"{len(cells)} runs of {len(configurations)} configurations."
        parent = open_parent(store, sweep_id, hydra_config, arguments, first, about)
        names = " ".join(varied(overrides))
        missing = _missing(store, parent, sweep_id, cells, names)
        jobs = functools.partial(_launch, launcher, missing, link(sweep_id, parent, names))
        failed = reported(first, sweep_id, parent, jobs)
    if failed:
        log.error("%d of %d runs failed: the same command runs them again", failed, len(cells))
        sys.exit(1)


def _missing(
    store: tracking.Store, parent: tracking.RunLog, sweep_id: str, cells: Sequence[Cell], names: str
) -> list[Cell]:
    """The cells that no earlier call has finished; says which it has."""
    records = [cell.record(names) for cell in cells]
    tracking.log_cells(parent, records)
    done = finished(sweep_id, cells, store)
    for cell, record in zip(cells, records, strict=True):
        if cell.identity in done:
            log.info("  finished before: %s (run %s)", record.name, done[cell.identity])
            remove_checkpoints(cell.config, cell.identity)  # a driver that died may have left some
    return [cell for cell in cells if cell.identity not in done]


def _cells(overrides: list[Override], hydra_config: DictConfig, loader: ConfigLoader) -> list[Cell]:
    """Every combination, composed and checked."""
    for override in overrides:
        if override.is_interval_sweep():
            raise ConfigError(
                override.get_key_element(),
                override.get_value_string(),
                "takes an interval only with hydra/sweeper=optuna; a grid takes choices",
            )
    (combinations,) = BasicSweeper.split_arguments(overrides, None)
    configs = []
    for combination in combinations:
        configs.append(composed(combination, hydra_config, loader))
        check(configs[-1])
    # Images are read only when every combination has been checked.
    names = [build.dataset(config).name for config in configs]
    return [
        Cell(number, list(combination), config, schema.config_hash(config, name))
        for number, (combination, config, name) in enumerate(
            zip(combinations, configs, names, strict=True)
        )
    ]


def _launch(launcher: Launcher, cells: Sequence[Cell], tied: Sequence[str]) -> int:
    """Run the cells; returns how many failed. Each failure has been logged in its own run."""
    if not cells:
        return 0
    jobs = [[*cell.overrides, *tied, f"sweep.number={cell.number}"] for cell in cells]
    results: Sequence[JobReturn] = launcher.launch(jobs, initial_job_idx=0)
    return sum(result.status != JobStatus.COMPLETED for result in results)
