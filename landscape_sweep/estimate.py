"""How long runs will take, from a few measured steps, without running them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from landscape_sweep import build, training
from landscape_sweep import config as schema
from landscape_sweep import data as datasets
from landscape_sweep.config import Config
from landscape_sweep.data import Dataset
from landscape_sweep.measure import seconds_of_probes
from landscape_sweep.training.loop import EVALUATION_BATCH, MATCHED_LOSS_IMAGES

STEPS = 5
"""Training steps that are timed, after one that is not."""

IN_TRAINING = ("early", "dynamics")
"""Probes that look in training, and don't say beforehand what they take."""

NOT_COUNTED = (*IN_TRAINING, "connectivity")
"""These, and the probe that looks between the runs of a sweep."""


@dataclass(frozen=True)
class Pace:
    """Seconds of a training step, of an image seen in evaluation, and of all probes."""

    step: float
    image: float
    probes: float


def left_out(configs: Iterable[Config], probes: Sequence[str] = NOT_COUNTED) -> str:
    """What the estimates for these runs leave out, as the end of a sentence on their time."""
    found = [name for c in configs for name in probes if getattr(c.probe, name) is not None]
    told = ", ".join(f"probe.{name}" for name in dict.fromkeys(found))
    return f", {told} not counted" if told else ""


class Estimates:
    """Estimates for the runs of a sweep; those that differ in no cost are measured once."""

    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}

    def seconds(self, config: Config, data: Dataset, trained: str | None) -> float:
        """Time of a run, at most: training to its last step, unless it takes another's weights."""
        pace = self._pace(config, data)
        return pace.probes + (0 if trained else seconds_of_training(config, data, pace))

    def _pace(self, config: Config, data: Dataset) -> Pace:
        same_cost = dataclasses.replace(
            config,
            optimizer=dataclasses.replace(config.optimizer, lr=1.0),
            sweep=schema.SweepLink(),
            seed=0,
            fork_seed=0,
        )
        key = json.dumps(schema.identity(same_cost))
        if key not in self._paces:
            self._paces[key] = pace_of(config, data)
        return self._paces[key]


def pace_of(config: Config, data: Dataset) -> Pace:
    """Train a network for a few steps, evaluate it, and pass forward and backward through it."""
    build.prepare_torch(config, data)
    network = build.network(config, data)
    loss_function = training.loss_function(config.loss)
    transform = datasets.augment(config.data.augment)
    randomness = torch.Generator(data.x_train.device)
    for steps in (1, STEPS):
        fit = training.train(
            network,
            data,
            build.optimizer(config, network),
            loss_function,
            batch_size=config.batch_size,
            steps=steps,
            schedule="constant",
            lr=0.0,  # the weights stay as they are: a step costs the same, and can't diverge
            seed=0,
            augment=lambda images: transform(images, randomness),
        )
    images, labels = data.x_train[:EVALUATION_BATCH], data.y_train[:EVALUATION_BATCH]
    began = time.perf_counter()  # the loop has warmed up everything but BatchNorm in eval mode
    training.evaluate(network, loss_function, data, images, labels)
    image = (time.perf_counter() - began) / len(labels)
    probes = 0.0
    if any(schema.probes_at_one_model(config)):
        batches = build.probe_batches(config, data)
        probes = sum(seconds_of_probes(config, data, network, batches).values())
    return Pace(step=fit.seconds / STEPS, image=image, probes=probes)


def seconds_of_training(config: Config, data: Dataset, pace: Pace) -> float:
    """Every step, with the looks at the training loss that may end it, and every evaluation."""
    images, tests = len(data.y_train), len(data.y_test)
    steps = build.total_steps(config, images)
    epoch = images // config.batch_size * config.batch_size
    seen = 2 * images + tests * (1 + steps * config.batch_size // max(epoch, tests))
    if config.stop.train_loss is not None or config.probe.early is not None:
        seen += min(MATCHED_LOSS_IMAGES, images) * (steps // config.stop.check_every)
    return steps * pace.step + seen * pace.image
