"""The whole path, as a user takes it: sweep, look into MLflow, repeat, resume, report again."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from landscape_sweep import tracking
from landscape_sweep.report.__main__ import main as report

SMALL = (
    *("data=digits", "data.train_size=200", "model=resnet", "model.width=4", "epochs=2"),
    *("probe=standard", "probe.samples=40", "probe.surface.points=3", "probe.hessian.k=3"),
)


def uri() -> str:
    """The database under the current folder."""
    return f"sqlite:///{Path('outputs/mlflow.db').absolute()}"


def children(client: MlflowClient, experiment: str = "landscape_sweep"):
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], "tags.`config.hash` != ''")
    return sorted(runs, key=lambda run: run.info.run_name)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished sweep: two batch sizes, two seeds."""
    import sys

    from landscape_sweep.__main__ import main

    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("LANDSCAPE_SWEEP_DATA", raising=False)
        patch.setattr(
            sys, "argv", ["landscape_sweep", "-m", *SMALL, "batch_size=20,40", "seed=0,1"]
        )
        main()
    torch.use_deterministic_algorithms(False)
    return folder


@pytest.fixture
def inside(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(built)
    return built


def test_one_parent_and_a_child_a_combination(inside: Path) -> None:
    client = MlflowClient(uri())
    runs = children(client)
    assert [run.info.run_name for run in runs] == [
        f"resnet bs{b} lr0.01 seed{s}" for b in (20, 40) for s in (0, 1)
    ]
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in runs}
    tags = client.get_run(parent).data.tags
    assert {run.data.tags["sweep.id"] for run in runs} == {tags["sweep.parent"]}
    assert client.get_run(parent).info.status == "FINISHED"
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["run.outcome"] for run in runs} == {"completed"}


def test_names_are_those_of_the_design(inside: Path) -> None:
    (run, *_) = children(MlflowClient(uri()))
    assert run.data.params["batch_size"] == "20"
    assert run.data.params["optimizer.lr"] == "0.01"
    assert run.data.params["data.loaded"] == "digits"
    expected = {
        *("fit/loss", "fit/accuracy", "fit/lr", "test/loss", "test/accuracy"),
        *("train/loss", "train/accuracy", "train/initial_loss", "train/steps", "train/lr_sum"),
        *("gap/loss", "gap/accuracy", "hessian/lambda_max", "hessian/lambda_min"),
        *("hessian/trace", "hessian/trace_se", "hessian/negative_count", "hessian/eigenvalue"),
        *("sharpness/sam", "sharpness/first_order", "sharpness/second_order"),
        *("surface/centre", "connectivity/naive/barrier", "connectivity/reset/barrier"),
    }
    assert expected <= set(run.data.metrics)
    metrics = run.data.metrics
    assert metrics["gap/loss"] == pytest.approx(metrics["test/loss"] - metrics["train/loss"])
    assert metrics["train/steps"] == 20
    second = 0.5 * 0.05**2 * metrics["hessian/lambda_max"]
    assert metrics["sharpness/second_order"] == pytest.approx(second)


def test_the_spectrum_is_logged_by_rank(inside: Path) -> None:
    client = MlflowClient(uri())
    (run, *_) = children(client)
    history = client.get_metric_history(run.info.run_id, "hessian/eigenvalue")
    ranked = [point.value for point in sorted(history, key=lambda point: point.step)]
    assert [point.step for point in history] == [1, 2, 3]
    assert ranked == sorted(ranked, reverse=True)
    assert ranked[0] == run.data.metrics["hessian/lambda_max"]


def test_artifacts_are_there_and_weights_load(inside: Path) -> None:
    client = MlflowClient(uri())
    (run, *_) = children(client)
    paths = {
        entry.path
        for folder in ("", "hessian", "surface", "weights")
        for entry in client.list_artifacts(run.info.run_id, folder)
    }
    assert {
        *("config.json", "hessian/eigenvalues.csv", "hessian/eigenvalues.png"),
        *("surface/surface.csv", "surface/surface.png", "weights/final.safetensors"),
    } <= paths


def test_the_report_is_on_disk_and_on_the_parent(inside: Path) -> None:
    client = MlflowClient(uri())
    (run, *_) = children(client)
    parent, sweep = run.data.tags["mlflow.parentRunId"], run.data.tags["sweep.id"]
    assert [f.name for f in Path("outputs/sweeps").iterdir()] == [sweep]  # the jobs' logs, too
    logged = {entry.path for entry in client.list_artifacts(parent, "report")}
    on_disk = {f"report/{file.name}" for file in Path("outputs/sweeps", sweep, "report").iterdir()}
    assert on_disk == logged
    assert {"report/report.html", "report/mode_connectivity.png", "report/runs.csv"} <= logged


def test_paths_join_runs_that_differ_only_in_seed(inside: Path) -> None:
    sweep = tracking.load_sweep(uri(), experiment_name="landscape_sweep")
    assert set(sweep.paths["pair"]) == {f"resnet bs{b} lr0.01 seeds 0-1" for b in (20, 40)}
    assert sweep.paths.groupby(["pair", "mode"]).size().unique().tolist() == [15]
    ends = sweep.paths[(sweep.paths["mode"] == "naive") & (sweep.paths["alpha"] == 0)]
    centres = sweep.runs.set_index("run_id")["surface/centre"]
    for _, end in ends.iterrows():  # the same images, the same weights
        assert end["loss"] == pytest.approx(centres[end["run_a"]], rel=1e-5)


