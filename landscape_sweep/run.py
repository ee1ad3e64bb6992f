"""One run, top to bottom, in the order of the framework's section 5: train, probe, log."""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import inspect
import json
import logging
import math
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.utils.flop_counter import FlopCounterMode

from landscape_sweep import config as schema
from landscape_sweep import data as datasets
from landscape_sweep import figures, models, tracking, training
from landscape_sweep.config import Config, ConfigError
from landscape_sweep.data import Dataset
from landscape_sweep.progress import Progress, duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from landscape_sweep.probes import Batches, Dynamics, Loss, Measurement

log = logging.getLogger("landscape_sweep")

PROBE_BATCH = 256
"""Images in one batch of the probes."""

SMALL_STEP_FLOPS = 4e8
"""A forward pass below this takes 0.8 to 1.05 of the time with a second thread, and many times
as long where another process is busy: OpenMP's threads spin while they wait for each other."""

ALL_THREADS = torch.get_num_threads()
"""What torch chose for this machine, or OMP_NUM_THREADS, before any run changed it."""

SAID_SECONDS = 10.0
"""A probe that will take longer than this is announced with its estimated time."""

MILESTONE = 0.5
"""``train/steps_to_loss`` counts the steps to this clean training loss (conjecture 1.3)."""

NOT_AT_THE_END = ("connectivity", "dynamics", "early")
"""Probes that look at a pair of networks, or at one that is still in training."""


def main(composed: DictConfig) -> str:
    """Run what Hydra composed and log it; returns the MLflow run id.

    Raises:
        ConfigError: a user's mistake, before any image is read.
    """
    config = schema.load(composed)
    check(config)
    store = tracking.connect(config.tracking.uri, config.tracking.experiment_name, config.outputs)
    data = dataset(config)
    training_name = schema.train_hash(config, data.name)
    trained = find_trained(store, config, training_name) if config.resume else None
    record = tracking.open_run(
        store,
        name=name(config),
        tags={
            "label": label(config),
            "config.hash": schema.config_hash(config, data.name),
            "train.hash": training_name,
            "train.probes": json.dumps(schema.probes_of_training(config)),
            "command": command([*HydraConfig.get().overrides.task, "resume=false"], config),
            "sweep.number": str(config.sweep.number),
            "sweep.id": config.sweep.id or "",
        },
        parent_run_id=config.sweep.parent_run_id,
    )
    log.info("%s seed%d on %s", label(config), config.seed, data.name)
    try:
        with tracking.recording(record):
            record.end(run(config, data, record, trained))
            training.remove_checkpoints(checkpoint_file(config, data))
    except Exception as error:
        log.error("  failed: %s: %s", type(error).__name__, error)
        raise
    return record.run_id


def run(config: Config, data: Dataset, record: tracking.RunLog, trained: str | None = None) -> str:
    """Train and probe one network; everything found goes to ``record``. Returns the outcome.

    ``trained`` is a finished run whose training was the same: its weights are taken instead.
    """
    prepare_torch(config, data)
    record.params({**schema.flat(config), "data.loaded": data.name})
    record.text(schema.as_json(config), tracking.CONFIG)
    path: list[Tensor] | None = [] if needs_trajectory(config) else None
    network = recall(config, data, trained, record) if trained else None
    if network is None:
        network = build(config, data)
        outcome = train(config, data, network, record, path)
        if outcome != "completed":
            return outcome
    probe(config, data, network, record, path)
    return "completed"


def find_trained(store: tracking.Store, config: Config, train_hash: str) -> str | None:
    """A finished run with the weights of ``config`` and all that it measures in training."""
    if needs_trajectory(config):
        return None  # the weights along training are not stored
    wanted = schema.probes_of_training(config).items()
    for run_id, measured in tracking.find_trained(store, train_hash):
        if wanted <= json.loads(measured).items():
            return run_id
    return None


def recall(
    config: Config, data: Dataset, trained: str, record: tracking.RunLog
) -> nn.Module | None:
    """The network of a finished run, and all that its training logged; None where it is damaged."""
    network = build(config, data)
    try:
        training.load_weights(network, tracking.read_file(record.store, trained, tracking.WEIGHTS))
        journal = tracking.read_text(record.store, trained, tracking.JOURNAL)
        record.replay(tracking.journal_from_json(journal))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        log.warning("  the weights of run %s can't be used: %s; training again", trained, error)
        return None
    record.tags({"weights.from": trained})
    log.info("  weights of run %s, whose training was the same (resume=false trains)", trained)
    return network


