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
MOMENTS = {"checkpoint": 5, "database": 20}
"""Phases of milliseconds, many in a run: how many of them are let pass at most."""
INTERRUPTIBLE = ("training", "probing", "connectivity")
"""Phases in which Ctrl-C may take the place of a kill."""


@pytest.mark.faults
@pytest.mark.timeout(3000)
def test_kills_all_over_the_life_of_a_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    undisturbed = RealSweep(tmp_path / "undisturbed", SWEEP, LAST_WORDS)
    assert undisturbed.run() == 0, undisturbed.said()
    expected, whole = undisturbed.found(), time.monotonic() - began
    assert len(expected["runs"]) == 6
    killed: Counter[tuple[str, str]] = Counter()
    for seed in range(2):
        draw = random.Random(seed)
        victim = RealSweep(tmp_path / f"victim{seed}", SWEEP, LAST_WORDS)
        finished: set[str] = set()
        for phase in LIFE:
            momentary = phase in MOMENTS
            interrupt = phase in INTERRUPTIBLE and draw.random() < 0.4
            how = signal.SIGINT if interrupt else signal.SIGKILL
            skip = draw.randrange(MOMENTS.get(phase, 2 if phase in ("training", "probing") else 1))
            delay = 0.0 if momentary else draw.uniform(0, 0.5)
            met = victim.kill(phase, skip, delay, how)
            if met is not None:
                killed[met, how.name] += 1
            if (victim.folder / "outputs/mlflow.db").exists():
                now = victim.finished()
                assert finished <= now, "what was finished is lost"
                finished = now
        assert victim.run() == 0, victim.said()
        assert finished <= victim.finished()
        outcomes = victim.statuses()
        # Each of the six ran to its end once, and nothing looks as if it were running still.
        assert outcomes.count(("completed", "FINISHED")) == 6
        assert set(outcomes) <= {("completed", "FINISHED"), ("interrupted", "KILLED")}
        assert_same(victim.found(), expected)
        assert not list(victim.folder.glob("outputs/checkpoints/*"))
        assert not list(victim.folder.rglob("*.part"))
    with capsys.disabled():
        print(f"\nundisturbed: {whole:.0f} s; {killed.total()} kills in two sweeps, by phase:")
        for (phase, how), count in sorted(killed.items()):
            print(f"  {phase:12s} {how:7s} {count}")
        print(
            expected["runs"]
            .merge(victim.found()["runs"], how="outer", indicator=True)[
                ["name", "train/loss", "test/loss", "hessian/trace", "_merge"]
            ]
            .to_string()
        )
    assert killed.total() >= 20
    assert {phase for phase, _ in killed} == set(LIFE)
