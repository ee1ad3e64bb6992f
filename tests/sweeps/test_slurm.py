"""A sweep on a real Slurm of one node, which the test starts, and on submitit's local processes."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from sweeps_in_processes import children, runs, said, start, statuses, table, until

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={port_of_node}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
"""Loopback only; a job that is queued again waits for ``cred_expire`` seconds."""


LONGER = ("seed=0,1", "epochs=400")
"""Two runs that are still training when the test has seen both at work."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def daemon(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=60)


def ask(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Slurm of this machine alone, from Debian's packages slurm-wlm and munge."""
    folder = tmp_path / "slurm"
    for program in ("munged", "slurmctld", "slurmd", "sbatch"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: slurm-wlm, munge)")
    (folder / "state").mkdir(parents=True)
    (folder / "spool").mkdir()
    key, conf = folder / "munge.key", folder / "slurm.conf"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    conf.write_text(
        CONF.format(
            folder=folder,
            host=socket.gethostname().partition(".")[0],
            port=free_port(),
            port_of_node=free_port(),
            user=getpass.getuser(),
            cores=os.cpu_count(),
        )
    )
    monkeypatch.setenv("SLURM_CONF", str(conf))
    munge = [f"--{name}={folder}/munge.{name[:4]}" for name in ("pid-file", "log-file")]
    munge += [f"--socket={folder}/munge.socket", f"--seed-file={folder}/munge.seed"]
    try:
        daemon("munged", "--force", f"--key-file={key}", *munge)
        daemon("slurmctld", "-f", str(conf))
        daemon("slurmd", "-f", str(conf))
        until(lambda: "idle" in ask("sinfo"), seconds=30)
        yield
    except (subprocess.SubprocessError, TimeoutError) as error:
        pytest.skip(f"Slurm does not start here: {error}")
    finally:
        for name in ("slurmd.pid", "slurmctld.pid", "munge.pid-"):
            if (folder / name).exists():
                os.kill(int((folder / name).read_text()), signal.SIGTERM)


def both_at_work(folder: Path) -> Path:
    """Wait until both runs of a sweep have trained for 3 epochs; returns the first one's log."""

    def logs() -> list[Path]:
        found = sorted(folder.glob("outputs/sweeps/*/?/landscape_sweep.log"))
        return [file for file in found if re.search(r"epoch +3 ", file.read_text())]

    until(lambda: len(logs()) == 2)
    return logs()[0]


def test_a_preempted_job_finishes_from_its_checkpoint(slurm: None, tmp_path: Path) -> None:
    alone, queued = tmp_path / "alone", tmp_path / "queued"
    driver = start(
        *(queued, "hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", *LONGER)
    )
    log = both_at_work(queued)
    (submitted,) = (line for line in said(queued).splitlines() if line.startswith("submitted: "))
    first, second = submitted.split()[1:]
    queue = [ask("squeue")]
    daemon("scancel", "--signal=USR2", first)  # what Slurm sends before it takes a node away
    until(lambda: "Restarts=1" in ask("scontrol", "show", "job", first))
    queue += [ask("squeue"), ask("scontrol", "show", "job", first)]
    assert start(alone, *LONGER).wait(timeout=300) == 0
    assert driver.wait(timeout=300) == 0
    queue += [ask("scontrol", "show", "job", number) for number in (first, second)]
    (tmp_path / "queue.txt").write_text("\n".join(queue))
    assert "Restarts=1" in queue[-2]
    assert "Restarts=0" in queue[-1]
    pd.testing.assert_frame_equal(table(queued), table(alone))
    assert statuses(queued) == ["FINISHED", "FINISHED", "KILLED"]
    assert "going on at step" in log.read_text()


def test_ctrl_c_cancels_the_queue_and_the_same_command_goes_on(slurm: None, tmp_path: Path) -> None:
    command = ("hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", *LONGER)
    driver = start(tmp_path, *command)
    log = both_at_work(tmp_path)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=60) == 130
    until(lambda: not ask("squeue", "--noheader"), seconds=20)  # Slurm alone would take 30
    assert statuses(tmp_path) == ["KILLED", "KILLED"]
    assert "completed" not in set(runs(tmp_path)["outcome"])
    assert start(tmp_path, *command).wait(timeout=300) == 0
    assert sorted(runs(tmp_path)["outcome"]) == ["completed", "completed"]
    assert "going on at step" in log.read_text()


def test_a_local_job_that_dies_costs_itself_only(tmp_path: Path) -> None:
    driver = start(tmp_path, "hydra/launcher=submitit_local", *LONGER)
    both_at_work(tmp_path)
    jobs = [child for child, line in children(driver.pid).items() if "submitit" in line]
    (worker,) = children(jobs[0])
    os.kill(worker, signal.SIGKILL)
    assert driver.wait(timeout=300) == 1
    assert sorted(runs(tmp_path)["outcome"]) == ["completed", "failed"]
    assert "1 of 2 runs failed" in said(tmp_path)


def test_no_slurm_is_said(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    ended = command("-m", "seed=0,1", "hydra/launcher=submitit_slurm")
    assert ended.status == 2
    assert "hydra/launcher=submitit_slurm: finds no Slurm here" in ended.err


def test_an_unknown_option_is_said() -> None:
    from landscape_sweep.config import ConfigError
    from landscape_sweep.sweeps.cluster import executor

    with pytest.raises(ConfigError, match=r"hydra\.launcher\.partitoin=gpu: "):
        executor("local", Path("unused"), {"timeout_min": 5, "partitoin": "gpu"})