def train(
    config: Config,
    data: Dataset,
    network: nn.Module,
    record: tracking.RunLog,
    path: list[Tensor] | None = None,
) -> str:
    """Train ``network`` and keep its weights with the run; ``path`` as in ``fit_network``.

    Returns the outcome.
    """
    loss_function = training.loss_function(config.loss)
    initial = [parameter.detach().clone() for parameter in network.parameters()]
    initial_loss, _ = training.evaluate(network, loss_function, data, data.x_train, data.y_train)
    fit, (test_loss, test_accuracy) = fit_network(config, data, network, record, path)

    loss, accuracy = training.evaluate(network, loss_function, data, data.x_train, data.y_train)
    record.metrics(
        {
            "train/loss": loss,
            "train/accuracy": accuracy,
            "train/initial_loss": initial_loss,
            "train/steps": fit.steps,
            "train/lr_sum": fit.lr_sum,
            "train/seconds": fit.seconds,
            "gap/loss": test_loss - loss,
            "gap/accuracy": accuracy - test_accuracy,
            "measure/parameters": sum(p.numel() for p in network.parameters()),
            "measure/train_images": len(data.y_train),
            "measure/norm": norm(network.parameters()),
            "measure/distance": norm(
                p - start for p, start in zip(network.parameters(), initial, strict=True)
            ),
        }
    )
    if fit.steps_to_milestone is not None:
        record.metrics({"train/steps_to_loss": fit.steps_to_milestone})
    if fit.outcome == "diverged" or not np.isfinite(loss):
        log.info("  diverged after %d steps: nothing to probe", fit.steps)
        return "diverged"
    log.info(
        "  train loss %.4f  test loss %.4f  test accuracy %.2f%%  (%d steps, %s)",
        *(loss, test_loss, 100 * test_accuracy, fit.steps, duration(fit.seconds)),
    )
    save(network, record)
    return "completed"


def norm(tensors: Iterable[Tensor]) -> float:
    """‖θ‖, the Euclidean norm of all entries together, summed in float64."""
    return math.sqrt(sum(float(tensor.detach().double().square().sum()) for tensor in tensors))


# ---------------------------------------------------------------- before the run


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
        _check_size(config, config.data.train_size or spec.train)
        with torch.device("meta"):
            network = models.build(
                config.model.name, shape=spec.shape, classes=spec.classes, **_options(config)
            )
    except ValueError as error:
        raise _mistake(error) from error
    parameters = sum(p.numel() for p in network.parameters())
    hessian = config.probe.hessian
    if hessian and hessian.k > parameters:
        raise ConfigError(
            "probe.hessian.k", hessian.k, f"takes at most {parameters} (the network's parameters)"
        )


def _check_size(config: Config, images: int) -> None:
    """A batch and the probes' images must fit into the training set."""
    watched = config.probe.dynamics is not None or config.probe.early is not None
    probed = watched or any(True for _ in probes_at_one_model(config))
    sizes = {"batch_size": config.batch_size, "probe.samples": config.probe.samples * probed}
    for key, value in sizes.items():
        if value > images:
            raise ConfigError(key, value, f"takes at most {images} (training images)")


def _mistake(error: ValueError) -> ConfigError:
    """A data set's or a model's complaint about a key, as a configuration error."""
    key, value = getattr(error, "key", None), getattr(error, "value", None)
    if key is None:
        raise error
    problem = getattr(error, "problem", "")
    allowed = f"takes {getattr(error, 'allowed', '')}"
    return ConfigError(key, value, f"{problem}; {allowed}" if problem else allowed)


def _check_writable(folder: str) -> None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError("outputs", folder, f"can't be written: {error.strerror}") from error


def name(config: Config) -> str:
    """What a run is called."""
    return f"{label(config)} seed{config.seed}"


def label(config: Config) -> str:
    """What tells configurations of a sweep apart, seeds left out."""
    values = schema.flat(config)
    words = [f"{config.model.name} bs{config.batch_size} lr{config.optimizer.lr:g}"]
    for key in (config.sweep.varied or "").split():
        if key not in ("batch_size", "optimizer.lr", "seed", "model", "model.name"):
            value = values.get(key, values.get(f"{key}.name"))  # of a key, or of a group's option
            words.append(f"{key.rpartition('.')[2]}={'null' if value is None else value}")
    return " ".join(words)


