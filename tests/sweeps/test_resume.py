"""What an earlier sweep has finished is not done again: whole runs, and trained weights."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from landscape_sweep import tracking

TINY = ("-m", "data=digits", "model=mlp", "model.width=8", "epochs=1", "probe=none")
PROBED = ("probe=fast", "probe.samples=20", "probe.hessian.k=2", "~probe.connectivity")


def uri() -> str:
    return f"sqlite:///{Path('outputs/mlflow.db').absolute()}"


def sweep_id(out: str) -> str:
    return next(
        line.split()[1].rstrip(":") for line in out.splitlines() if line.startswith("sweep")
    )


def logged(client: MlflowClient) -> list[str]:
    """Every run of the experiment but the sweeps' own, oldest first."""
    runs = client.search_runs(["1"], "tags.`config.hash` != ''", order_by=["start_time ASC"])
    return [run.info.run_id for run in runs]


def test_a_larger_grid_runs_only_its_new_cells(command) -> None:
    assert command(*TINY, "seed=0,1").status == 0
    client = MlflowClient(uri())
    before = logged(client)
    ended = command(*TINY, "seed=0,1,2", "model.width=8,4")
    assert "6 runs, 2 already finished, 4 to do" in ended.out
    assert "finished before: mlp bs128 lr0.01 width=8 seed0" in ended.out
    assert logged(client)[:2] == before
    assert len(logged(client)) == 6
    table = tracking.load_runs(uri(), sweep=sweep_id(ended.out))
    assert table["seed"].tolist() == [0, 1, 2, 0, 1, 2]
    # Runs of the first sweep carry the names that tell this sweep's configurations apart.
    assert set(table["label"]) == {"mlp bs128 lr0.01 width=8", "mlp bs128 lr0.01 width=4"}
    assert set(before) <= set(table["run_id"])
    assert command(*TINY, "seed=0,1", "resume=false").status == 0
    assert len(logged(client)) == 8


def test_a_damaged_list_of_cells_is_said_and_mended(command, capfd) -> None:
    first = command(*TINY, "seed=0,1")
    parent = MlflowClient(uri()).search_runs(["1"], "tags.`sweep.parent` != ''")[0]
    file = Path(f"outputs/mlartifacts/{parent.info.run_id}/artifacts/cells.json")
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    table = tracking.load_runs(uri(), sweep=sweep_id(first.out))
    assert "cells.json is damaged" in capfd.readouterr().out
    assert table["seed"].tolist() == [0, 1]
    assert command(*TINY, "seed=0,1").status == 0
    assert json.loads(file.read_text()) == json.loads(whole)


def test_more_probes_take_the_trained_weights(command, monkeypatch: pytest.MonkeyPatch) -> None:
    from landscape_sweep import training

    assert command(*TINY, "seed=0,1").status == 0
    trained = tracking.load_runs(uri(), experiment_name="landscape_sweep").set_index("seed")
    with monkeypatch.context() as patch:
        patch.setattr(training, "train", None)  # whoever trains now fails
        ended = command(*TINY, "seed=0,1", *PROBED)
    assert ended.status == 0
    probed = tracking.load_runs(uri(), sweep=sweep_id(ended.out)).set_index("seed")
    assert "hessian/trace" in probed
    measured = [column for column in trained if "/" in column]
    pd.testing.assert_frame_equal(probed[measured], trained[measured])
    client = MlflowClient(uri())
    for seed in (0, 1):
        old, new = trained.loc[seed, "run_id"], probed.loc[seed, "run_id"]
        assert client.get_run(new).data.tags["weights.from"] == old
        history = client.get_metric_history(new, "test/loss")
        assert [(p.step, p.value) for p in history] == [
            (p.step, p.value) for p in client.get_metric_history(old, "test/loss")
        ]
        folder = Path("outputs/mlartifacts")
        (one,) = folder.glob(f"{old}/artifacts/weights/final.safetensors")
        (two,) = folder.glob(f"{new}/artifacts/weights/final.safetensors")
        assert one.read_bytes() == two.read_bytes()
    # Trained afresh, the probes find the same to the last bit.
    again = command(*TINY, "seed=0,1", *PROBED, "resume=false")
    fresh = tracking.load_runs(uri(), sweep=sweep_id(again.out)).set_index("seed")
    values = [column for column in fresh if "/" in column and column != "train/seconds"]
    assert not set(fresh["run_id"]) & set(probed["run_id"])
    pd.testing.assert_frame_equal(fresh[values], probed[values])


def test_damaged_weights_are_said_and_trained_again(command) -> None:
    assert command(*TINY, "seed=0").status == 0
    (weights,) = Path("outputs/mlartifacts").glob("*/artifacts/weights/final.safetensors")
    weights.write_bytes(weights.read_bytes()[:100])
    ended = command(*TINY, "seed=0", *PROBED)
    assert ended.status == 0
    assert "can't be used" in ended.out
    table = tracking.load_runs(uri(), sweep=sweep_id(ended.out))
    assert table["outcome"].tolist() == ["completed"]
