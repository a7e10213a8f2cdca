"""A pool with its selector and marks, and what it says, for tests of the pool alone. Runs in the test."""

from __future__ import annotations

import itertools
import logging
import secrets
import selectors
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mpdispatch.clock import SystemClock
from mpdispatch.execution.app_reference import AppReference
from mpdispatch.host.start_journal import Journal, journal_path
from mpdispatch.model import ClaimedJob
from mpdispatch.pool.events import BootFault, Event, Gone, Progressed, Ready, Returned, Settled
from mpdispatch.pool.frames import Attach, Boot
from mpdispatch.pool.pool import ProcessPool
from mpdispatch.pool.process import WorkerProcess
from mpdispatch.pool.protocol import Pool
from mpdispatch.pool.selector import Selector
from mpdispatch.pool.spawner import Spawner
from tests.pool.probes import state_of, until

E = TypeVar("E")

# Its own for each process of the tests: a sweep goes by it.
TOKEN = secrets.token_hex(8)


def app_reference(target: str = "tests.pool.app:engine") -> AppReference:
    return AppReference(target=target, sys_path=tuple(sys.path))


class Rig:
    """Collects every event in `events`, in order."""

    def __init__(self, folder: Path, *, target: str = "tests.pool.app:engine", records: int = 4) -> None:
        self.folder = folder
        self.selector = Selector()
        self.pool: Any = self.make_pool(Boot(app=app_reference(target), log_level=logging.CRITICAL))
        self.marks = Journal(journal_path(folder, 1), records, token=TOKEN)
        self.events: list[Event] = []
        self.kills_children = True
        self._ids = itertools.count(1)

    def make_pool(self, boot: Boot) -> Pool:
        return ProcessPool(
            boot,
            spawner=Spawner(TOKEN, self.selector, logging.getLogger("mpdispatch.tests"), zygote=False),
            selector=self.selector,
            clock=SystemClock(),
        )

    def open(self) -> None:
        self.pool.open(self.marks, self._attach)

    def _attach(self, record: int) -> Attach:
        return Attach(
            journal_path=str(self.marks.path),
            record=record,
            store=None,
            max_payload_bytes=1 << 20,
            max_result_bytes=64 << 20,
            kills_children=self.kills_children,
        )

    def close(self) -> None:
        self.pool.kill_all()
        self.pool.close()
        self.marks.close(remove=True)
        self.selector.close()

    # -- hearing --------------------------------------------------------------------------------------

    def receive(self) -> None:
        """Take in what is there now."""
        self.events += self.pool.receive(self.selector.select(0.005))

    def until(self, probe: Callable[[], Any], what: str = "") -> None:
        """Hear until this is so."""

        def look() -> Any:
            self.receive()
            return probe()

        try:
            until(look, what=what)
        except AssertionError as error:
            states = [(worker.pid, state_of(worker.pid), worker.state) for worker in self.pool.workers]
            raise AssertionError(f"{error}; heard {self.events}; workers {states}") from None

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def wait_for(self, kind: type[E], count: int = 1) -> E:
        """The `count`-th event of this kind."""
        self.until(lambda: len(self.all(kind)) >= count, f"{kind.__name__} number {count}")
        return self.all(kind)[count - 1]

    def summary(self) -> list[str]:
        """Events but Ready, in a word each."""
        found = []
        for event in self.events:
            match event:
                case Settled(job=job, outcome=outcome):
                    found.append(f"Settled {job.name} {type(outcome).__name__}")
                case Returned(jobs=jobs):
                    found.append(f"Returned {len(jobs)}")
                case Gone() | BootFault():
                    found.append(type(event).__name__)
        return found

    # -- workers and jobs -----------------------------------------------------------------------------

    def ready(self) -> WorkerProcess:
        """A new worker that takes jobs."""
        worker = self.pool.spawn()
        self.until(lambda: worker in self.pool.ready, "a worker")
        return worker

    def job(self, name: str, *, timeout_us: int | None = None, **payload: object) -> ClaimedJob:
        return ClaimedJob(
            id=next(self._ids),
            starts=1,
            attempt=1,
            name=name,
            queue="default",
            priority=0,
            run_at_us=0,
            max_retries=3,
            timeout_us=timeout_us,
            idempotency_key=None,
            payload=msgspec.json.encode({key: _plain(value) for key, value in payload.items()}),
        )

    def give(self, worker: WorkerProcess, name: str, **payload: object) -> ClaimedJob:
        job = self.job(name, **payload)  # type: ignore[arg-type]
        worker.assign([job], 0)
        assert worker.flush() == []
        return job

    def give_together(self, worker: WorkerProcess, *jobs: ClaimedJob) -> None:
        """In one frame."""
        for job in jobs:
            worker.assign([job], 0)
        assert worker.flush() == []

    def settled(self, job: ClaimedJob) -> Settled:
        """The outcome of this job, once it is heard."""

        def found() -> list[Settled]:
            return [each for each in self.all(Settled) if each.job is job]

        self.until(found, f"an outcome of {job.name}")
        (only,) = found()
        return only

    def is_readable(self, worker: WorkerProcess) -> bool:
        """Whether the worker has said something nobody has heard yet."""
        with selectors.DefaultSelector() as looking:
            looking.register(worker.launched.channel, selectors.EVENT_READ)
            return bool(looking.select(0))


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


__all__ = ["TOKEN", "BootFault", "Gone", "Progressed", "Ready", "Returned", "Rig", "Settled", "app_reference"]