def command(overrides: Sequence[str], config: Config) -> str:
    """A line that repeats exactly this run when pasted into a shell."""
    told = [text for text in overrides if not text.lstrip("+").startswith("sweep.")]
    told = list({text.partition("=")[0]: text for text in told}.values())  # the last one holds
    if config.data.root is not None and not any(t.startswith("data.root=") for t in told):
        told.append(f"data.root={config.data.root}")  # it may have come from the environment
    return shlex.join(["python", "-m", "landscape_sweep", *told])


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
        raise _mistake(error) from error
    _check_size(config, len(data.y_train))
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


def prepare_torch(config: Config, data: Dataset) -> None:
    """Threads and determinism, for the whole process."""
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
        network = models.build(
            config.model.name, shape=data.shape, classes=data.classes, **_options(config)
        )
        network(torch.empty(config.batch_size, *data.shape))
    small = counter.get_total_flops() < SMALL_STEP_FLOPS
    return 1 if small else ALL_THREADS


def derived_seed(seed: int, purpose: str) -> int:
    """An independent seed for one purpose (``init``, ``order``, ``augment``)."""
    words = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def shared_seed(config: Config) -> int:
    """The seed of what runs have in common before they fork: initialisation and first steps."""
    return config.seed if config.fork_step is None else config.fork_seed


def _options(config: Config) -> dict[str, Any]:
    """The model's own keys, as its constructor takes them."""
    options = dataclasses.asdict(config.model)
    return {k: v for k, v in options.items() if v is not None and k != "name"}


