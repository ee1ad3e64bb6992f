"""Hydra's entry: ``python -m landscape_sweep [-m] [key=value …]``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

PACKAGE = Path(__file__).parent


def conf_folder() -> Path:
    """The configuration: inside an installed package, or beside it in a checkout."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def task(composed: DictConfig) -> None:
    """One run of one configuration."""
    from landscape_sweep.run import main as run

    run(composed)


def main() -> None:
    """Read the command line and run; a user's mistake ends with one line and status 2."""
    # Hydra looks for sweepers in the namespace package hydra_plugins.
    sys.path.append(str(PACKAGE / "_plugins"))
    # Hydra would print a user's mistake over several lines and exit with 1: let errors through.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # cuBLAS is deterministic only with a fixed workspace, read when it is first loaded.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    entry = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
    try:
        entry(task)()
    except KeyboardInterrupt:
        print("landscape_sweep: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        from landscape_sweep.config import explain

        mistake = explain(error, sys.argv[1:])
        if mistake is None:
            raise
        print(f"landscape_sweep: {mistake}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
