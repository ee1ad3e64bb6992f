"""Training one network: each epoch logged, looked at by probes, and kept in checkpoints."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from landscape_sweep import build, tracking, training
from landscape_sweep import config as schema
from landscape_sweep import data as datasets
from landscape_sweep.config import Config
from landscape_sweep.data import Dataset
from landscape_sweep.progress import Progress, duration

if TYPE_CHECKING:
    from landscape_sweep.probes import Dynamics

log = logging.getLogger("landscape_sweep")

MILESTONE = 0.5
"""``train/steps_to_loss`` counts the steps to this clean training loss (conjecture 1.3)."""


def fit_network(
    config: Config,
    data: Dataset,
    network: nn.Module,
    record: tracking.RunLog,
    path: list[Tensor] | None = None,
) -> tuple[training.Fit, tuple[float, float]]:
    """Train, logging each epoch as it ends; returns the last test loss and accuracy too.

    The weights before training and after each epoch, (p,) on the CPU, are added to ``path``.
    """
    fork = None
    if config.fork_step is not None:
        fork = (config.fork_step, build.derived_seed(config.seed, "order"))
    start = find_checkpoint(checkpoint_file(config, data), record) if config.resume else None
    with Progress("training") as progress:
        watched = Watched(config, data, network, record, path, progress)
        watched.begin(start)
        fit = training.train(
            network,
            data,
            build.optimizer(config, network),
            training.loss_function(config.loss),
            batch_size=config.batch_size,
            steps=build.total_steps(config, len(data.y_train)),
            schedule=config.optimizer.schedule,
            lr=config.optimizer.lr,
            seed=build.derived_seed(build.shared_seed(config), "order"),
            fork=fork,
            augment=None if config.data.augment == "none" else watched.augment,
            stop_train_loss=config.stop.train_loss,
            milestone=MILESTONE if config.probe.early else None,
            check_every=config.stop.check_every,
            on_epoch=watched.on_epoch,
            on_step=watched.on_step,
            start=start,
            checkpoint_every=steps_between_checkpoints(config, data),
            checkpoint_seconds=seconds_between_checkpoints(config),
            on_checkpoint=watched.on_checkpoint,
        )
    return fit, watched.tested or watched.test(len(fit.epochs))


class Watched:
    """One network in training: what is logged, tested, looked at and kept on the way."""

    def __init__(
        self,
        config: Config,
        data: Dataset,
        network: nn.Module,
        record: tracking.RunLog,
        path: list[Tensor] | None,
        progress: Progress,
    ) -> None:
        self._config, self._data, self._network = config, data, network
        self._record, self._path, self._progress = record, path, progress
        self._steps, self._began = build.total_steps(config, len(data.y_train)), time.monotonic()
        self._transform = datasets.augment(config.data.augment)
        self._randomness = torch.Generator(data.x_train.device)  # of the augmentation
        self._randomness.manual_seed(build.derived_seed(build.shared_seed(config), "augment"))
        self._trajectory = dynamics(config, data)
        self._look = watch(config, data, network, record, self._trajectory)
        self.tested: tuple[float, float] | None = None
        """Test loss and accuracy after the last epoch, where it was tested."""
        self._untested = 0  # images trained on since the last test

    def begin(self, start: training.Checkpoint | None) -> None:
        """At initialisation, or where a checkpoint was made."""
        if start is None:
            self._look(0)
            self._keep_weights()
            self.on_step(0)
            return
        self._randomness.set_state(start.tensors["augment"])
        self.tested = tuple(start.state["tested"]) if start.state["tested"] else None
        self._untested = start.state["untested"]
        if self._path is not None:
            self._path += [start.tensors[f"path.{i}"] for i in range(start.state["path"])]
        if self._trajectory is not None:
            direction = start.tensors.get("direction")
            there = None if direction is None else direction.to(self._data.x_train.device)
            self._trajectory.remember(there, start.state["traces"])

    def augment(self, images: Tensor) -> Tensor:
        """A batch of uint8 images, each moved and mirrored at random."""
        return self._transform(images, self._randomness)

    def test(self, epoch: int) -> tuple[float, float]:
        """Loss and accuracy on the test images, logged."""
        images, labels = self._data.x_test, self._data.y_test
        loss_function = training.loss_function(self._config.loss)
        loss, accuracy = training.evaluate(self._network, loss_function, self._data, images, labels)
        self._record.metrics({"test/loss": loss, "test/accuracy": accuracy}, epoch)
        return loss, accuracy

    def on_epoch(self, epoch: training.Epoch) -> None:
        """Log the epoch, and test where enough images have been trained on."""
        self._keep_weights()
        fitted = {"fit/loss": epoch.loss, "fit/accuracy": epoch.accuracy, "fit/lr": epoch.lr}
        self._record.metrics(fitted, epoch.number)
        self._look(epoch.number)
        self.tested = None
        self._untested += epoch.steps * self._config.batch_size
        if self._untested < len(self._data.y_test):
            return  # epochs of few images: testing each would cost more than training
        self.tested, self._untested = self.test(epoch.number), 0
        left = (time.monotonic() - self._began) * (self._steps - epoch.step) / epoch.step
        log.info(
            "  epoch %2d  loss %.4f  accuracy %5.1f%%  test %5.1f%%  step %d of %d, %s left",
            *(epoch.number, epoch.loss, 100 * epoch.accuracy, 100 * self.tested[1]),
            *(epoch.step, self._steps, duration(left)),
        )

    def on_step(self, step: int) -> None:
        """Show progress; at the fork, the augmentation goes on with the run's own seed."""
        if step == self._config.fork_step:
            self._randomness.manual_seed(build.derived_seed(self._config.seed, "augment"))
        self._progress(step, self._steps)

    def on_checkpoint(self, checkpoint: training.Checkpoint) -> None:
        """Add what is kept here to the loop's own state, and write it."""
        path = self._path or []
        checkpoint.tensors["augment"] = self._randomness.get_state()
        checkpoint.tensors |= {f"path.{i}": weights for i, weights in enumerate(path)}
        checkpoint.state |= {"tested": self.tested, "untested": self._untested, "path": len(path)}
        if self._trajectory is not None:
            direction, checkpoint.state["traces"] = self._trajectory.memory()
            if direction is not None:
                checkpoint.tensors["direction"] = direction.cpu()
        checkpoint.state["journal"] = self._record.journal.as_json()
        try:
            training.write_checkpoint(checkpoint, checkpoint_file(self._config, self._data))
        except OSError as error:
            log.warning("  no checkpoint at step %d: %s", checkpoint.state["fit"]["steps"], error)

    def _keep_weights(self) -> None:
        if self._path is not None:
            self._path.append(parameters_to_vector(self._network.parameters()).detach().cpu())


