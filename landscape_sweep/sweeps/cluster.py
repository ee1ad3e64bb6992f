"""Jobs of a sweep through submitit: an array of Slurm jobs, or local processes to try it.

Unlike Hydra's own plugin, a job that dies costs itself only, and Ctrl-C cancels what is queued:
nothing of a sweep runs on when its driver has ended.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from landscape_sweep.config import ConfigError
from landscape_sweep.sweeps.jobs import Job, close_earlier_attempts, execute, record_death

if TYPE_CHECKING:
    import submitit

log = logging.getLogger("landscape_sweep")


SHARED = (
    *("name", "timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb", "nodes"),
    *("tasks_per_node", "stderr_to_stdout"),
)
"""Parameters that submitit knows for every cluster; it wants ``slurm_`` before the others."""


def check(cluster: str) -> None:
    """Whether jobs can be submitted from here.

    Raises:
        ConfigError: no submitit, no Slurm.
    """
    launcher = f"submitit_{cluster}"
    if importlib.util.find_spec("submitit") is None:
        raise ConfigError("hydra/launcher", launcher, 'needs pip install "landscape-sweep[slurm]"')
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise ConfigError("hydra/launcher", launcher, "finds no Slurm here: there is no sbatch")


def executor(cluster: str, folder: Path, parameters: Mapping[str, Any]) -> submitit.AutoExecutor:
    """A queue for the jobs of a sweep.

    Args:
        cluster: ``slurm`` or ``local``.
        folder: for scripts, logs and results; all nodes must see it.
        parameters: the keys of ``conf/hydra/launcher/submitit_slurm.yaml``.

    Raises:
        ConfigError: a parameter that submitit does not know, or whose type is wrong.
    """
    import submitit

    given = {key: value for key, value in parameters.items() if value is not None}
    retries = given.pop("max_num_timeout", 0)
    queue = submitit.AutoExecutor(folder / "%j", cluster, slurm_max_num_timeout=retries)
    for key, value in given.items():
        try:
            queue.update_parameters(**{key if key in SHARED else f"slurm_{key}": value})
        except (NameError, TypeError, ValueError, AssertionError) as error:
            raise ConfigError(f"hydra.launcher.{key}", value, str(error)) from error
    return queue


def launch(
    jobs: Sequence[Job],
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    queue: submitit.AutoExecutor,
) -> list[JobReturn]:
    """Submit all jobs, as one array, and wait for them.

    Args:
        jobs: what to run.
        context: Hydra's; its callbacks are called in the jobs.
        task: what a job does with its configuration.
        config: what Hydra composed for the multirun, for the driver's own logging.
        queue: where to submit.

    Raises:
        KeyboardInterrupt: once every job has been cancelled.
    """
    from submitit.helpers import as_completed

    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    logging.getLogger("submitit").setLevel(logging.ERROR)  # warns at every look without sacct
    submitted = queue.map_array(Work(context, task), jobs)
    numbers = {handle.job_id: number for number, handle in enumerate(submitted)}
    log.info("submitted: %s", " ".join(numbers))
    returned: dict[int, JobReturn] = {}
    try:
        for handle in as_completed(submitted, poll_frequency=1):
            number = numbers[handle.job_id]
            returned[number] = _outcome(handle, jobs[number])
            log.info("%d of %d runs ended", len(returned), len(jobs))
    finally:
        _cancel([handle for handle in submitted if not handle.done()], queue.cluster)
    return [returned[number] for number in range(len(jobs))]


def _cancel(handles: Sequence[submitit.Job[JobReturn]], cluster: str) -> None:
    """End jobs at once: those at work close their runs, those in the queue never start.

    Slurm asks by SIGTERM, which submitit ignores in its jobs, and kills half a minute later; hence
    the Ctrl-C before. submitit's local jobs get one from ``cancel`` itself.
    """
    if cluster == "slurm" and handles:
        identities = [handle.job_id for handle in handles]
        subprocess.run(["scancel", "--signal=INT", *identities], check=False, capture_output=True)
    for handle in handles:
        handle.cancel(check=False)


def _outcome(handle: submitit.Job[JobReturn], job: Job) -> JobReturn:
    """What a job that has ended came to."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return handle.result()
    except (FailedJobError, UncompletedJobError) as error:
        log.debug("%s", error)
        return record_death(
            job, f"job {handle.job_id} died ({handle.state}): {handle.paths.stderr}"
        )


class Work:
    """What a job of the cluster does; submitit sends it there and, on preemption, again."""

    def __init__(self, context: HydraContext, task: TaskFunction) -> None:
        self._context, self._task, self._singletons = context, task, Singleton.get_state()

    def __call__(self, job: Job) -> JobReturn:
        """Run a job on the node that it was given."""
        cores = os.environ.get("SLURM_CPUS_PER_TASK")
        if cores is not None:
            os.environ["OMP_NUM_THREADS"] = cores  # torch has not been imported yet
        setup_globals()
        Singleton.set_state(self._singletons)
        if os.environ.get("SLURM_RESTART_COUNT"):
            close_earlier_attempts(job)
        return execute(job, self._context, self._task)

    def checkpoint(self, job: Job) -> submitit.helpers.DelayedSubmission:
        """What submitit queues in place of a job that is preempted: it finds its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job)
