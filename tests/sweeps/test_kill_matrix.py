"""A sweep of six runs, killed again and again all over its life, ends as an undisturbed one."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from real_sweep import RealSweep, assert_same

SWEEP = (
    *("-m", "data=digits", "data.train_size=100", "data.augment=flip_crop", "model=resnet"),
    *("model.width=2", "epochs=4", "stop.checkpoint_every=0.5", "batch_size=10,20", "seed=0,1,2"),
    *("probe=fast", "probe.samples=20", "probe.hessian.k=2", "probe.hessian.iterations=8"),
    *("probe.connectivity.points=3", "+probe.surface={points: 3, radius: 0.5, directions: random}"),
)
LAST_WORDS = r"^  surface: [\d.]+ s"
LIFE = (
    *("start", "training", "checkpoint", "database", "probing", "training", "checkpoint"),
    *("probing", "database", "connectivity", "report", "report"),
)
"""Phases in which one sweep is killed, one after the other."""
MOMENTS = ("checkpoint", "database")
"""Phases of milliseconds, many in a run."""
PASSED = {"checkpoint": 5, "database": 20, "training": 2, "probing": 2}
"""From how many of a phase, in a sweep, the one to kill in is drawn."""
INTERRUPTIBLE = ("training", "probing", "connectivity")
"""Phases in which Ctrl-C may take the place of a kill."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RealSweep:
    """The sweep that nothing happened to."""
    sweep = RealSweep(tmp_path_factory.mktemp("undisturbed"), SWEEP, LAST_WORDS)
    assert sweep.run() == 0, sweep.said()
    return sweep


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [0, 1])
def test_twelve_kills_all_over_the_life_of_a_sweep(
    tmp_path: Path, undisturbed: RealSweep, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    began = time.monotonic()
    draw = random.Random(seed)
    victim = RealSweep(tmp_path, SWEEP, LAST_WORDS)
    killed: Counter[tuple[str, str]] = Counter()
    finished: set[str] = set()
    for phase in LIFE:
        interrupt = phase in INTERRUPTIBLE and draw.random() < 0.4
        how = signal.SIGINT if interrupt else signal.SIGKILL
        skip = draw.randrange(PASSED.get(phase, 1))
        delay = 0.0 if phase in MOMENTS else draw.uniform(0, 0.5)
        met = victim.kill(phase, skip, delay, how)
        if met is not None:
            killed[met, how.name] += 1
        if (victim.folder / "outputs/mlflow.db").exists():
            now = victim.finished()
            assert finished <= now, "what was finished is lost"
            finished = now
    with capsys.disabled():
        counts = ", ".join(f"{count} in {at} ({how})" for (at, how), count in killed.items())
        print(f"\nkilled {killed.total()} times in {time.monotonic() - began:.0f} s: {counts}")
    assert victim.run() == 0, victim.said()
    assert finished <= victim.finished()
    outcomes = victim.statuses()
    # Each of the six ran to its end once, and nothing looks as if it were running still.
    assert outcomes.count(("completed", "FINISHED")) == 6
    assert set(outcomes) <= {("completed", "FINISHED"), ("interrupted", "KILLED")}
    assert_same(victim.found(), undisturbed.found())
    assert not list(victim.folder.glob("outputs/checkpoints/*"))
    assert not list(victim.folder.glob("outputs/sweeps/*/report/*.part"))
    # A moment may end before the kill is there, and a sweep before a phase comes round again.
    assert killed.total() >= 10
    assert len({phase for phase, _ in killed}) >= 5
