"""One job of a sweep in a process of its own: what it is sent, and what comes of it.

A worker imports this file before it knows how many threads it may take, so it imports neither
NumPy nor torch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from landscape_sweep import config as schema
from landscape_sweep import names
from landscape_sweep.config import Config

log = logging.getLogger("landscape_sweep")


@dataclass(frozen=True)
class Job:
    """A job of a sweep: its configuration as Hydra composed it, ``hydra`` included."""

    composed: DictConfig

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        return schema.load(without_hydra(self.composed))


def compose(
    context: HydraContext, config: DictConfig, overrides: Sequence[Sequence[str]], first: int
) -> list[Job]:
    """The jobs that a sweeper asks a launcher for, numbered from ``first``."""
    setup_globals()
    jobs = []
    for number, line in enumerate(overrides, start=first):
        composed = context.config_loader.load_sweep_config(config, list(line))
        with open_dict(composed):
            composed.hydra.job.id = str(number)
            composed.hydra.job.num = number
        jobs.append(Job(composed))
    return jobs


def execute(job: Job, context: HydraContext, task: TaskFunction) -> JobReturn:
    """Run a job here; what went wrong in it comes back as an exception that can be sent on."""
    result = run_job(
        hydra_context=context,
        task_function=task,
        config=job.composed,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    if result.status == JobStatus.FAILED:
        error = result._return_value  # the property raises it
        result.return_value = RuntimeError(f"{type(error).__name__}: {error}")
    return result


def record_death(job: Job, reason: str) -> JobReturn:
    """Close as failed the run of a job whose process died without a word."""
    log.error("%s: %s", names.name(job.config), reason)
    _close(job, "failed", reason)
    result = JobReturn(cfg=without_hydra(job.composed), status=JobStatus.FAILED)
    result.return_value = RuntimeError(reason)
    return result


def close_earlier_attempts(job: Job) -> None:
    """Close as interrupted what an attempt at this job that was cut off left running."""
    _close(job, "interrupted", "queued again")


def _close(job: Job, outcome: str, reason: str) -> None:
    from landscape_sweep import tracking

    config = job.config
    if config.sweep.id is None:
        return
    store = tracking.connect(config.tracking.uri, config.tracking.experiment_name, config.outputs)
    tracking.close_stale(store, config.sweep.id, config.sweep.number, outcome, reason)


def without_hydra(composed: DictConfig) -> DictConfig:
    """What Hydra composed, as a run takes it."""
    own = composed.copy()
    with open_dict(own):
        del own["hydra"]
    return own
