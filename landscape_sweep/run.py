"""One run, top to bottom, in the order of the framework's section 5: train, probe, log."""

from __future__ import annotations

import json
import logging
import math
import tempfile
import traceback
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch import Tensor, nn

from landscape_sweep import build, names, tracking, training
from landscape_sweep import config as schema
from landscape_sweep.check import check
from landscape_sweep.config import Config
from landscape_sweep.data import Dataset
from landscape_sweep.estimate import IN_TRAINING, Estimates, left_out
from landscape_sweep.fit import fit_network, remove_checkpoints
from landscape_sweep.measure import probe
from landscape_sweep.progress import duration

log = logging.getLogger("landscape_sweep")


def main(composed: DictConfig, watch: tracking.Watch | None = None) -> str | None:
    """Run what Hydra composed and log it; returns the MLflow run id, or none from a dry run.

    ``watch`` sees every metric as it is logged, and may raise ``tracking.Pruned`` to end the run.

    Raises:
        ConfigError: a user's mistake, before any image is read.
    """
    asked = schema.load(composed)
    check(asked)
    if asked.dry_run:
        look(asked)
        return None
    if asked.sweep.id is not None:
        tracking.expect(asked.tracking.uri)  # the sweep's driver has had its answers
    store = tracking.connect(asked.tracking.uri, asked.tracking.experiment_name, asked.outputs)
    data = build.dataset(asked)
    training_name = schema.train_hash(asked, data.name)
    config, trained = at_stored_weights(store, asked, training_name)
    identity = schema.config_hash(config, data.name)
    unasked = [p for p in schema.in_training(asked) if p not in schema.in_training(config)]
    overrides = [*HydraConfig.get().overrides.task, *(f"probe.{p}=null" for p in unasked)]
    tags = {
        "label": names.label(config),
        "config.hash": identity,
        "train.hash": training_name,
        "train.probes": json.dumps(schema.probes_of_training(config)),
        "command": names.command([*overrides, "resume=false"], config),
        "sweep.number": str(config.sweep.number),
        "sweep.id": config.sweep.id or "",
    }
    with _alone(store, config) as lock:
        record = tracking.open_run(
            store, names.name(config), {**tags, **lock}, config.sweep.parent_run_id
        )
        record.watch = watch
        log.info("%s seed%d on %s", names.label(config), config.seed, data.name)
        try:
            with tracking.recording(record):
                record.end(run(config, data, record, trained))
        except Exception as error:
            log.error("  failed: %s", tracking.trouble(error) or f"{type(error).__name__}: {error}")
            release(error)
            raise
    remove_checkpoints(config, identity)
    if config.sweep.id is None:
        log.info("run %s in %s", record.run_id, config.tracking.uri)
    return record.run_id


def _alone(store: tracking.Store, config: Config) -> AbstractContextManager[dict[str, str]]:
    """For a single run, what says that it is alive; a sweep's driver answers for its runs."""
    if config.sweep.id is not None:
        return nullcontext({})
    report_dead(store, config.outputs)
    return tracking.alive(config.outputs)


def report_dead(store: tracking.Store, outputs: str, sweep_id: str | None = None) -> None:
    """Close what a process that died left running, and say what: single runs, and a sweep's.

    ``sweep_id`` is of the sweep that this process drives.
    """
    of_sweep = tracking.close_stale(store, sweep_id) if sweep_id is not None else []
    for name in (*tracking.close_dead(store, outputs), *of_sweep):
        log.warning("  was left running by a process that died: %s", name)


def release(error: BaseException) -> None:
    """Let go of what the frames of a failed run hold: its network, its graph.

    A launcher keeps the error, and with it, out of memory, all that the next run needs.
    """
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__


def look(asked: Config) -> None:
    """Say how long the run would take; nothing is run, made or logged."""
    store = tracking.find_store(asked.tracking.uri, asked.tracking.experiment_name)
    data = build.dataset(asked)
    config, trained = asked, None
    if store is not None:
        config, trained = at_stored_weights(store, asked, schema.train_hash(asked, data.name))
    seconds = duration(Estimates().seconds(config, data, trained))
    weights = f" with the weights of run {trained}" if trained else ""
    without = "" if trained else left_out([config], IN_TRAINING)
    log.info(
        "%s%s: about %s at most%s; nothing was run",
        *(names.name(config), weights, seconds, without),
    )


def run(config: Config, data: Dataset, record: tracking.RunLog, trained: str | None = None) -> str:
    """Train and probe one network; everything found goes to ``record``. Returns the outcome.

    ``trained`` is a finished run whose training was the same: its weights are taken instead.
    """
    build.prepare_torch(config, data)
    record.params({**schema.flat(config), "data.loaded": data.name})
    record.text(schema.as_json(config), tracking.CONFIG)
    path: list[Tensor] | None = [] if schema.needs_trajectory(config) else None
    network = recall(config, data, trained, record) if trained else None
    if network is None:
        network = build.network(config, data)
        outcome = train(config, data, network, record, path)
        if outcome != "completed":
            return outcome
    probe(config, data, network, record, path)
    return "completed"


def at_stored_weights(
    store: tracking.Store, config: Config, train_hash: str
) -> tuple[Config, str | None]:
    """The configuration, and the finished run whose weights it takes in place of training.

    Probes that look at a network in training are left out, with ``rerun``, where stored weights
    can answer all others. In a sweep they are not: its cells are named by what was asked for.
    """
    trained = find_trained(store, config, train_hash) if config.resume else None
    if trained or not config.resume:
        return config, trained
    unseen = schema.in_training(config)
    told = ", ".join(f"probe.{name}" for name in unseen)
    reduced = schema.without_probes(config, unseen)
    trained = find_trained(store, reduced, train_hash) if unseen else None
    if trained is None:
        if config.rerun:
            log.info("no weights of this training are stored: training")
        return config, None
    if config.rerun and not config.sweep.id:
        log.info(
            "left out, as stored weights can't answer all of them: %s (resume=false trains again)",
            told,
        )
        return reduced, trained
    log.info("training again, as stored weights can't answer all of: %s", told)
    return config, None


def find_trained(store: tracking.Store, config: Config, train_hash: str) -> str | None:
    """A finished run with the weights of ``config`` and all that it measures in training."""
    if schema.needs_trajectory(config):
        return None  # the weights along training are not stored
    wanted = schema.probes_of_training(config).items()
    for run_id, measured in tracking.find_trained(store, train_hash, first=config.rerun):
        if wanted <= json.loads(measured).items():
            return run_id
    return None


def recall(
    config: Config, data: Dataset, trained: str, record: tracking.RunLog
) -> nn.Module | None:
    """The network of a finished run, and all that its training logged; None where it is damaged."""
    network = build.network(config, data)
    try:
        with tracking.read_file(record.store, trained, tracking.WEIGHTS) as file:
            training.load_weights(network, file)
        journal = tracking.read_text(record.store, trained, tracking.JOURNAL)
        record.replay(tracking.journal_from_json(journal))
    except (OSError, ValueError, RuntimeError) as error:
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
    uncertain = training.loss_standard_error(network, loss_function, data, data.x_test, data.y_test)
    record.metrics(
        {
            "test/loss_se": uncertain,
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
            "measure/test_images": len(data.y_test),
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


def save(network: nn.Module, record: tracking.RunLog) -> None:
    """The final weights, with the run, and what it took to get there."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, Path(tracking.WEIGHTS).name)
        training.save_weights(network, file)
        record.file(file, tracking.WEIGHTS)
    record.text(record.journal.as_json(), tracking.JOURNAL)
