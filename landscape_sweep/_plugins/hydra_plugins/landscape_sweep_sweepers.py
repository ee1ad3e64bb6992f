"""Makes the sweepers known to Hydra, which looks for plugins in this namespace only."""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class GridSweeper(Sweeper):
    """Every combination of the swept values; see ``landscape_sweep.sweeps.grid``."""

    def __init__(self, params: Any = None) -> None:
        self.params = _plain(params) or {}

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

        # Both are set by Hydra, in setup.
        assert self.config is not None
        assert self.launcher is not None
        sweep(self.config, self.context.config_loader, self.launcher, self.params, arguments)


class SearchSweeper(GridSweeper):
    """Trials that Optuna proposes; see ``landscape_sweep.sweeps.search``."""

    def __init__(self, params: Any = None, **settings: Any) -> None:
        super().__init__(params)
        self.settings = {key: _plain(value) for key, value in settings.items()}

    def sweep(self, arguments: list[str]) -> Any:
        from landscape_sweep.sweeps.search import search

        assert self.config is not None
        assert self.launcher is not None
        loader = self.context.config_loader
        search(self.config, loader, self.launcher, self.params, arguments, self.settings)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


# The search's node is conf/hydra/sweeper/optuna.yaml, where users read what it takes.
ConfigStore.instance().store(
    group="hydra/sweeper",
    name="grid",
    node={"_target_": "hydra_plugins.landscape_sweep_sweepers.GridSweeper", "params": None},
    provider="landscape_sweep",
)