def build(config: Config, data: Dataset) -> nn.Module:
    """The network at initialisation, drawn from its own seed, on the device of ``data``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(shared_seed(config), "init"))
        network = models.build(
            config.model.name, shape=data.shape, classes=data.classes, **_options(config)
        )
    return network.to(data.x_train.device)


# ---------------------------------------------------------------- training


def total_steps(config: Config, data: Dataset) -> int:
    """``stop.steps`` where it is given, else ``epochs`` times the whole batches of an epoch."""
    if config.stop.steps is not None:
        return config.stop.steps
    return config.epochs * (len(data.y_train) // config.batch_size)


def needs_trajectory(config: Config) -> bool:
    """Whether a probe looks at the weights along training."""
    return config.probe.surface is not None and config.probe.surface.directions == "trajectory"


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
    steps, began = total_steps(config, data), time.monotonic()
    keys = dataclasses.asdict(config.optimizer)
    schedule = keys.pop("schedule")
    optimizer = training.optimizer(
        network.parameters(), **{k: v for k, v in keys.items() if v is not None}
    )
    generator = torch.Generator(data.x_train.device)
    generator.manual_seed(derived_seed(shared_seed(config), "augment"))
    transform = datasets.augment(config.data.augment)
    loss_function = training.loss_function(config.loss)

    def test(epoch: int) -> tuple[float, float]:
        loss, accuracy = training.evaluate(network, loss_function, data, data.x_test, data.y_test)
        record.metrics({"test/loss": loss, "test/accuracy": accuracy}, epoch)
        return loss, accuracy

    trajectory = dynamics(config, data)
    look = watch(config, data, network, record, trajectory)
    tested: tuple[float, float] | None = None  # at the last epoch
    untested = 0  # images trained on since
    file = checkpoint_file(config, data)

    def keep_weights() -> None:
        if path is not None:
            path.append(parameters_to_vector(network.parameters()).detach().cpu())

    def on_epoch(epoch: training.Epoch) -> None:
        nonlocal tested, untested
        keep_weights()
        fitted = {"fit/loss": epoch.loss, "fit/accuracy": epoch.accuracy, "fit/lr": epoch.lr}
        record.metrics(fitted, epoch.number)
        look(epoch.number)
        tested, untested = None, untested + epoch.steps * config.batch_size
        if untested < len(data.y_test):
            return  # epochs of few images: testing each would cost more than training
        tested, untested = test(epoch.number), 0
        left = (time.monotonic() - began) * (steps - epoch.step) / epoch.step
        log.info(
            "  epoch %2d  loss %.4f  accuracy %5.1f%%  test %5.1f%%  step %d of %d, %s left",
            *(epoch.number, epoch.loss, 100 * epoch.accuracy, 100 * tested[1]),
            *(epoch.step, steps, duration(left)),
        )

    fork = None
    if config.fork_step is not None:
        fork = (config.fork_step, derived_seed(config.seed, "order"))

    def on_step(step: int) -> None:
        if step == config.fork_step:
            generator.manual_seed(derived_seed(config.seed, "augment"))
        progress(step, steps)

    def on_checkpoint(checkpoint: training.Checkpoint) -> None:
        checkpoint.tensors["augment"] = generator.get_state()
        checkpoint.tensors |= {f"path.{i}": weights for i, weights in enumerate(path or [])}
        checkpoint.state |= {"tested": tested, "untested": untested, "path": len(path or [])}
        if trajectory is not None:
            direction, checkpoint.state["traces"] = trajectory.memory()
            if direction is not None:
                checkpoint.tensors["direction"] = direction.cpu()
        checkpoint.state["journal"] = record.journal.as_json()
        try:
            training.write_checkpoint(checkpoint, file)
        except OSError as error:
            log.warning("  no checkpoint at step %d: %s", checkpoint.state["fit"]["steps"], error)

    start = find_checkpoint(file, record) if config.resume else None
    if start is None:
        look(0)
        keep_weights()
    else:
        generator.set_state(start.tensors["augment"])
        tested = tuple(start.state["tested"]) if start.state["tested"] else None
        untested = start.state["untested"]
        if path is not None:
            path += [start.tensors[f"path.{i}"] for i in range(start.state["path"])]
        if trajectory is not None:
            direction = start.tensors.get("direction")
            there = None if direction is None else direction.to(data.x_train.device)
            trajectory.remember(there, start.state["traces"])
    with Progress("training") as progress:
        if start is None:
            on_step(0)
        fit = training.train(
            network,
            data,
            optimizer,
            loss_function,
            batch_size=config.batch_size,
            steps=steps,
            schedule=schedule,
            lr=config.optimizer.lr,
            seed=derived_seed(shared_seed(config), "order"),
            fork=fork,
            augment=None if config.data.augment == "none" else lambda x: transform(x, generator),
            stop_train_loss=config.stop.train_loss,
            milestone=MILESTONE if config.probe.early else None,
            check_every=config.stop.check_every,
            on_epoch=on_epoch,
            on_step=on_step,
            start=start,
            checkpoint_every=steps_between_checkpoints(config, data),
            on_checkpoint=on_checkpoint,
        )
    return fit, tested or test(len(fit.epochs))


def checkpoint_file(config: Config, data: Dataset) -> Path:
    """Where the checkpoints of a configuration are, on this kind of device."""
    name = schema.config_hash(config, data.name)
    kind = data.x_train.device.type  # bits, and generators, differ between them
    return Path(config.outputs, "checkpoints", f"{name}.{kind}.safetensors")


def steps_between_checkpoints(config: Config, data: Dataset) -> int | None:
    """``stop.checkpoint_every``, in steps; None for no checkpoints."""
    epochs = config.stop.checkpoint_every
    if epochs is None:
        return None
    return max(1, round(epochs * (len(data.y_train) // config.batch_size)))


def find_checkpoint(file: Path, record: tracking.RunLog) -> training.Checkpoint | None:
    """The newest whole checkpoint, with all that was logged up to it logged again."""
    for candidate in (file, training.previous(file)):
        try:
            found = training.read_checkpoint(candidate)
            journal = tracking.journal_from_json(found.state["journal"])
            record.replay(journal)
        except FileNotFoundError:
            continue
        except ValueError as error:
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

    return probes.Dynamics(training.loss_function(config.loss), probe_batches(config, data))


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
    batches = probe_batches(config, data)

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


def save(network: nn.Module, record: tracking.RunLog) -> None:
    """The final weights, with the run, and what it took to get there."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, Path(tracking.WEIGHTS).name)
        training.save_weights(network, file)
        record.file(file, tracking.WEIGHTS)
    record.text(record.journal.as_json(), tracking.JOURNAL)


# ---------------------------------------------------------------- probing


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


