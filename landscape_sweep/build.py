"""From a configuration to what a run works with: data set, images of the probes, network, seeds."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from landscape_sweep import config as schema
from landscape_sweep import data as datasets
from landscape_sweep import models, training
from landscape_sweep.config import Config, ConfigError
from landscape_sweep.data import Dataset
from landscape_sweep.heap import keep_freed_memory

if TYPE_CHECKING:
    from landscape_sweep.probes import Batches

log = logging.getLogger("landscape_sweep")

PROBE_BATCH = 256
"""Images in one batch of the probes."""

SMALL_STEP_FLOPS = 4e8
"""A forward pass below this takes 0.8 to 1.05 of the time with a second thread, and many times
as long where another process is busy: OpenMP's threads spin while they wait for each other."""

ALL_THREADS = torch.get_num_threads()
"""What torch chose for this machine, or OMP_NUM_THREADS, before any run changed it."""


def device_of(config: Config) -> torch.device:
    """The device that ``device`` names; ``auto`` takes CUDA where there is one."""
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(auto if config.device == "auto" else config.device)


def dataset(config: Config) -> Dataset:
    """The data set of a configuration; one that was just read is not read again.

    Raises:
        ConfigError: a set that can't be had, or a fallback too small for the configuration.
    """
    part = config.data
    keys = (part.name, part.root, part.path, part.fallback, part.classes, part.train_size)
    try:
        data = _dataset(*keys, part.label_noise, part.seed, device_of(config))
    except ValueError as error:
        raise mistake(error) from error
    check_size(config, len(data.y_train))
    return data


@functools.lru_cache(maxsize=1)
def _dataset(
    name: str,
    root: str | None,
    path: str | None,
    fallback: str | None,
    classes: int | None,
    train_size: int | None,
    label_noise: float,
    seed: int,
    device: torch.device,
) -> Dataset:
    return datasets.load(
        name=name,
        root=root or "",
        path=path,
        fallback=fallback,
        classes=classes,
        train_size=train_size,
        label_noise=label_noise,
        seed=seed,
        device=device,
        report=log.warning,
    )


def check_size(config: Config, images: int) -> None:
    """A batch and the probes' images must fit into the training set, a fork into the training."""
    watched = config.probe.dynamics is not None or config.probe.early is not None
    probed = watched or any(True for _ in schema.probes_at_one_model(config))
    sizes = {"batch_size": config.batch_size, "probe.samples": config.probe.samples * probed}
    for key, value in sizes.items():
        if value > images:
            raise ConfigError(key, value, f"takes at most {images} (training images)")
    steps = total_steps(config, images)
    if config.fork_step is not None and config.fork_step > steps:
        raise ConfigError("fork_step", config.fork_step, f"takes at most {steps} (training steps)")


def mistake(error: ValueError) -> ConfigError:
    """A data set's or a model's complaint about a key, as a configuration error."""
    key, value = getattr(error, "key", None), getattr(error, "value", None)
    if key is None:
        raise error
    problem = getattr(error, "problem", "")
    allowed = f"takes {getattr(error, 'allowed', '')}"
    return ConfigError(key, value, f"{problem}; {allowed}" if problem else allowed)


def prepare_torch(config: Config, data: Dataset) -> None:
    """Threads, memory and determinism, for the whole process."""
    keep_freed_memory()
    torch.set_num_threads(config.threads or default_threads(config, data))
    torch.use_deterministic_algorithms(config.deterministic)
    # Filling fresh memory guards against reading what was never written; it costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not config.deterministic


def default_threads(config: Config, data: Dataset) -> int:
    """One thread where a step is too small to share (tests/benchmarks), else all.

    Decided by arithmetic, not by the clock, so that a configuration always gives the same bits.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model(config, data.shape, data.classes)(torch.empty(config.batch_size, *data.shape))
    small = counter.get_total_flops() < SMALL_STEP_FLOPS
    return 1 if small else ALL_THREADS


def derived_seed(seed: int, purpose: str) -> int:
    """An independent seed for one purpose (``init``, ``order``, ``augment``)."""
    words = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def shared_seed(config: Config) -> int:
    """The seed of what runs have in common before they fork: initialisation and first steps."""
    return config.seed if config.fork_step is None else config.fork_seed


def model(config: Config, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network that a configuration names, drawn from torch's present random state.

    Raises:
        ValueError: keys that don't go together, or images too small for it.
    """
    options = dataclasses.asdict(config.model)
    name = options.pop("name")
    own = {k: v for k, v in options.items() if v is not None}
    return models.build(name, shape=shape, classes=classes, **own)


def network(config: Config, data: Dataset) -> nn.Module:
    """The network at initialisation, drawn from its own seed, on the device of ``data``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(shared_seed(config), "init"))
        built = model(config, data.shape, data.classes)
    return built.to(data.x_train.device)


def optimizer(config: Config, network: nn.Module) -> torch.optim.Optimizer:
    """The update rule for all parameters of a network."""
    keys = dataclasses.asdict(config.optimizer)
    del keys["schedule"]  # the loop's
    own = {k: v for k, v in keys.items() if v is not None}
    return training.optimizer(network.parameters(), **own)


def total_steps(config: Config, images: int) -> int:
    """``stop.steps`` where it is given, else ``epochs`` times the whole batches of an epoch."""
    if config.stop.steps is not None:
        return config.stop.steps
    return config.epochs * (images // config.batch_size)


def probe_batches(config: Config, data: Dataset) -> Batches:
    """The images that every probe of a sweep sees: clean, class-balanced, always the same."""
    chosen = data.probe_indices(config.probe.samples)
    return in_batches(data, data.x_train[chosen], data.y_train[chosen])


def in_batches(data: Dataset, images: Tensor, labels: Tensor) -> Batches:
    """uint8 images and their labels as probes take them, all normalised at once."""
    return list(LazyBatches(data, images, labels))


def test_batches(config: Config, data: Dataset) -> Batches:
    """As many test images as training images are probed, the first ones, for probes that ask."""
    count = config.probe.samples
    return in_batches(data, data.x_test[:count], data.y_test[:count])


class LazyBatches(Sequence[Any]):
    """All images of a set as probes take them; a batch is normalised when it is asked for.

    At once they would take four times the memory of the uint8 images.
    """

    def __init__(self, data: Dataset, images: Tensor, labels: Tensor) -> None:
        self._normalise = data.normalise
        self._parts = list(zip(images.split(PROBE_BATCH), labels.split(PROBE_BATCH), strict=True))

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, number: Any) -> Any:
        images, labels = self._parts[number]
        return self._normalise(images), labels
