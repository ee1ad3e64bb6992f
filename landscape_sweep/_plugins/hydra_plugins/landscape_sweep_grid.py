"""Makes the grid sweeper known to Hydra, which looks for plugins in this namespace only."""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class GridSweeper(Sweeper):
    """Every combination of the swept values; see ``landscape_sweep.sweeps.grid``."""

    def __init__(self, params: Any = None) -> None:
        self.params = params

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from hydra.core.plugins import Plugins

        self.context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from landscape_sweep.sweeps.grid import sweep

        params: Any = OmegaConf.to_container(self.params) if self.params else {}
        # Both are set by Hydra, in setup.
        assert self.config is not None
        assert self.launcher is not None
        sweep(self.config, self.context.config_loader, self.launcher, params, arguments)


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="grid",
    node={"_target_": "hydra_plugins.landscape_sweep_grid.GridSweeper", "params": None},
    provider="landscape_sweep",
)