def probes_at_one_model(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and keys of every probe that is switched on and looks at the final network."""
    for spec in dataclasses.fields(config.probe):
        keys = getattr(config.probe, spec.name)
        if dataclasses.is_dataclass(keys) and spec.name not in NOT_AT_THE_END:
            yield spec.name, dataclasses.asdict(keys)  # type: ignore[arg-type]


def probe(
    config: Config,
    data: Dataset,
    network: nn.Module,
    record: tracking.RunLog,
    path: list[Tensor] | None = None,
) -> None:
    """Run every probe that is switched on, in eval mode, and log what it finds.

    A probe gets of what is ``offered`` that which its signature names.
    """
    network.eval()
    loss_function = training.loss_function(config.loss)
    batches = probe_batches(config, data)
    offered: dict[str, Callable[[], object]] = {
        "test_batches": lambda: test_batches(config, data),
        "train_batches": lambda: LazyBatches(data, data.x_train, data.y_train),
        "initial": lambda: build(config, data).eval(),
        "trajectory": lambda: path,
        "images": lambda: config.probe.samples,
        "classes": lambda: data.classes,
    }
    found: dict[str, float] = {}
    seconds = _seconds_of_a_pass(network, loss_function, batches)
    for name, keys in probes_at_one_model(config):
        module = importlib.import_module(f"landscape_sweep.probes.{name}")
        function = getattr(module, name)
        expected = seconds * module.passes(**keys, **_asked(module.passes, offered))
        if expected > SAID_SECONDS:
            log.info("  %s: about %s at most", name, duration(expected))
        began = time.monotonic()
        with Progress(name) as progress:
            measured: Measurement = function(
                network,
                loss_function,
                batches,
                **keys,
                **_asked(function, offered),
                progress=progress,
            )
        log_measurement(measured, record)
        if notes := measured.notes():
            log.info("  %s: %s", name, "; ".join(notes))
            record.tags({f"{name}.notes": "; ".join(notes)})
        found |= measured.metrics()
        log.info("  %s: %s", name, duration(time.monotonic() - began))
    if config.probe.sharpness and "hessian/lambda_max" in found:
        rho = config.probe.sharpness.rho
        record.metrics({"sharpness/second_order": 0.5 * rho**2 * found["hessian/lambda_max"]})
    record.flush()


def _asked(
    function: Callable[..., object], offered: Mapping[str, Callable[[], object]]
) -> dict[str, object]:
    """Of what is offered, that which a function's signature names; made only for it."""
    names = inspect.signature(function).parameters
    return {name: make() for name, make in offered.items() if name in names}


def log_measurement(measured: Measurement, record: tracking.RunLog) -> None:
    """Metrics, ranked metrics and tables of one probe."""
    record.metrics(measured.metrics())
    for metric, values in measured.series().items():
        for rank, value in enumerate(values, start=1):
            record.metrics({metric: value}, rank)
    tables = {path: pd.DataFrame(columns) for path, columns in measured.tables().items()}
    for path, table in tables.items():
        record.table(table, path)
    for path, picture in _pictures(tables):
        record.figure(picture, str(Path(path).with_suffix(".png")))


def _pictures(tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, Figure]]:
    """Tables of one run that are drawn too, each with its picture."""
    title = pd.Series({"": ""})
    run = pd.DataFrame({"run_id": [""], "label": [""], "model.name": [""]})
    of_run = {path: table.assign(run_id="") for path, table in tables.items()}
    for path, table in of_run.items():
        if path == tracking.SPECTRUM:
            yield path, figures.hessian_spectra(table, run)
        elif path == tracking.DENSITY:
            yield path, figures.spectral_density(table, run)
        elif path == tracking.SURFACE:
            yield path, figures.contours(table, title, of_run.get(tracking.MARKS))
        elif path == tracking.PROFILE:
            yield path, figures.profiles(table, of_run[tracking.PROFILE_CURVATURE])


def _seconds_of_a_pass(network: nn.Module, loss_function: Loss, batches: Batches) -> float:
    """Time of a forward and backward pass over all batches, estimated from the first batch."""
    inputs, targets = batches[0]
    elapsed = 0.0
    for _ in range(2):
        began = time.perf_counter()
        loss_function(network(inputs), targets).backward()
        if inputs.is_cuda:
            torch.cuda.synchronize()
        elapsed = time.perf_counter() - began
    network.zero_grad(set_to_none=True)
    return elapsed * sum(len(t) for _, t in batches) / len(targets)
