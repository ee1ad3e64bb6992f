"""Jobs of a sweep side by side on one machine, each in a worker process.

Workers are started afresh (``spawn``), because a fork of a process that has used CUDA can't use
it, and then take one job after another, because starting one costs seconds. Each has its share of
the cores and, where there are GPUs, one of them. One that dies costs the job that it was at; when
the driver dies, however it does, all of them do.

A worker imports this file before it knows how many threads it may take, so it imports neither
NumPy nor torch.
"""

from __future__ import annotations

import getpass
import io
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TextIO

import cloudpickle
from filelock import FileLock, Timeout
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from landscape_sweep import names
from landscape_sweep.progress import duration
from landscape_sweep.sweeps.jobs import Job, execute, record_death

log = logging.getLogger("landscape_sweep")

GRACE_SECONDS = 15.0
"""What an interrupted worker has to close its run, before it is killed."""

LEASE_SECONDS = 0.5
"""Time between two looks for a free GPU."""


@dataclass(frozen=True)
class Share:
    """What one worker may use of the machine.

    Attributes:
        threads: CPU threads.
        gpus: names that ``CUDA_VISIBLE_DEVICES`` takes, of which it leases one; may be empty.
        jobs_per_gpu: how many workers may share a GPU.
    """

    threads: int
    gpus: tuple[str, ...]
    jobs_per_gpu: int


# ---------------------------------------------------------------- the driver


@dataclass
class Worker:
    """A worker process as its driver sees it, with the job that it is at."""

    process: SpawnProcess
    connection: Connection
    at: int | None = None
    since: float = 0.0


def launch(
    jobs: Sequence[Job],
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    at_a_time: int | None,
    jobs_per_gpu: int,
) -> list[JobReturn]:
    """Run all jobs, as many at a time as the machine takes.

    Args:
        jobs: what to run, in order.
        context: Hydra's; its callbacks are called in the workers.
        task: what a job does with its configuration.
        config: what Hydra composed for the multirun, for the driver's own logging.
        at_a_time: number of workers; None takes as many as there are GPUs, or else cores.
        jobs_per_gpu: workers that share one GPU.

    Raises:
        KeyboardInterrupt: once every worker has ended.
    """
    first = jobs[0].config
    workers, share = divide(first.device, first.threads, at_a_time, jobs_per_gpu)
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    log.info("%d runs at a time, each on %s", workers, _said(share))
    work = cloudpickle.dumps((share, context, task, Singleton.get_state()))
    returned: dict[int, JobReturn] = {}
    waiting = list(reversed(range(len(jobs))))
    pool: list[Worker] = []
    seconds = 0.0  # of all jobs that have ended
    try:
        while len(returned) < len(jobs):
            at_work = sum(worker.at is not None for worker in pool)
            while len(pool) < min(workers, at_work + len(waiting)):
                pool.append(_start(work, share))
            for worker in pool:
                if worker.at is None and waiting:
                    worker.at, worker.since = waiting.pop(), time.monotonic()
                    _send(worker, jobs[worker.at])
            busy = {worker.connection: worker for worker in pool if worker.at is not None}
            for ready in wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]
                assert worker.at is not None
                job, worker.at = worker.at, None
                seconds += time.monotonic() - worker.since
                try:
                    returned[job] = worker.connection.recv()
                except (EOFError, OSError):  # it died
                    pool.remove(worker)
                    worker.process.join()
                    returned[job] = record_death(jobs[job], _cause(worker.process.exitcode))
                left = seconds / len(returned) * (len(jobs) - len(returned)) / workers
                log.info("%d of %d runs ended, %s left", len(returned), len(jobs), duration(left))
    finally:
        _stop(pool)
    return [returned[number] for number in range(len(jobs))]


