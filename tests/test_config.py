"""The schema: every option composes, every key is explained, every mistake gets one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from landscape_sweep import config as schema
from landscape_sweep.__main__ import conf_folder
from landscape_sweep.config import Config, ConfigError

CONF = conf_folder()
GROUPS = ("model", "optimizer", "data", "probe", "experiment")
OPTIONS = [
    f"{group}={file.stem}" for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))
]


def composed(*overrides: str) -> Config:
    """The configuration that Hydra composes of ``overrides``, checked."""
    from landscape_sweep.__main__ import add_plugins

    add_plugins()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return schema.load(compose("config", overrides=list(overrides)))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_group_composes(option: str) -> None:
    group, _, name = option.partition("=")
    config = composed(option)
    if group != "experiment":
        assert getattr(config, group).name == name


def test_defaults_are_section_5_of_the_framework() -> None:
    config = composed()
    assert (config.data.name, config.data.augment) == ("cifar10", "none")
    assert (config.batch_size, config.epochs) == (128, 20)
    assert (config.optimizer.name, config.optimizer.momentum) == ("sgd", 0.9)
    assert (config.optimizer.lr, config.optimizer.schedule) == (0.01, "cosine")
    assert config.optimizer.weight_decay == 5e-4
    assert config.probe.sharpness is not None
    assert config.probe.sharpness.rho == 0.05
    assert config.probe.hessian is not None
    assert (config.probe.hessian.k, config.probe.hessian.iterations) == (20, 150)
    assert config.probe.surface is not None
    assert config.probe.surface.points == 15
    assert config.probe.connectivity is not None
    assert config.probe.connectivity.points == 15


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda f: f.stem)
def test_every_key_has_a_comment(file: Path) -> None:
    text = file.read_text()
    assert yaml.safe_load(text) is not None
    for line in text.splitlines():
        leaf = re.match(r"\s*([\w/]+):\s+\S", line)
        if leaf and not line.lstrip().startswith("#"):
            assert "#" in line, f"{file.name}: {line.strip()} has no comment"


@pytest.mark.parametrize("group", ["model", "optimizer", "data", "probe"])
def test_every_key_of_the_schema_stands_in_conf(group: str) -> None:
    prefix = f"{group}."
    known = {key for key, _ in schema.known_keys() if key.startswith(prefix)}
    given: set[str] = set()
    for file in (CONF / group).glob("*.yaml"):
        node = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        given |= {f"{prefix}{key}" for key in _dotted(node)}
    assert given == known


def _dotted(node: object, prefix: str = "") -> set[str]:
    keys: set[str] = set()
    if isinstance(node, dict):
        for name, value in node.items():
            keys |= {f"{prefix}{name}"} | _dotted(value, f"{prefix}{name}.")
    return keys


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("batch_size=0", "batch_size"),
        ("batch_size=abc", "batch_size"),
        ("batch_size=true", "batch_size"),
        ("batch_size=1.5", "batch_size"),
        ("optimizer.lr=-1", "optimizer.lr"),
        ("optimizer.lr=nan", "optimizer.lr"),
        ("optimizer.lr=inf", "optimizer.lr"),
        ("optimizer.momentum=1", "optimizer.momentum"),
        ("optimizer.schedule=step", "optimizer.schedule"),
        ("epochs=-1", "epochs"),
        ("epochs=null", "epochs"),
        ("data.label_noise=1.1", "data.label_noise"),
        ("device=tpu", "device"),
        ("deterministic=1", "deterministic"),
        ("probe.surface.points=4", "probe.surface.points"),
        ("probe.sharpness.draws=1", "probe.sharpness.draws"),
        ("+probe.rank.samples=300", "probe.rank.samples"),
        (
            "+probe.pac_bayes={sigma_min:2,sigma_max:1,sigmas:2,draws:9,delta:0.1}",
            "probe.pac_bayes.sigma_min",
        ),
        (
            "+probe.stationarity={k:5,burn_in:0,steps:19,replacement:true}",
            "probe.stationarity.steps",
        ),
        ("probe.hessian.product=eq13", "probe.hessian.product"),
        ("probe.hessian=5", "probe.hessian"),
        ("+probe.hessian.extra=5", "probe.hessian.extra"),
    ],
)
def test_a_bad_value_names_its_key_and_what_is_allowed(override: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        composed(override)
    assert caught.value.key == key
    assert len(str(caught.value).splitlines()) == 1
    assert re.search(r"takes|is not a key", caught.value.allowed)


def test_an_optimizer_that_a_probe_does_not_continue_is_told() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.name=adamw: .* takes sgd"):
        composed("probe=stationarity", "optimizer=adamw")


def test_identity_ignores_where_and_keeps_what(monkeypatch: pytest.MonkeyPatch) -> None:
    base = schema.config_hash(composed(), "cifar10")
    same = [
        composed("optimizer.lr=1e-2"),
        composed("optimizer.lr=0.010"),
        composed("batch_size=128", "model=cnn"),
        composed("device=cpu", "threads=3", "outputs=elsewhere", "resume=false"),
        composed("tracking.experiment_name=other", "data.root=there", "data.fallback=null"),
        composed("probe.name=mine"),
        composed("+data.path=elsewhere.npz", "rerun=abc", "dry_run=true"),
        composed("stop.checkpoint_every=3", "stop.checkpoint_minutes=null"),
        composed("stop={train_loss:null,steps:null,check_every:50}", "seed=0", "epochs=20"),
        composed("epochs=20", "seed=0", "hydra/launcher=basic", "optimizer.weight_decay=5.0E-4"),
    ]
    assert {schema.config_hash(c, "cifar10") for c in same} == {base}
    other = [
        composed("optimizer.lr=0.02"),
        composed("seed=1"),
        composed("model.norm=batch"),
        composed("probe.samples=100"),
        composed("~probe.gradient_noise"),
        composed("stop.steps=5"),
        composed("deterministic=false"),
    ]
    hashes = {schema.config_hash(c, "cifar10") for c in other}
    assert base not in hashes
    assert len(hashes) == len(other)
    assert schema.config_hash(composed(), "digits (fallback for cifar10)") != base
    monkeypatch.setattr(schema, "RESULT_VERSION", schema.RESULT_VERSION + 1)
    assert schema.config_hash(composed(), "cifar10") != base


def test_probes_decide_the_result_and_not_the_training() -> None:
    standard, full = composed("probe=standard"), composed("probe=full")
    assert schema.train_hash(standard, "cifar10") == schema.train_hash(full, "cifar10")
    assert schema.config_hash(standard, "cifar10") != schema.config_hash(full, "cifar10")
    base = schema.train_hash(standard, "cifar10")
    for override in ("seed=1", "optimizer.lr=0.02", "stop.train_loss=0.1", "data.label_noise=0.1"):
        assert schema.train_hash(composed(override), "cifar10") != base
    assert schema.train_hash(standard, "digits (fallback for cifar10)") != base
    assert schema.probes_of_training(standard) == {}
    assert schema.probes_of_training(full)["probe.early.epoch"] == 1


@pytest.mark.parametrize("option", OPTIONS)
def test_a_configuration_survives_json(option: str) -> None:
    config = composed(option)
    assert schema.from_json(schema.as_json(config)) == config


MISTAKES = [
    (["model=foo"], "model=foo: takes one of cnn, mlp, resnet"),
    (["hydra/launcher=foo"], "hydra/launcher=foo: takes one of"),
    (["experiment=foo"], "experiment=foo: takes one of "),
    (["optimzer.lr=1"], "optimzer.lr=1: is not a key; the nearest is optimizer.lr"),
    (["model.widht=3"], "model.widht=3: is not a key; the nearest is model.width"),
    (["lr=1"], "lr=1: is not a key; the nearest is optimizer.lr"),
    (["probe.hesian.k=3"], "probe.hesian.k=3: is not a key; the nearest is probe.hessian.k"),
    (
        ["optimizer.learning_rate=1"],
        "optimizer.learning_rate=1: is not a key; the nearest is optimizer.lr",
    ),
    (["optimizer.beta1=0.5"], "optimizer.beta1=0.5: does not apply to this choice of optimizer"),
    (["+model=cnn"], "model=cnn: takes no +, for it is there: model=cnn"),
    (["+experiment=quickstart"], "experiment=quickstart: takes no +, for it is there"),
    (["probe.rank.samples=9"], "probe.rank.samples=9: does not apply to this choice of probe; +"),
    (["+probe.measures=true"], "probe.measures=True: takes {}: it has no keys"),
    (
        ["-m", "hydra.sweeper.n_trials=3"],
        "hydra.sweeper.n_trials=3: does not apply to this choice of hydra/sweeper",
    ),
    (["rerun=abc"], "tracking.uri=sqlite:///outputs/mlflow.db: there is no such file; outputs="),
    (["batch_size=1,2"], "batch_size=1,2: takes one value; add -m"),
    (["batch_size=[1"], "batch_size=[1: is not of the form key=value"),
    (["batch_size=0"], "batch_size=0: takes an integer ≥ 1"),
    (["data=digits", "batch_size=2000"], "batch_size=2000: takes at most 1437"),
    (["data=digits", "data.train_size=1438"], "data.train_size=1438: takes"),
    (["data.train_size=60000"], "data.train_size=60000: takes"),
    (["data=npz"], "data.path=null:"),
    (["data=npz", "data.path=nope.npz"], "data.path=nope.npz: no such file"),
    (["probe.hessian.k=99999999"], "probe.hessian.k=99999999: takes at most 1422218"),
    (["data=digits", "probe.samples=1438"], "probe.samples=1438: takes at most 1437"),
    (["outputs=a_file"], "outputs=a_file"),
    (["tracking.uri=nowhere"], "tracking.uri=nowhere: takes"),
    (["tracking.uri=http://127.0.0.1:9"], "tracking.uri=http://127.0.0.1:9: can't be used"),
    (["-m", "data=digits", "batch_size=32,0"], "batch_size=0: takes"),
    (["-m", "data=digits", "model=cnn,foo"], "model=foo: takes one of cnn, mlp, resnet"),
]


@pytest.mark.parametrize(("arguments", "line"), MISTAKES, ids=lambda v: " ".join(v)[:40])
def test_a_mistake_ends_with_one_line_and_status_2(
    command, tmp_path: Path, arguments: list[str], line: str
) -> None:
    (tmp_path / "a_file").write_text("not a folder")
    ended = command(*arguments)
    assert ended.status == 2
    assert ended.err.startswith(f"landscape_sweep: {line}")
    assert len(ended.err.strip().splitlines()) == 1
    assert ended.out.strip() == ""  # nothing was read, nothing was run


def test_cuda_without_a_device_is_said(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ended = command("device=cuda")
    assert ended.status == 2
    assert ended.err.startswith("landscape_sweep: device=cuda: there is no CUDA device here")


def test_help_says_how_to_sweep_and_where_keys_are_explained(command) -> None:
    ended = command("--help")
    assert ended.status == 0
    for words in (
        "-m model=cnn,resnet",
        "hydra/launcher=parallel",
        "hydra/sweeper=optuna",
        "conf/",
    ):
        assert words in ended.out
