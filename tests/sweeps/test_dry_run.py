"""``dry_run=true``: what would run is told, and nothing is run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from mlflow.tracking import MlflowClient

from landscape_sweep import build, training
from landscape_sweep import config as schema
from landscape_sweep.__main__ import add_plugins, conf_folder
from landscape_sweep.estimate import Pace, seconds_of_training
from landscape_sweep.training import loop

TINY = (
    *("data=digits", "data.train_size=100", "batch_size=20", "model=mlp", "model.width=8"),
    *("epochs=5", "probe=none"),
)


def test_a_dry_run_lists_the_grid_and_makes_nothing(command) -> None:
    ended = command("-m", *TINY, "seed=0,1", "dry_run=true")
    assert ended.status == 0
    assert "2 runs, 0 already finished, 2 to do" in ended.out
    assert not list(Path("outputs").rglob("*"))
    assert command(*TINY, "dry_run=true").status == 0
    assert not Path("outputs/mlflow.db").exists()

    assert command("-m", *TINY, "seed=0").status == 0
    client = MlflowClient(f"sqlite:///{Path('outputs/mlflow.db').absolute()}")
    before = {run.info.run_id: run.info.end_time for run in client.search_runs(["1"])}
    reports = [file.stat().st_mtime_ns for file in Path("outputs").rglob("report.html")]
    ended = command(
        "-m", *TINY, "seed=0,1", "dry_run=true", "probe.samples=9", "+probe.rank.samples=4"
    )
    assert "2 runs, 0 already finished, 2 to do" in ended.out
    ended = command("-m", *TINY, "seed=0,1", "dry_run=true")
    assert "2 runs, 1 already finished, 1 to do" in ended.out
    assert "finished  mlp bs20 lr0.01 seed0" in ended.out
    assert "to do     mlp bs20 lr0.01 seed1: about" in ended.out
    assert {run.info.run_id: run.info.end_time for run in client.search_runs(["1"])} == before
    again = [file.stat().st_mtime_ns for file in Path("outputs").rglob("report.html")]
    assert again == reports


def test_a_dry_run_says_what_its_estimate_leaves_out(command) -> None:
    probes = (
        "probe.samples=50",
        "+probe.connectivity={points: 3, bezier_steps: 0, bezier_lr: 0.1}",
    )
    ended = command("-m", *TINY, *probes, "+probe.early.epoch=1", "seed=0,1", "dry_run=true")
    assert "one run after another, probe.early, probe.connectivity not counted;" in ended.out
    ended = command(*TINY, *probes, "dry_run=true")  # a run alone is joined with none
    assert "at most; nothing was run" in ended.out


def test_an_estimate_counts_the_steps_and_images_that_a_run_takes(
    command, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0
    evaluate = training.evaluate

    def counted(model, loss_function, data, images, labels):
        nonlocal seen
        seen += len(labels)
        return evaluate(model, loss_function, data, images, labels)

    monkeypatch.setattr(training, "evaluate", counted)
    monkeypatch.setattr(loop, "evaluate", counted)
    lines = [*TINY, "stop.train_loss=1e-9", "stop.check_every=5"]  # never reached
    assert command(*lines).status == 0

    add_plugins()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = schema.load(compose("config", overrides=lines))
    data = build.dataset(config)
    assert seconds_of_training(config, data, Pace(step=1.0, image=0.0, probes=0.0)) == 25
    # 2 x 100 before and after, 5 looks at 100, 360 test images at the end (and after epoch 4).
    assert seen == 200 + 500 + 2 * 360
    assert seconds_of_training(config, data, Pace(step=0.0, image=1.0, probes=0.0)) == seen
