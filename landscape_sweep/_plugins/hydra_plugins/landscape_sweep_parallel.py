"""Makes the parallel launcher known to Hydra, which looks for plugins in this namespace only."""

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ParallelLauncher(Launcher):
    """Runs side by side in worker processes; see ``landscape_sweep.sweeps.parallel``."""

    def __init__(self, jobs: int | None, jobs_per_gpu: int) -> None:
        self.jobs, self.jobs_per_gpu = jobs, jobs_per_gpu

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from landscape_sweep.config import ConfigError

        for key in ("jobs", "jobs_per_gpu"):
            value = getattr(self, key)
            if not ((isinstance(value, int) and value >= 1) or (key == "jobs" and value is None)):
                raise ConfigError(f"hydra.launcher.{key}", value, "takes an integer ≥ 1")
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from landscape_sweep.sweeps.jobs import compose
        from landscape_sweep.sweeps.parallel import launch

        jobs = compose(self.hydra_context, self.config, job_overrides, initial_job_idx)
        return launch(
            jobs, self.hydra_context, self.task_function, self.config, self.jobs, self.jobs_per_gpu
        )
