"""Hydra's entry: ``python -m landscape_sweep [-m] [key=value …]``."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

PACKAGE = Path(__file__).parent


def conf_folder() -> Path:
    """The configuration: inside an installed package, or beside it in a checkout."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def add_plugins() -> None:
    """Let Hydra find the sweeper: it looks in the namespace package ``hydra_plugins`` only."""
    folder = str(PACKAGE / "_plugins")
    if folder not in sys.path:
        sys.path.append(folder)


def task(composed: DictConfig) -> None:
    """One run of one configuration."""
    from landscape_sweep.config import ConfigError
    from landscape_sweep.run import main as run
    from landscape_sweep.sweeps.pruning import watch

    _ignore_warnings_of_torch()  # a launcher's worker has not been through ``main``
    sweeps = HydraConfig.get().mode != RunMode.RUN
    try:
        if not sweeps:
            _check_single(HydraConfig.get())
        run(composed, watch(HydraConfig.get().sweeper, composed.sweep.number) if sweeps else None)
    except ConfigError as error:
        if sweeps:
            raise  # the other runs go on
        _end(str(error))


def _ignore_warnings_of_torch() -> None:
    """Torch warns of its own use of torch.jit; a user can do nothing about it."""
    warnings.filterwarnings("ignore", "`torch.jit.script", FutureWarning)


def _check_single(hydra_config: HydraConf) -> None:
    """What was meant as a sweep is said, where ``-m`` was forgotten.

    Raises:
        ConfigError: a sweeper or a launcher is chosen, which a run alone does not have.
    """
    from landscape_sweep.config import ConfigError

    for group, default in (("hydra/sweeper", "grid"), ("hydra/launcher", "basic")):
        if (chosen := hydra_config.runtime.choices[group]) != default:
            raise ConfigError(group, chosen, "is for a sweep; add -m")
    typed = {text.partition("=")[0].lstrip("+") for text in hydra_config.overrides.task}
    grid = [str(key) for key in hydra_config.sweeper.get("params") or {} if key not in typed]
    if grid:
        logging.getLogger("landscape_sweep").warning(
            "one run, with the defaults of %s; -m sweeps over them", ", ".join(grid)
        )


def _options_first(arguments: list[str]) -> list[str]:
    """The command line with ``-m`` in front, where Hydra finds it among the overrides."""
    flags = ("-m", "--multirun")
    return sorted(arguments, key=lambda text: text not in flags)


def _expanded(arguments: list[str]) -> list[str]:
    """The command line, with a stored configuration where one is asked for."""
    if not any("rerun=" in text for text in arguments):
        return arguments  # nothing heavy to import
    from landscape_sweep.rerun import expand

    return expand(arguments, conf_folder())


def _end(mistake: str) -> NoReturn:
    """Tell a user's mistake in one line and exit with status 2."""
    print(f"landscape_sweep: {mistake}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Read the command line and run; a user's mistake ends with one line and status 2."""
    add_plugins()
    # Hydra would print a user's mistake over several lines and exit with 1: let errors through.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # cuBLAS is deterministic only with a fixed workspace, read when it is first loaded.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _ignore_warnings_of_torch()
    # On a full disk the log file misses a line; the screen need not show a traceback for it.
    logging.raiseExceptions = False
    entry = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
    try:
        sys.argv[1:] = _expanded(_options_first(sys.argv[1:]))
        entry(task)()
    except KeyboardInterrupt:
        print("landscape_sweep: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        from landscape_sweep.config import explain
        from landscape_sweep.tracking import trouble

        mistake = explain(error, sys.argv[1:])
        if mistake is not None:
            _end(str(mistake))
        if (told := trouble(error)) is None:
            raise
        print(f"landscape_sweep: {told}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