def test_a_repeated_sweep_runs_nothing_again(command, built: Path, monkeypatch) -> None:
    monkeypatch.chdir(built)
    before = [run.info.run_id for run in children(MlflowClient(uri()))]
    ended = command("-m", "seed=0,1", "batch_size=20,40", *SMALL)
    assert ended.status == 0
    assert "4 runs, 4 already finished, 0 to do" in ended.out
    assert [run.info.run_id for run in children(MlflowClient(uri()))] == before


def test_the_command_of_a_run_repeats_its_bits(command, built: Path, monkeypatch) -> None:
    monkeypatch.chdir(built)
    (run, *_) = children(MlflowClient(uri()))
    words = shlex.split(run.data.tags["command"])
    assert words[:3] == ["python", "-m", "landscape_sweep"]
    assert command(*words[3:], "tracking.experiment_name=again").status == 0
    (again,) = children(MlflowClient(uri()), "again")
    assert again.data.tags["config.hash"] == run.data.tags["config.hash"]
    timing = {"train/seconds"}
    pairwise = {m for m in run.data.metrics if m.startswith("connectivity/")}
    kept = set(run.data.metrics) - timing - pairwise
    assert {m: again.data.metrics[m] for m in kept} == {m: run.data.metrics[m] for m in kept}


def test_the_report_is_made_again_without_training(
    inside: Path, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sweep = children(MlflowClient(uri()))[0].data.tags["sweep.id"]
    page = Path("outputs/sweeps", sweep, "report/report.html")
    page.unlink()
    assert report([f"sweep={sweep}"]) == 0
    assert page.exists()
    assert not list(tmp_path.iterdir())  # no copies of artifacts are left behind
    assert report(["sweep=unknown"]) == 2
    assert f"takes one of {sweep}" in capsys.readouterr().err


def test_a_diverging_and_a_failing_run_leave_the_others(command, monkeypatch) -> None:
    from landscape_sweep import build as module

    build = module.network

    def broken(config, data):
        if config.seed == 1:
            raise RuntimeError("broken on purpose")
        return build(config, data)

    monkeypatch.setattr(module, "network", broken)
    ended = command(
        *("-m", "data=digits", "model=mlp", "model.width=8", "epochs=2", "probe=none"),
        *("optimizer.lr=0.01,1e30", "seed=0,1"),
    )
    assert ended.status == 1
    outcomes = {r.info.run_name: r.data.tags["run.outcome"] for r in children(MlflowClient(uri()))}
    assert outcomes == {
        "mlp bs128 lr0.01 seed0": "completed",
        "mlp bs128 lr0.01 seed1": "failed",
        "mlp bs128 lr1e+30 seed0": "diverged",
        "mlp bs128 lr1e+30 seed1": "failed",
    }
    assert "broken on purpose" in ended.out
    assert "2 of 4 runs failed" in ended.out
    assert list(Path("outputs/sweeps").glob("*/report/report.html"))
    monkeypatch.setattr(module, "network", build)
    again = command(
        *("-m", "data=digits", "model=mlp", "model.width=8", "epochs=2", "probe=none"),
        *("optimizer.lr=0.01,1e30", "seed=0,1"),
    )
    assert again.status == 0
    assert "4 runs, 2 already finished, 2 to do" in again.out


def test_without_the_data_set_the_fallback_is_loud(command, monkeypatch) -> None:
    ended = command("model=mlp", "model.width=4", "epochs=1", "probe=none", "data.root=nothing")
    assert ended.status == 0
    assert "WARNING: cifar10 was not found. This run uses digits instead." in ended.out
    (run,) = children(MlflowClient(uri()))
    assert run.data.params["data.loaded"] == "digits (fallback for cifar10)"


def test_a_fallback_too_small_for_the_batch_is_said(command) -> None:
    ended = command("batch_size=2048", "data.root=nothing", "probe=none")
    assert ended.status == 2
    assert "batch_size=2048: takes at most 1437 (training images)" in ended.err


def test_strict_about_its_data_set(command) -> None:
    ended = command("data.fallback=null", "data.root=nothing", "probe=none")
    assert ended.status == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert ended.err.startswith("landscape_sweep: data.root=nothing")


def test_real_cifar_where_it_lies(command, monkeypatch, request) -> None:
    root = request.config.rootpath.parent / "shared" / "data"
    if not (root / "cifar10.npz").exists():
        pytest.skip("CIFAR-10 is not in ../shared/data")
    ended = command(
        *(f"data.root={root}", "data.train_size=200", "model.width=4", "epochs=1"),
        *("batch_size=50", "probe=fast", "probe.samples=20"),
    )
    assert ended.status == 0
    (run,) = children(MlflowClient(uri()))
    assert run.data.params["data.loaded"] == "cifar10"
    assert np.isfinite(run.data.metrics["hessian/trace"])
