"""A look before a leap: what a sweep would run, what of it is finished, and how long it takes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from landscape_sweep import build, tracking
from landscape_sweep import config as schema
from landscape_sweep.config import Config
from landscape_sweep.data import Dataset
from landscape_sweep.estimate import Estimates, left_out
from landscape_sweep.progress import duration
from landscape_sweep.run import find_trained
from landscape_sweep.sweeps.cells import Cell, finished

log = logging.getLogger("landscape_sweep")


def look(sweep_id: str, cells: Sequence[Cell], varied: str) -> None:
    """List the cells of a sweep with an estimate of time; nothing is run, made or logged."""
    first = cells[0].config
    store = tracking.find_store(first.tracking.uri, first.tracking.experiment_name)
    done = finished(sweep_id, cells, store)
    estimates = Estimates()
    total = 0.0
    for cell in cells:
        name = cell.record(varied).name
        if cell.identity in done:
            log.info("  finished  %s (run %s)", name, done[cell.identity])
            continue
        seconds = estimates.seconds(cell.config, *_data_and_weights(cell.config, store))
        total += seconds
        log.info("  to do     %s: about %s at most", name, duration(seconds))
    log.info(
        "about %s at most, one run after another%s; nothing was run",
        *(duration(total), left_out(cell.config for cell in cells if cell.identity not in done)),
    )


def _data_and_weights(config: Config, store: tracking.Store | None) -> tuple[Dataset, str | None]:
    """The data set of a cell, and the finished run whose weights it would take."""
    data = build.dataset(config)
    if store is None or not config.resume:
        return data, None
    return data, find_trained(store, config, schema.train_hash(config, data.name))
