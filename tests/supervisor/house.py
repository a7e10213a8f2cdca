"""A supervisor with a real store and real workers, stepped by the test. Runs in the test."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import msgspec

from mpdispatch.clock import SECOND_US, Instant, SystemClock
from mpdispatch.config import Config, QueueConfig
from mpdispatch.errors import StoreBusy
from mpdispatch.execution.catalog import LiveCatalog
from mpdispatch.model import (
    Attempt,
    Cause,
    ClaimRequest,
    DeclaredCrons,
    Job,
    JobState,
    NewJob,
    Transition,
)
from mpdispatch.policy.pools import PROCESSES
from mpdispatch.pool.process import WorkerProcess
from mpdispatch.store.sqlite import SQLiteStore
from mpdispatch.store.sqlite.supervisor_store import SQLiteSupervisorStore
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.supervisor.event_publisher import EventPublisher
from mpdispatch.supervisor.loop import Supervisor
from mpdispatch.supervisor.plan import Plan
from mpdispatch.supervisor.runtime import Runtime
from mpdispatch.supervisor.shutdown import RunReport
from mpdispatch.supervisor.wiring import Wiring
from tests.pool.app import engine
from tests.pool.probes import until
from tests.pool.rig import app_reference

__all__ = ["House", "ShiftedClock"]

T = TypeVar("T")

LOG = logging.getLogger("mpdispatch.test")


class ShiftedClock:
    """The machine's clocks plus what the test has added: workers and marks go on the real ones."""

    def __init__(self) -> None:
        self._real, self._shift_us, self._wall_shift_us = SystemClock(), 0, 0
        self._frozen: Instant | None = None

    def freeze(self) -> None:
        """Let no time pass any more but by `advance`."""
        self._frozen = self._real.now()

    def now(self) -> Instant:
        real = self._frozen or self._real.now()
        return Instant(real.wall_us + self._shift_us + self._wall_shift_us, real.boot_us + self._shift_us)

    def advance(self, seconds: float) -> None:
        self._shift_us += round(seconds * SECOND_US)

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock on by so much, as somebody does who sets the date."""
        self._wall_shift_us += round(seconds * SECOND_US)


class House:
    """One store, one supervisor."""

    def __init__(
        self,
        folder: Path,
        *,
        config: dict[str, Any] | None = None,
        queue_configs: tuple[QueueConfig, ...] = (),
        target: str = "tests.pool.app:engine",
        drain: bool = False,
        clock: ShiftedClock | None = None,
        store: Any = None,
        crons: tuple[DeclaredCrons, ...] | Callable[[], tuple[DeclaredCrons, ...]] = (),
        publisher: EventPublisher | None = None,
        pool: str = PROCESSES,
    ) -> None:
        """`store`: another one than that in SQLite; what is done behind its back needs a file. `pool`: see `Config`."""
        self.folder = folder
        self.clock = clock or ShiftedClock()
        self.store = store or SQLiteStore(folder / "jobs.db", durability="process", clock=self.clock)
        self.store.migrate()
        self.config = Config(**({"concurrency": 1, "poll_interval": 0.2, "pool": pool} | (config or {})))
        self.runtime = Runtime.assemble(app_reference(target), log=LOG, clock=self.clock, pool=pool)
        plan = Plan(
            store=self.store,
            config=self.config,
            catalog=LiveCatalog(engine.registry),
            queue_configs=queue_configs,
            crons=crons if callable(crons) else lambda: crons,
        )
        self.wiring = Wiring(self.runtime, plan, app=target, drain=drain, publisher=publisher)
        self.supervisor = Supervisor(self.wiring)
        self.waits: list[float] = []
        """What each tick gave."""
        self._foreign: list[sqlite3.Connection] = []

    def close(self) -> None:
        for connection in self._foreign:
            connection.close()
        self.supervisor.close()
        self.runtime.close()
        self.store.close()

    # -- time -----------------------------------------------------------------------------------------

    def step(self) -> None:
        """One tick, and what there is to hear after it."""
        if self.report is None:
            wait_s = self.supervisor.tick()
            self.waits.append(wait_s)
            if self.report is None:
                self.supervisor.hear(self.runtime.selector.select(min(wait_s, 0.005)))

    def until(self, probe: Callable[[], Any], *, timeout_s: float = 10.0, what: str = "") -> Any:
        """Step until this is so; gives what the probe gave."""

        def look() -> Any:
            self.step()
            return probe()

        return until(look, timeout_s=timeout_s, what=what)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    @property
    def report(self) -> RunReport | None:
        return self.supervisor.report

    # -- jobs -----------------------------------------------------------------------------------------

    def enqueue(self, name: str, /, options: dict[str, Any] | None = None, **payload: object) -> int:
        data = msgspec.json.encode({key: str(v) if isinstance(v, Path) else v for key, v in payload.items()})
        job = NewJob(name=name, payload=data, **(options or {}))
        return self.store.enqueue(job).id

    def job(self, job_id: int) -> Job:
        return self.store.get(job_id)

    def state(self, job_id: int) -> JobState:
        return self.store.state_of(job_id)

    def until_state(self, job_id: int, *states: JobState, timeout_s: float = 10.0) -> Job:
        self.until(lambda: self.state(job_id) in states, timeout_s=timeout_s, what=f"{states} of job {job_id}")
        return self.job(job_id)

    def ended(self, *job_ids: int) -> list[Job]:
        """These jobs, once all of them have ended."""
        for job_id in job_ids:
            self.until(lambda job_id=job_id: self.state(job_id).is_terminal, what=f"the end of job {job_id}")
        return [self.job(job_id) for job_id in job_ids]

    def causes(self, job_id: int) -> list[Cause]:
        return [each.cause for each in self.store.attempts(job_id)]

    def attempt(self, job_id: int) -> Attempt:
        """Its one start."""
        (only,) = self.store.attempts(job_id)
        return only

    # -- behind its back ------------------------------------------------------------------------------

    def _as_owner(self, work: Callable[[SupervisorStore], T]) -> T:
        supervisor_store = self.store.supervisor_store()
        try:
            return work(supervisor_store)
        finally:
            supervisor_store.close()

    def unregister(self) -> None:
        """Take its registration away, as a rescuer does."""
        self._as_owner(lambda supervisor_store: supervisor_store.unregister(self.owner))

    def claim_unseen(self, queue: str) -> list[int]:
        """Claim a queue's jobs in its name, and do not tell it: as if the answer to a claim was lost."""
        request = ClaimRequest(queues=(queue,), slots=100)

        def claim(supervisor_store: SupervisorStore) -> list[int]:
            result = supervisor_store.commit(self.owner, [], claim=request)
            return [job.id for job in result.claimed]

        return self._as_owner(claim)

    @contextmanager
    def out_of_reach(self) -> Iterator[None]:
        """Meanwhile the store says "busy" to each of its heartbeats, until it has lost its lease."""

        def busy(*_: object, **__: object) -> None:
            raise StoreBusy("jobs.db")

        with patch.object(SQLiteSupervisorStore, "renew", busy):
            self.clock.advance(self.config.stale_job_threshold)
            yield

    def take_away(self, job_id: int) -> None:
        """Put a running job of its off for a hundred years."""
        job, now = self.job(job_id), self.clock.now()
        transition = Transition(
            job_id=job_id,
            starts=job.starts,
            state=JobState.SCHEDULED,
            attempt=0,
            claim_attempt=1,
            cause=Cause.RELEASED,
            at_us=now.wall_us,
            run_at_us=now.wall_us + 100 * 365 * 86400 * SECOND_US,
        )
        assert not self._as_owner(
            lambda supervisor_store: supervisor_store.commit(self.owner, [transition])
        ).rejected

    def lock(self) -> sqlite3.Connection:
        """A foreign program that has begun to write. Close it to let go."""
        connection = sqlite3.connect(self.folder / "jobs.db", isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        self._foreign.append(connection)
        return connection

    @property
    def owner(self) -> int:
        """The registration of this supervisor."""
        return self.store.supervisors()[-1].id

    @property
    def workers(self) -> list[WorkerProcess]:
        return self.runtime.pool.workers

    def ready(self, count: int = 1) -> list[WorkerProcess]:
        """The workers, once that many take jobs."""
        self.until(lambda: len(self.runtime.pool.ready) >= count, what=f"{count} workers")
        return self.runtime.pool.ready
