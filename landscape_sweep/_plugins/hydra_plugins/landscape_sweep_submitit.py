"""Makes the submitit launcher known to Hydra, which looks for plugins in this namespace only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SlurmLauncher(Launcher):
    """Runs as jobs of a Slurm array; see ``landscape_sweep.sweeps.cluster``."""

    cluster = "slurm"

    def __init__(self, submitit_folder: str | None = None, **parameters: Any) -> None:
        # Where Hydra's own plugin is installed too, its key is there; when it is read, the sweep
        # has no folder yet.
        self.parameters = parameters

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from landscape_sweep.sweeps.cluster import check

        check(self.cluster)
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from landscape_sweep.sweeps.cluster import executor, launch
        from landscape_sweep.sweeps.jobs import compose

        jobs = compose(self.hydra_context, self.config, job_overrides, initial_job_idx)
        folder = Path(str(self.config.hydra.sweep.dir), "submitit")
        queue = executor(self.cluster, folder, self.parameters)
        return launch(jobs, self.hydra_context, self.task_function, self.config, queue)


class LocalLauncher(SlurmLauncher):
    """The same, as processes of this machine."""

    cluster = "local"