def divide(
    device: str, threads: int | None, jobs: int | None, jobs_per_gpu: int
) -> tuple[int, Share]:
    """How many workers there are, and what each may use.

    The share depends on the machine and the keys alone, not on how many runs are left to do:
    a configuration shall have the same number of threads, and so the same bits, every time.

    Args:
        device: where runs compute; ``cpu`` leases no GPU.
        threads: what each run will take; None leaves it to its share.
        jobs: number of workers; None takes as many as the GPUs take, or else the cores.
        jobs_per_gpu: workers that share one GPU.
    """
    gpus = () if device == "cpu" else visible_gpus()
    cores = len(os.sched_getaffinity(0))
    workers = jobs or min(len(gpus) * jobs_per_gpu, cores) or max(1, cores // (threads or 1))
    return workers, Share(max(1, cores // workers), gpus, jobs_per_gpu)


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, by the names that ``CUDA_VISIBLE_DEVICES`` takes."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(named.split(",")[:count] if named else map(str, range(count)))


def _said(share: Share) -> str:
    of_a_gpu = f"1/{share.jobs_per_gpu} of a GPU" if share.jobs_per_gpu > 1 else "a GPU"
    gpu = f" and {of_a_gpu}" if share.gpus else ""
    return f"{share.threads} thread{'s' * (share.threads > 1)}{gpu}"


def _start(work: bytes, share: Share) -> Worker:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_work, args=(theirs, work), daemon=True)
    with _inherited(share.threads):
        process.start()
    theirs.close()  # so that its death closes the last one
    return Worker(process, ours)


@contextmanager
def _inherited(threads: int) -> Iterator[None]:
    """What a worker starts with: its number of threads, and no Ctrl-C.

    A terminal sends Ctrl-C to all its processes; the driver alone shall decide what it means.
    Libraries read the number of threads when they are first imported.
    """
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in variables}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(dict.fromkeys(variables, str(threads)))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _send(worker: Worker, job: Job) -> None:
    with suppress(OSError):  # it has died; reading from it will say so
        worker.connection.send((names.name(job.config), job))


def _cause(exitcode: int | None) -> str:
    """Why a process ended, from its exit code."""
    if exitcode is None or exitcode >= 0:
        return f"its process ended with status {exitcode}"
    name = signal.Signals(-exitcode).name
    memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{memory}"


def _stop(pool: Sequence[Worker]) -> None:
    """End all workers: one at rest at once, one at work when it has closed its run."""
    for worker in pool:
        worker.connection.close()
        if worker.at is not None:
            worker.process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    try:
        for worker in pool:
            worker.process.join(max(0.0, deadline - time.monotonic()))
    finally:  # also where a second Ctrl-C comes in the meantime
        for worker in pool:
            worker.process.kill()
            worker.process.join()


# ---------------------------------------------------------------- a worker


def _work(connection: Connection, work: bytes) -> None:
    """A worker: one job after another, until the driver closes the connection or dies."""
    threading.Thread(target=_die_with_driver, daemon=True).start()
    signal.signal(signal.SIGTERM, _interrupt)
    sys.stdout, sys.stderr = NamedLines(sys.stdout), NamedLines(sys.stderr)
    with suppress(KeyboardInterrupt):
        # An argument of this process from the driver that started it, never a file.
        share, context, task, singletons = cloudpickle.loads(work)
        setup_globals()
        Singleton.set_state(singletons)
        with leased(share.gpus, share.jobs_per_gpu) if share.gpus else nullcontext() as gpu:
            if gpu is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when CUDA is first used
            for name, job in _received(connection):
                sys.stdout.name = sys.stderr.name = name
                result = execute(job, context, task)
                with suppress(BrokenPipeError):  # the driver has been interrupted
                    connection.send(result)


def _received(connection: Connection) -> Iterator[tuple[str, Job]]:
    """The jobs that the driver sends, with their names, until it closes the connection."""
    with suppress(EOFError, ConnectionResetError):
        while True:
            yield connection.recv()


def _die_with_driver() -> None:
    """Wait until the driver is gone, in whatever way, and go too."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os.kill(os.getpid(), signal.SIGKILL)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


class NamedLines(io.TextIOBase):
    """A stream whose every line begins with the name of the job; lines are written whole."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._begun = stream, ""
        self.name = "worker"

    def write(self, text: str) -> int:
        """Write the lines that are complete; the rest waits for its end."""
        *lines, self._begun = (self._begun + text).split("\n")
        self._stream.write("".join(f"{self.name} | {line}\n" for line in lines))
        self._stream.flush()
        return len(text)


@contextmanager
def leased(gpus: Sequence[str], jobs_per_gpu: int) -> Iterator[str]:
    """Hold one of ``gpus`` with at most ``jobs_per_gpu`` processes on it; wait for a free one.

    The lease is a file lock: it ends with its holder however that ends, and holds between
    sweeps of the same user.
    """
    folder = Path(tempfile.gettempdir(), f"landscape_sweep_gpus_{getpass.getuser()}")
    folder.mkdir(exist_ok=True)
    places = [(gpu, place) for place in range(jobs_per_gpu) for gpu in gpus]
    told = False
    while True:
        for gpu, place in places:
            lock = FileLock(folder / f"{gpu.replace('/', '_')}.{place}.lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            try:
                yield gpu
            finally:
                lock.release()
            return
        if not told:
            print(f"waiting for a free GPU of {', '.join(gpus)}", flush=True)
            told = True
        time.sleep(LEASE_SECONDS)
