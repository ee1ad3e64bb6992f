"""The sweep's own run: what opens it, what ties jobs to it, and the report that ends it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from omegaconf import DictConfig, open_dict

from landscape_sweep import finish, names, tracking
from landscape_sweep.config import Config

log = logging.getLogger("landscape_sweep")


def open_parent(
    store: tracking.Store,
    sweep_id: str,
    hydra_config: DictConfig,
    arguments: Sequence[str],
    config: Config,
    about: str,
) -> tracking.RunLog:
    """The sweep's own run: the one of an earlier call, or a new one.

    ``about`` says in the run's description what the sweep is made of.
    """
    with open_dict(hydra_config):
        hydra_config.sweep.id = sweep_id  # part of hydra.sweep.dir
    of_hydra = [text for text in hydra_config.hydra.overrides.hydra if "hydra.mode" not in text]
    command = names.command(["-m", *of_hydra, *arguments], config)
    earlier = tracking.find_parent(store, sweep_id)
    if earlier is not None:
        parent = tracking.reopen_run(store, earlier)
        parent.tags({"command": command})  # a search may be for more trials now
        return parent
    return tracking.open_run(
        store,
        name=f"sweep {sweep_id}",
        tags={
            "sweep.parent": sweep_id,
            "command": command,
            "mlflow.note.content": f"{about}\n\n    {command}\n\n"
            "Figures and the report are under Artifacts.",
        },
    )


def link(sweep_id: str, parent: tracking.RunLog, varied: str) -> list[str]:
    """Overrides that tie a job to its sweep."""
    return [
        f"sweep.id='{sweep_id}'",  # quoted: digits alone would be read as a number
        f"sweep.parent_run_id='{parent.run_id}'",
        f"sweep.varied='{varied}'",
    ]


def reported(
    config: Config, sweep_id: str, parent: tracking.RunLog, jobs: Callable[[], int]
) -> int:
    """Run the jobs and, whatever happens, make the report; returns how many failed."""
    outcome = "failed"
    try:
        failed = jobs()
        outcome = "failed" if failed else "completed"
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    finally:
        tracking.close_stale(parent.store, sweep_id)  # whichever process it was of has ended
        try:
            finish.finish(config, sweep_id, parent)
        except Exception as error:
            if outcome != "interrupted":
                raise
            # Ctrl-C in the midst of an import leaves a library half there, for this process.
            log.warning("no report, as this was interrupted: %s: %s", type(error).__name__, error)
        finally:
            parent.end(outcome)
    return failed
