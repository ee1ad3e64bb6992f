"""The end of a sweep: pairs of seeds are measured once, and three seeds make a plane."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from landscape_sweep import probes, report, tracking

SMALL = (
    *("-m", "data=digits", "data.train_size=100", "model=mlp", "model.width=6", "batch_size=20"),
    *("epochs=1", "probe=fast", "probe.samples=20", "probe.hessian=null", "probe.sharpness=null"),
    *("probe.connectivity.points=3", "probe.connectivity.plane=3"),
)


def sweeps() -> list[tracking.Sweep]:
    """Sweeps of this folder, fewest runs first."""
    uri = f"sqlite:///{Path('outputs/mlflow.db').absolute()}"
    ids = [folder.name for folder in Path("outputs/sweeps").iterdir()]
    return sorted((tracking.load_sweep(uri, sweep=i) for i in ids), key=lambda s: len(s.runs))


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps end without their report, which takes longer than all else here."""
    monkeypatch.setattr(report, "publish", lambda *_: None)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, no_report: None) -> list[str]:
    """Grows with every pair, and every plane, that is measured."""
    seen: list[str] = []

    def counted(name: str, probe: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **keys: object) -> object:
            found = probe(*args, **keys)
            seen.append(name)
            return found

        return call

    monkeypatch.setattr(probes, "connectivity", counted("pair", probes.connectivity))
    monkeypatch.setattr(probes, "surface", counted("plane", probes.surface))
    return seen


def test_a_pair_is_measured_once_by_all_sweeps_that_hold_it(command, measured: list[str]) -> None:
    assert command(*SMALL, "seed=0,1,2").status == 0
    assert measured == ["pair", "pair", "pair", "plane"]
    (first,) = sweeps()
    again = command(*SMALL, "seed=0,1,2")
    assert again.status == 0
    assert "3 of 3 pairs measured before" in again.out
    assert len(measured) == 4
    (repeated,) = sweeps()
    pd.testing.assert_frame_equal(repeated.paths, first.paths)
    pd.testing.assert_frame_equal(repeated.barriers, first.barriers)
    pd.testing.assert_frame_equal(repeated.planes, first.planes)

    assert command(*SMALL, "seed=0,1,2,3").status == 0
    assert measured[4:] == ["pair", "pair", "pair"]  # of the new seed; the plane is of the first
    _, larger = sweeps()
    pairs = {f"mlp bs20 lr0.01 seeds {a}-{b}" for a in range(4) for b in range(a + 1, 4)}
    assert set(larger.paths["pair"]) == pairs
    shared = larger.paths[larger.paths["pair"].isin(first.paths["pair"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(shared, first.paths.reset_index(drop=True))
    assert set(larger.barriers["pairs"]) == {6}


def test_an_interruption_loses_the_pair_that_was_being_measured(
    command, monkeypatch: pytest.MonkeyPatch, measured: list[str]
) -> None:
    probe = probes.connectivity

    def interrupted(*args: object, **keys: object) -> object:
        if len(measured) == 2:
            raise KeyboardInterrupt
        return probe(*args, **keys)

    monkeypatch.setattr(probes, "connectivity", interrupted)
    assert command(*SMALL, "seed=0,1,2").status != 0
    assert measured == ["pair", "pair"]
    monkeypatch.setattr(probes, "connectivity", probe)
    assert command(*SMALL, "seed=0,1,2").status == 0
    assert measured[2:] == ["pair", "plane"]
    (sweep,) = sweeps()
    assert sweep.paths["pair"].nunique() == 3

    # A file that was cut short while it was written is measured again.
    cut = sorted(Path("outputs/mlartifacts").glob("*/artifacts/connectivity/pairs/*.csv"))[0]
    whole = cut.read_bytes()
    cut.write_bytes(whole[:-4])
    assert command(*SMALL, "seed=0,1,2").status == 0
    assert measured[4:] == ["pair"]
    assert cut.read_bytes() == whole


def test_a_run_whose_weights_are_gone_leaves_the_other_pairs(command, measured: list[str]) -> None:
    assert command(*SMALL, "seed=0,1,2").status == 0
    artifacts = Path("outputs/mlartifacts")
    for pair in artifacts.glob("*/artifacts/connectivity/pairs/*.csv"):
        pair.unlink()
    (sweep,) = sweeps()
    (artifacts / sweep.runs["run_id"][1] / "artifacts" / tracking.WEIGHTS).unlink()
    ended = command(*SMALL, "seed=0,1,2")
    assert ended.status == 0
    assert measured[4:] == ["pair"]
    assert "no connectivity of mlp bs20 lr0.01 seed1" in ended.out
    (sweep,) = sweeps()
    assert set(sweep.paths["pair"]) == {"mlp bs20 lr0.01 seeds 0-2"}


def test_the_plane_goes_through_three_seeds(command) -> None:
    assert command(*SMALL, "seed=0,1,2").status == 0
    (sweep,) = sweeps()
    networks = sweep.planes["name"].notna()
    grid, marks = sweep.planes[~networks], sweep.planes[networks]
    assert marks["name"].tolist() == ["seed 0", "seed 1", "seed 2"]
    np.testing.assert_allclose(marks["distance"], 0, atol=1e-4)
    assert len(grid) == 9
    ends = sweep.paths[(sweep.paths["mode"] == "naive") & (sweep.paths["alpha"] == 0)]
    of_seed_0 = ends[ends["pair"].str.endswith("0-1")]
    centre = grid[(grid["alpha"] == 0) & (grid["beta"] == 0)]
    columns = ["loss", "accuracy", "test_loss", "test_accuracy"]
    np.testing.assert_allclose(centre[columns], of_seed_0[columns], rtol=1e-6)
    (folder,) = Path("outputs/sweeps").iterdir()
    assert (folder / "report/networks_plane.png").exists()


def test_three_networks_that_are_the_same_span_no_plane(command, measured: list[str]) -> None:
    ended = command(*SMALL, "seed=0,1,2", "fork_step=0", "epochs=0")
    assert ended.status == 0
    assert measured == ["pair", "pair", "pair"]
    assert "no plane of mlp bs20 lr0.01: the three networks lie on one line" in ended.out
    (sweep,) = sweeps()
    assert sweep.planes.empty
    assert sweep.barriers["mean"].abs().max() == 0


def test_an_even_plane_is_refused(command) -> None:
    ended = command(*SMALL, "seed=0,1", "probe.connectivity.plane=4")
    assert ended.status == 2
    assert "probe.connectivity.plane=4: takes 0 or an odd number" in ended.err
