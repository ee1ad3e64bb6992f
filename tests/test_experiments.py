"""The named protocols: every cell, at both sizes, is what the schema and the models allow."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from mlflow.tracking import MlflowClient
from omegaconf import DictConfig, OmegaConf, open_dict

from landscape_sweep import config as schema
from landscape_sweep import models
from landscape_sweep.__main__ import add_plugins, conf_folder
from landscape_sweep.sweeps.cells import varied

CONF = conf_folder()
SEARCHES = ["search"]
"""Experiments whose space is no grid."""
NAMES = sorted({file.stem for file in (CONF / "experiment").glob("*.yaml")} - {*SEARCHES})
SMALL = [name for name in NAMES if f"{name}_full" in NAMES]


@functools.cache
def composed(*overrides: str) -> DictConfig:
    add_plugins()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=True)


def grid(name: str) -> list[str]:
    params = composed(f"experiment={name}").hydra.sweeper.params
    return [f"{key}={value}" for key, value in params.items()]


@functools.cache
def without_hydra(*overrides: str) -> DictConfig:
    cell = composed(*overrides).copy()
    with open_dict(cell):
        del cell["hydra"]
    return cell


@functools.cache
def cells(name: str) -> list[schema.Config]:
    """Every combination, checked; options of groups are composed, single keys put in place."""
    parser = OverridesParser.create()
    (combinations,) = BasicSweeper.split_arguments(parser.parse_overrides(grid(name)), None)
    found = []
    for combination in combinations:
        overrides = parser.parse_overrides(list(combination))
        is_option = [
            (CONF / o.get_key_element()).is_dir() and isinstance(o.value(), str) for o in overrides
        ]
        options = [text for text, yes in zip(combination, is_option, strict=True) if yes]
        cell = without_hydra(f"experiment={name}", *options).copy()
        for override, yes in zip(overrides, is_option, strict=True):
            if not yes:
                OmegaConf.update(cell, override.get_key_element(), override.value(), merge=True)
        found.append(schema.load(cell))
    return found


@functools.cache
def network_is_possible(*options: tuple[str, object]) -> bool:
    keys = dict(options)
    models.build(str(keys.pop("name")), shape=(3, 32, 32), classes=10, **keys)
    return True


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_keeps_the_schema_and_its_sizes(name: str) -> None:
    found = cells(name)
    assert len({schema.config_hash(config, "data") for config in found}) == len(found)
    for config in found:
        images = config.data.train_size or 50_000
        assert config.batch_size <= images
        assert config.probe.samples <= images
        for part in (config.probe.rank, config.probe.conditioning):
            assert part is None or part.samples <= config.probe.samples
    for model in {tuple(vars(config.model).items()) for config in found}:
        assert network_is_possible(*(item for item in model if item[1] is not None))


@pytest.mark.parametrize("name", SMALL)
def test_both_sizes_ask_the_same_and_write_apart(name: str) -> None:
    small, full = composed(f"experiment={name}"), composed(f"experiment={name}_full")
    assert small.tracking.experiment_name == name
    assert full.tracking.experiment_name == f"{name}_full"
    assert set(small.hydra.sweeper.params) <= set(full.hydra.sweeper.params)
    assert len(cells(f"{name}_full")) >= len(cells(name))
    assert {config.seed for config in cells(name)} >= {0, 1, 2}


def test_theorem_1_is_tried_as_it_is_stated() -> None:
    for config in cells("noise_vs_flatness") + cells("noise_vs_flatness_full"):
        assert (config.optimizer.momentum, config.optimizer.weight_decay) == (0.0, 0.0)
        assert (config.optimizer.schedule, config.data.augment) == ("constant", "none")
    full = cells("noise_vs_flatness_full")
    assert any(
        config.batch_size == config.data.train_size and config.loss == "mse" for config in full
    )


def test_keys_that_vary_together_are_told_one_by_one() -> None:
    parser = OverridesParser.create()
    lines = ["stop={steps:9,train_loss:0.1},{steps:3,train_loss:null}", "seed=0,1", "epochs=2"]
    assert varied(parser.parse_overrides(lines)) == ["stop.steps", "stop.train_loss", "seed"]


def test_a_shrunken_experiment_runs(command) -> None:
    ended = command(
        *("-m", "experiment=noise_vs_flatness", "data=digits", "data.train_size=60"),
        *("probe.samples=20", "model.width=2", "batch_size=20", "optimizer.lr=0.05", "seed=0,1"),
        "stop={steps:40,train_loss:2.2},{steps:6,train_loss:null}",
    )
    assert ended.status == 0, ended.out + ended.err
    client = MlflowClient(f"sqlite:///{Path('outputs/mlflow.db').absolute()}")
    experiment = client.get_experiment_by_name("noise_vs_flatness")
    runs = client.search_runs([experiment.experiment_id], "tags.`config.hash` != ''")
    assert sorted(run.data.tags["label"] for run in runs) == sorted(
        2
        * [
            "cnn bs20 lr0.05 steps=40 train_loss=2.2",
            "cnn bs20 lr0.05 steps=6",
        ]
    )
    for run in runs:
        assert run.data.metrics["hessian/trace"] > 0
        assert run.data.metrics["noise/trace"] > 0
        if run.data.params["stop.train_loss"] == "null":
            assert run.data.metrics["train/steps"] == 6


def test_noise_is_watched_from_the_command_line(command) -> None:
    ended = command(
        *("experiment=stationary_noise", "data=digits", "data.train_size=60", "probe.samples=20"),
        *("model.width=3", "batch_size=5", "optimizer.lr=0.05", "optimizer.weight_decay=0.1"),
        *("stop.steps=20", "probe.stationarity={k:3,burn_in:5,steps:400,replacement:true}"),
    )
    assert ended.status == 0, ended.out + ended.err
    client = MlflowClient(f"sqlite:///{Path('outputs/mlflow.db').absolute()}")
    experiment = client.get_experiment_by_name("stationary_noise")
    (run,) = client.search_runs([experiment.experiment_id])
    assert {
        f"stationarity/{name}"
        for name in ("fdr_ratio", "loss_drift", "batch_sharpness", "frobenius", "directions")
    } <= set(run.data.metrics)
    assert run.data.metrics["stationarity/frobenius"] > 0
