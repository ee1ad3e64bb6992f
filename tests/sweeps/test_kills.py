"""A sweep that is killed goes on where it was, and ends in the table of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from real_sweep import RealSweep, assert_same

SWEEP = (
    *("-m", "data=digits", "data.augment=flip_crop", "model=mlp", "model.width=8", "epochs=20"),
    *("probe=none", "batch_size=16", "stop.checkpoint_every=0.5", "seed=0,1"),
)


def stopped_between_checkpoints(sweep: RealSweep, process: subprocess.Popen[bytes]) -> Path:
    """Stop a run that has two checkpoints and is not just putting one in the other's place.

    Returns:
        The newer one.
    """
    folder = sweep.folder / "outputs" / "checkpoints"
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, sweep.said()
        assert time.monotonic() < deadline
        if list(folder.glob("*.previous.safetensors")):
            os.kill(process.pid, signal.SIGSTOP)
            newest = [f for f in folder.glob("*.safetensors") if ".previous" not in f.name]
            if newest:
                return newest[0]
            os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.01)


def test_a_sweep_killed_in_three_places_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed = RealSweep(tmp_path / "undisturbed", SWEEP)
    killed = RealSweep(tmp_path / "killed", SWEEP)
    first, second = undisturbed.start(), killed.start()
    newest = stopped_between_checkpoints(killed, second)  # it holds the sweep, and does not get on
    assert killed.run() == 2
    assert f"is being run by process {second.pid} on" in killed.said()
    os.kill(second.pid, signal.SIGKILL)
    assert second.wait() == -signal.SIGKILL
    newest.write_bytes(newest.read_bytes()[:-100])  # as a power cut may leave it
    met = killed.kill("checkpoint", 3, 0.0, signal.SIGKILL)
    said = killed.said()
    assert "is damaged" in said
    assert "going on at step" in said
    assert met is not None  # it had not ended
    assert killed.kill("report", 0, 0.0, signal.SIGKILL) == "report"
    assert killed.run() == 0, killed.said()
    assert first.wait(timeout=300) == 0, undisturbed.said()
    assert_same(killed.found(), undisturbed.found())
    assert not list(killed.folder.glob("outputs/checkpoints/*"))
    outcomes = killed.statuses()
    assert outcomes.count(("completed", "FINISHED")) == 2
    assert set(outcomes) == {("completed", "FINISHED"), ("interrupted", "KILLED")}
