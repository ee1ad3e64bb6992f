"""Before a run: what can be known to fail before any image is read."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from landscape_sweep import build
from landscape_sweep import data as datasets
from landscape_sweep.config import Config, ConfigError


def check(config: Config) -> None:
    """What can be known to fail before any image is read.

    Raises:
        ConfigError: a device that is not there, a set that is too small, more eigenvalues than
            parameters, a folder that can't be written.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device", "cuda", "there is no CUDA device here; takes auto or cpu")
    _check_writable(config.outputs)
    try:
        spec = datasets.describe(
            name=config.data.name,
            root=config.data.root or "",
            path=config.data.path,
            classes=config.data.classes,
            train_size=config.data.train_size,
        )
        build.check_size(config, config.data.train_size or spec.train)
        with torch.device("meta"):
            network = build.model(config, spec.shape, spec.classes)
    except ValueError as error:
        raise build.mistake(error) from error
    parameters = sum(p.numel() for p in network.parameters())
    for name in ("hessian", "stationarity"):
        keys = getattr(config.probe, name)
        if keys and keys.k > parameters:
            allowed = f"takes at most {parameters} (the network's parameters)"
            raise ConfigError(f"probe.{name}.k", keys.k, allowed)


def _check_writable(folder: str) -> None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError("outputs", folder, f"can't be written: {error.strerror}") from error
