"""`mpdispatch supervise` as a process of its own on a store of its own, warm before anything is measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from app import engine_on
from sizes import WORKERS

from mpdispatch import Engine, JobState
from mpdispatch.model import NewJob

HERE = Path(__file__).resolve().parent
QUEUE = "default"
PATIENCE_S = 60.0
"""Without progress for this long the bench gives up, and says what the supervisor logged."""


class Stuck(Exception):
    """What was waited for did not come."""


def until(
    probe: Callable[[], bool], what: str, *, every_s: float = 0.002, patience_s: float = PATIENCE_S
) -> None:
    """Wait until it holds. Raises Stuck."""
    deadline = time.monotonic() + patience_s
    while not probe():
        if time.monotonic() > deadline:
            raise Stuck(f"waited {patience_s:.0f} s for {what}")
        time.sleep(every_s)


class Service:
    """A store, an engine on it in this process, and (within `with`) a supervisor of it in another.

    Enqueues of this process are thus enqueues "from another process".
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        store: str | None = None,
        workers: int = WORKERS,
        supervisors: int = 1,
        app: str = "app:engine",
        queues: Sequence[str] = (QUEUE,),
        start_method: str = "forkserver",
    ) -> None:
        """`store`: where, if not in a file of the folder. `supervisors`: so many, with so many `workers` each."""
        self.folder, self.path = folder, folder / f"{name}.db"
        self._store = store or str(self.path)
        self.engine: Engine = engine_on(self._store)
        self._workers, self._supervisors = workers, supervisors
        self._app, self._queues = app, queues
        self._start_method = start_method
        self._log = folder / f"{name}.log"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._least_s: dict[str, float] = {}
        """The least time a job of a kind has taken in a drain of this service."""

    # -- the supervisor ---------------------------------------------------------------------------------

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start one more supervisor; returns at once."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MPDISPATCH_")}
        paths = [str(HERE), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        environment["MPDISPATCH_START_METHOD"] = self._start_method
        command = ["-m", "mpdispatch", "--store", self._store, "supervise", self._app]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command, "-c", str(self._workers), "-q", ",".join(self._queues)],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def __enter__(self) -> Self:
        try:
            for _ in range(self._supervisors):
                self.spawn()
            self.warm_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def warm_up(self) -> None:
        """Return once every worker has run something, and no-ops are known to be short."""
        deadline = time.monotonic() + PATIENCE_S
        # Within one round: the first of a supervisor's workers may be replaced when the others are up.
        while len(self.worker_pids()) < self._supervisors * self._workers:
            if time.monotonic() > deadline:
                raise Stuck(f"the workers did not come up: {self.log_tail()}")
        if self._app == "app:engine":
            self.finish(self.enqueue("noop", 300))
        time.sleep(0.05)  # the last fsync and clean-up of the warm-up are not the subject's

    def worker_pids(self) -> set[int]:
        """Of those that take part in a few naps begun now."""
        naps = 2 * self._supervisors * self._workers
        ids = list(self.engine.enqueue_many("nap", [{"seconds": 0.05}] * naps))
        jobs = [self.engine.wait(job_id, timeout=PATIENCE_S) for job_id in ids]
        return {job.worker_pid for job in jobs if job.worker_pid is not None}

    @property
    def pid(self) -> int:
        """Of the supervisor that was started last."""
        return self._processes[-1].pid

    def is_supervisor(self, pid: int) -> bool:
        return any(process.pid == pid for process in self._processes)

    def forget(self, pid: int) -> None:
        """Of one that was killed."""
        for process in [each for each in self._processes if each.pid == pid]:
            process.wait(PATIENCE_S)
            self._processes.remove(process)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Keep the supervisor from running (SIGSTOP), so that what is done meanwhile reaches it at one moment.

        Only while it is idle: stopped within a transaction it would keep everybody waiting.
        """
        time.sleep(0.05)
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        self.engine.store.close()

    # -- jobs -------------------------------------------------------------------------------------------

    def enqueue(self, name: str, count: int, *, are_members: bool = True, **args: Any) -> Sequence[int]:
        """Their ids, in the order they will be claimed. `are_members`: of a batch."""
        if are_members:
            return list(self.engine.enqueue_many(name, (args for _ in range(count))))
        store, job = self.engine.store, NewJob(name=name, payload=json.dumps(args).encode())
        ids = [store.enqueue(job, is_synced=False).id for _ in range(count)]
        store.sync()
        return ids

    def finish(self, ids: Sequence[int], *, every_s: float = 0.002) -> None:
        """Wait until all are on disk as ended. Looks at one row, then at two indexes, so it hardly disturbs.

        Raises:
            Stuck: they did not end.
        """
        store = self.engine.store
        self._until(lambda: store.state_of(ids[-1]).is_terminal, f"job {ids[-1]} to end", every_s)
        self._until(lambda: not self.has_open_jobs(), "the last jobs to end", every_s)

    def has_open_jobs(self) -> bool:
        return any(
            self.engine.list_jobs(state=state, limit=1).items
            for state in (JobState.PENDING, JobState.RUNNING, JobState.RETRYING)
        )

    def timed_drain(self, ids: Sequence[int], kind: str = "") -> float:
        """Seconds from just before the paused queue is resumed until all these jobs are on disk as ended.

        `kind`: jobs of the same take about as long.
        """
        began = time.perf_counter()
        self.engine.resume_queue(QUEUE)
        # Whoever watches takes part of the machine, 0.3 ms for a look between busy workers: not before it may be
        # over, and not more often than it takes to be right to half a percent.
        expected_s = len(ids) * self._least_s.get(kind, 0.0)
        time.sleep(0.7 * expected_s)
        self.finish(ids, every_s=max(0.002, expected_s / 200))
        elapsed_s = time.perf_counter() - began
        self._least_s[kind] = min(self._least_s.get(kind, elapsed_s), elapsed_s / len(ids))
        return elapsed_s

    def drain(self, name: str, count: int, *, are_members: bool = True, **args: Any) -> float:
        """Seconds to run that many jobs, which wait in a paused queue of a warm supervisor before the clock starts."""
        self.engine.pause_queue(QUEUE)
        before = self.engine.counts()[JobState.COMPLETED]
        ids = self.enqueue(name, count, are_members=are_members, **args)
        elapsed_s = self.timed_drain(ids, f"{name} {args}")
        done = self.engine.counts()[JobState.COMPLETED] - before
        if done != count:
            raise Stuck(f"{count} jobs were drained, but {done} completed: {self.log_tail()}")
        return elapsed_s

    def _until(self, probe: Callable[[], bool], what: str, every_s: float) -> None:
        try:
            until(probe, what, every_s=every_s)
        except Stuck as stuck:
            raise Stuck(f"{stuck}: {self.log_tail()}") from None

    def wal_bytes(self) -> int:
        try:
            return os.stat(f"{self.path}-wal").st_size
        except FileNotFoundError:
            return 0