def checkpoint_file(config: Config, data: Dataset) -> Path:
    """Where the checkpoints of a configuration are, on this kind of device."""
    name = schema.config_hash(config, data.name)
    kind = data.x_train.device.type  # bits, and generators, differ between them
    return Path(config.outputs, "checkpoints", f"{name}.{kind}.safetensors")


def steps_between_checkpoints(config: Config, data: Dataset) -> int | None:
    """``stop.checkpoint_every``, in steps; None for no checkpoints by epochs."""
    epochs = config.stop.checkpoint_every
    if epochs is None:
        return None
    return max(1, round(epochs * (len(data.y_train) // config.batch_size)))


def seconds_between_checkpoints(config: Config) -> float | None:
    """``stop.checkpoint_minutes``, in seconds; None for no checkpoints by time."""
    minutes = config.stop.checkpoint_minutes
    return None if minutes is None else 60 * minutes


def remove_checkpoints(config: Config, identity: str) -> None:
    """Remove those of a configuration that has its result: whole ones, and begun ones of the dead.

    ``identity`` is its ``config.hash``.
    """
    for file in Path(config.outputs, "checkpoints").glob(f"{identity}.*"):
        file.unlink(missing_ok=True)


def find_checkpoint(file: Path, record: tracking.RunLog) -> training.Checkpoint | None:
    """The newest whole checkpoint, with all that was logged up to it logged again."""
    for candidate in (file, training.previous(file)):
        if not candidate.exists():
            continue
        try:
            found = training.read_checkpoint(candidate)
            journal = tracking.journal_from_json(found.state["journal"])
            record.replay(journal)
        except (FileNotFoundError, KeyError, ValueError) as error:
            log.warning("  checkpoint %s is damaged: %s; going on without it", candidate, error)
            continue
        record.tags({"continues": journal.run_id})
        log.info("  going on at step %d, where a run ended early", found.state["fit"]["steps"])
        return found
    return None


def dynamics(config: Config, data: Dataset) -> Dynamics | None:
    """The probe that remembers what it saw earlier in training, where it is switched on."""
    if config.probe.dynamics is None:
        return None
    from landscape_sweep import probes

    return probes.Dynamics(training.loss_function(config.loss), build.probe_batches(config, data))


def watch(
    config: Config,
    data: Dataset,
    network: nn.Module,
    record: tracking.RunLog,
    trajectory: Dynamics | None,
) -> Callable[[int], None]:
    """What looks at ``network`` in training; called with the number of epochs it has seen.

    Probes see a copy in eval mode, so that training gives the same bits with and without them.
    """
    keys, early = config.probe.dynamics, config.probe.early
    if keys is None and early is None:
        return lambda epochs: None
    from landscape_sweep import probes

    loss_function = training.loss_function(config.loss)
    batches = build.probe_batches(config, data)

    def look(epochs: int) -> None:
        due = keys is not None and epochs % keys.every == 0
        if not due and not (early is not None and epochs == early.epoch):
            return
        copied = copy.deepcopy(network).eval()
        if not math.isfinite(probes.loss_and_accuracy(copied, loss_function, batches)[0]):
            return  # training will end as diverged
        if due and trajectory is not None:
            record.metrics({**trajectory.look(copied), **trajectory.metrics()}, epochs)
        if early is not None and epochs == early.epoch:
            _, accuracy = training.evaluate(copied, loss_function, data, data.x_test, data.y_test)
            found = probes.early(copied, loss_function, batches).metrics()
            record.metrics({**found, "early/test_accuracy": accuracy}, epochs)

    return look
