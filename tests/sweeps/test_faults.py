"""What goes wrong around a sweep is said in a line, and the same command then ends as if not."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from real_sweep import HERE, RealSweep, assert_same

from landscape_sweep import tracking
from landscape_sweep.tracking import patience

TINY = ("-m", "data=digits", "model=mlp", "model.width=8", "epochs=1", "probe=none", "seed=0,1")
LONGER = (*TINY[:4], "epochs=30", "batch_size=16", *TINY[5:])
PROBED = ("probe=fast", "probe.samples=20", "probe.hessian.k=2", "~probe.connectivity")


def lines(text: str) -> list[str]:
    """What is not empty."""
    return [line for line in text.splitlines() if line.strip()]


# ---------------------------------------------------------------- damaged files


@pytest.fixture
def damaged(command, request: pytest.FixtureRequest) -> Path:
    """An artifact of the finished run of seed 0, which a test may damage."""
    assert command(*TINY, "seed=0").status == 0
    (file,) = Path("outputs/mlartifacts").glob(f"*/artifacts/{request.param}")
    return file


@pytest.mark.parametrize(
    "damaged", ["weights/final.safetensors", "weights/journal.json"], indirect=True
)
@pytest.mark.parametrize("how", ["cut", "changed"])
def test_damaged_weights_and_journals_are_said_and_made_again(command, damaged, how) -> None:
    whole = damaged.read_bytes()
    changed = bytearray(whole)
    changed[-whole[::-1].index(b"1") - 1] ^= 2  # a digit, where it is a text
    damaged.write_bytes(whole[: len(whole) // 2] if how == "cut" else changed)
    ended = command(*TINY, "seed=0", *PROBED)
    assert ended.status == 0
    assert "can't be used: " in ended.out
    assert "; training again" in ended.out
    store = tracking.connect("sqlite:///outputs/mlflow.db", "landscape_sweep", "outputs")
    newest = next(iter(store.client.search_runs(["1"], "tags.`config.hash` != ''")))
    (again,) = Path("outputs/mlartifacts").glob(
        f"{newest.info.run_id}/artifacts/weights/{damaged.name}"
    )
    if damaged.suffix == ".safetensors":
        assert again.read_bytes() == whole


def test_a_damaged_configuration_costs_the_report_its_paths_only(command) -> None:
    joined = (*TINY, "probe=fast", "probe.samples=20", "probe.hessian.k=2")
    assert command(*joined).status == 0
    paths = "outputs/mlartifacts/*/artifacts/connectivity/paths.csv"
    assert list(Path().glob(paths))
    for file in Path("outputs/mlartifacts").glob("*/artifacts/config.json"):
        file.write_text(file.read_text()[:50])
    ended = command(*joined)
    assert ended.status == 0
    assert "no connectivity of mlp bs128 lr0.01: its config.json: " in ended.out
    assert "report: " in ended.out


def test_a_database_cut_short_is_said_with_what_to_do(command) -> None:
    assert command(*TINY, "seed=0").status == 0
    database = Path("outputs/mlflow.db")
    whole = database.read_bytes()
    database.write_bytes(whole[: len(whole) // 2])
    for argument in ("-m", "seed=0"):
        ended = command(*TINY, argument)
        assert ended.status == 2
        (line,) = lines(ended.err)
        assert line.startswith("landscape_sweep: tracking.uri=sqlite:///outputs/mlflow.db")
        assert "malformed: save what is readable (sqlite3 FILE .recover)" in line
    database.write_bytes(whole)
    assert "1 already finished, 0 to do" in command(*TINY, "seed=0").out


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    mounted = subprocess.run(words, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_folder_that_can_not_be_written_is_a_mistake_in_a_line(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for arguments in (TINY, TINY[1:6]):
        words = [sys.executable, "-m", "landscape_sweep", *arguments, f"outputs={small_disk}/out"]
        ended = subprocess.run(words, env=HERE, capture_output=True, text=True, cwd="/tmp")
        assert ended.returncode == 2
        (line,) = lines(ended.stderr)
        assert line.startswith(f"landscape_sweep: outputs={small_disk}/out")
        assert line.endswith("can't be written: Read-only file system")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RealSweep:
    """What ``LONGER`` finds when nothing goes wrong."""
    sweep = RealSweep(tmp_path_factory.mktemp("undisturbed"), LONGER)
    assert sweep.run() == 0, sweep.said()
    return sweep


def fill(file: Path) -> None:
    """Write to a file without end."""
    with file.open("wb", buffering=0) as opened:
        while True:
            opened.write(bytes(4096))


@pytest.mark.faults
def test_a_full_disk_costs_nothing_that_was_finished(
    small_disk: Path, undisturbed: RealSweep
) -> None:
    sweep = RealSweep(small_disk, LONGER)
    process = sweep.start()
    until(lambda: "epoch  3" in sweep.said(), process)
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError):  # until no space is left
        fill(ballast)
    assert process.wait(timeout=300) == 1
    ballast.unlink()
    said = sweep.said()
    assert "Traceback" not in said
    assert "free some space, and the same command goes on" in said
    assert sweep.run() == 0, sweep.said()
    assert "going on at step" in sweep.said()
    assert_same(sweep.found(), undisturbed.found())


# ---------------------------------------------------------------- a server that goes away


class Server:
    """A real MLflow server on the loopback, to be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"),
            *("--port", str(self.port), "--backend-store-uri", f"sqlite:///{self.folder}/db"),
            *("--artifacts-destination", str(self.folder / "artifacts")),
        ]
        with (self.folder / "server.txt").open("ab") as output:
            self.process = subprocess.Popen(
                words, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        until(self.answers, self.process)

    def answers(self) -> bool:
        """Whether it serves."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """Kill it and its workers at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def until(true, process: subprocess.Popen[bytes]) -> None:
    """Wait for something that a process is to do."""
    deadline = time.monotonic() + 180
    while not true():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.faults
def test_a_server_that_goes_away_twice_is_waited_for(
    tmp_path: Path, undisturbed: RealSweep
) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        sweep = RealSweep(tmp_path / "sweep", LONGER, uri=server.uri)
        process = sweep.start(f"tracking.uri={server.uri}")
        until(lambda: "epoch  3" in sweep.said(), process)
        server.kill()
        until(lambda: "does not answer (" in sweep.said(), process)  # it waits
        time.sleep(3)
        server.start()
        until(lambda: "seed1 on digits" in sweep.said(), process)
        server.kill()
        time.sleep(5)
        server.start()
        assert process.wait(timeout=300) == 0, sweep.said()
        assert "answers again" in sweep.said()
        assert sweep.statuses() == [("completed", "FINISHED")] * 2
        assert_same(sweep.found(), undisturbed.found())
    finally:
        server.kill()


class Flaky:
    """A client that fails a number of times before it answers."""

    def __init__(self, failures: int, words: str = "Connection refused") -> None:
        self.left, self.words, self.calls = failures, words, 0

    def get_run(self, run_id: str) -> str:
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise MlflowException(self.words)
        return run_id


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only sleeping moves; starts with no store known."""
    now = [0.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(patience.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr(patience, "_answered", set())
    return now


def patient(client: Flaky) -> patience.PatientClient:
    return patience.PatientClient(client, "http://server")  # type: ignore[arg-type]


def test_a_store_that_never_answered_is_not_waited_for(clock) -> None:
    with pytest.raises(MlflowException):
        patient(Flaky(1)).get_run("a")
    assert clock == [0.0]


def test_a_store_that_answered_is_waited_for_and_not_for_ever(clock) -> None:
    patience.expect("http://server")
    assert patient(Flaky(6)).get_run("a") == "a"
    assert clock == [1 + 2 + 4 + 8 + 15 + 15]
    gone = Flaky(10**9)
    with pytest.raises(MlflowException):
        patient(gone).get_run("a")
    assert clock[0] - 45 == pytest.approx(patience.PATIENCE)
    before = gone.calls
    with pytest.raises(MlflowException):  # once in vain is enough
        patient(gone).get_run("a")
    assert gone.calls == before + 1


@pytest.mark.parametrize("words", ["no such run", "too many 500 error responses: Max retries"])
def test_an_answer_that_says_no_is_not_waited_for(clock, words: str) -> None:
    patience.expect("http://server")
    with pytest.raises(MlflowException):
        patient(Flaky(1, words)).get_run("a")
    assert clock == [0.0]


# ---------------------------------------------------------------- neighbours


@pytest.mark.faults
def test_four_jobs_make_one_fresh_database_at_once(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "landscape_sweep", *TINY[1:6]]
    jobs = []
    for seed in range(4):
        with (tmp_path / f"{seed}.txt").open("wb") as output:
            jobs.append(
                subprocess.Popen(
                    [*words, f"seed={seed}"], cwd=tmp_path, env=HERE, stdout=output, stderr=output
                )
            )
    said = [(tmp_path / f"{seed}.txt") for seed in range(4)]
    for job, text in zip(jobs, said, strict=True):
        assert job.wait(timeout=300) == 0, text.read_text()
    client = MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "landscape_sweep"]
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["seed"] for run in runs) == ["0", "1", "2", "3"]
    assert {run.data.tags["run.outcome"] for run in runs} == {"completed"}
