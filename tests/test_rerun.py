"""``rerun=RUN_ID``: the stored configuration again, changed, or probed without training."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from mlflow.tracking import MlflowClient

from landscape_sweep import config as schema
from landscape_sweep import tracking
from landscape_sweep.__main__ import add_plugins, conf_folder
from landscape_sweep.config import Config
from landscape_sweep.rerun import overrides

TINY = (
    *("data=digits", "data.train_size=100", "model=mlp", "model.width=8"),
    *("epochs=1", "batch_size=20", "probe=none", "probe.samples=20", "+probe.early.epoch=1"),
)


def composed(*lines: str) -> Config:
    add_plugins()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return schema.load(compose("config", overrides=list(lines)))


@pytest.mark.parametrize(
    "lines",
    [
        ["experiment=noise_vs_flatness"],
        ["experiment=quickstart", "~probe.surface", "model.skip=false", "stop.steps=7"],
        ["model=mlp", "optimizer=adamw", "probe=full", "data=digits", "data.train_size=99"],
        ["probe=fast", "probe.name=mine", "+probe.rank.samples=3", "optimizer.lr=1e-5"],
        ["probe.connectivity=null", "data.root='a, b\\'s {c}'", "deterministic=false"],
    ],
)
def test_a_stored_configuration_comes_back_in_every_key(lines: list[str]) -> None:
    stored = schema.from_json(schema.as_json(composed(*lines)))
    again = composed(*overrides(stored, conf_folder(), chosen=[]))
    where = {"tracking": again.tracking, "rerun": None}
    assert again == dataclasses.replace(stored, **where)
    assert again.tracking.experiment_name == stored.tracking.experiment_name


def test_a_chosen_group_takes_the_place_of_what_was_stored() -> None:
    stored = composed("model=resnet", "model.width=4", "probe=full", "batch_size=9")
    again = composed(*overrides(stored, conf_folder(), chosen=["model"]), "model=cnn")
    assert again.model == composed("model=cnn").model
    assert (again.probe, again.batch_size) == (stored.probe, 9)


def found(name: str = "landscape_sweep"):
    """Every run of an experiment but the sweeps' own, oldest first."""
    client = MlflowClient(f"sqlite:///{Path('outputs/mlflow.db').absolute()}")
    experiment = client.get_experiment_by_name(name).experiment_id
    where = "tags.`config.hash` != ''"
    return client.search_runs([experiment], where, order_by=["start_time ASC"])


def values(run) -> dict[str, float]:
    return {k: v for k, v in run.data.metrics.items() if k != "train/seconds"}


def test_once_more_changed_and_probed(command, monkeypatch: pytest.MonkeyPatch) -> None:
    from landscape_sweep import training

    assert command(*TINY, "seed=3").status == 0
    (first,) = found()
    assert "early/lambda_max" in first.data.metrics
    asked = f"rerun={first.info.run_id}"

    # Probes alone: whoever trains now fails.
    with monkeypatch.context() as patch:
        patch.setattr(training, "train", None)
        probes = ("probe=rank", "probe.rank.samples=5", "probe.samples=20")
        ended = command(*probes, "+probe.dynamics.every=1", asked)
    assert ended.status == 0
    assert "left out, as stored weights can't answer all of them: probe.dynamics" in ended.out
    probed = found()[1]
    assert probed.data.tags["weights.from"] == first.info.run_id
    assert probed.data.tags["train.hash"] == first.data.tags["train.hash"]
    assert "rank/ggn" in probed.data.metrics
    assert "dynamics/lambda_max" not in probed.data.metrics
    assert probed.data.metrics["train/loss"] == first.data.metrics["train/loss"]

    # Its command, pasted into a shell, trains and measures the same, and needs no stored run.
    words = shlex.split(probed.data.tags["command"])[3:]
    assert not [word for word in words if word.startswith("rerun")]
    assert command(*words, "tracking.experiment_name=again").status == 0
    (again,) = found("again")
    assert again.data.tags["config.hash"] == probed.data.tags["config.hash"]
    assert again.data.metrics["rank/ggn"] == probed.data.metrics["rank/ggn"]
    assert again.data.metrics["train/loss"] == first.data.metrics["train/loss"]

    # The very same, trained again; then with another model and seeds, as a sweep.
    assert command(asked).status == 0
    same = found()[2]
    assert same.data.tags["config.hash"] == first.data.tags["config.hash"]
    assert "weights.from" not in same.data.tags
    assert values(same) == values(first)
    ended = command("-m", asked, "+probe.dynamics.every=1")
    assert "training again, as stored weights can't answer all of: probe.early, probe.dynamics" in (
        ended.out
    )
    assert "dynamics/lambda_max" in found()[3].data.metrics
    ended = command("-m", asked, "model=cnn", "model.width=2", "seed=0,1")
    assert ended.status == 0
    for run, seed in zip(found()[4:], "01", strict=True):
        keys = run.data.params
        assert (keys["model.name"], keys["model.width"], keys["seed"]) == ("cnn", "2", seed)
        assert (keys["epochs"], keys["data.train_size"]) == ("1", "100")


def test_a_run_that_is_not_there_is_one_line(command) -> None:
    ended = command("rerun=")
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "rerun=: takes the id of a run" in ended.err
    assert command("rerun=null", "data=digits", "probe=none", "dry_run=true").status == 0
    ended = command("rerun=abc")
    assert ended.status == 2
    assert "mlflow.db: there is no such file; outputs=FOLDER names" in ended.err
    assert not Path("outputs/mlflow.db").exists()  # nothing is made where something was to be read
    store = tracking.connect("sqlite:///outputs/mlflow.db", "some", "outputs")
    ended = command("rerun=abc")
    assert ended.status == 2
    assert ended.err.startswith("landscape_sweep: rerun=abc: can't be read in sqlite:///")
    assert len(ended.err.strip().splitlines()) == 1
    record = tracking.open_run(store, "empty", {})
    ended = command(f"rerun={record.run_id}")
    assert (ended.status, len(ended.err.strip().splitlines())) == (2, 1)
    assert "has no stored configuration" in ended.err
    record.text("{", tracking.CONFIG)
    ended = command(f"rerun={record.run_id}")
    assert (ended.status, len(ended.err.strip().splitlines())) == (2, 1)
    assert "damaged" in ended.err
    ended = command("rerun=abc", "experiment=quickstart")
    assert (ended.status, len(ended.err.strip().splitlines())) == (2, 1)
