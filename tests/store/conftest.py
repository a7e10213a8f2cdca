"""Stores to test against, a clock that stands still, and short ways to make jobs and end them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mpdispatch.clock import Instant
from mpdispatch.model import (
    Cause,
    ClaimedJob,
    ClaimRequest,
    ErrorInfo,
    Job,
    JobState,
    NewJob,
    NewSupervisor,
    Output,
    Run,
    Transition,
)
from mpdispatch.store import SQLiteStore
from mpdispatch.store.contract import Store
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import CommitResult, Progress, Reports
from tests.clock import FakeClock
from tests.kinds import StoreKind

from .requests import request

MINUTE_US = 60_000_000
TTL_US = 30_000_000


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def now(clock: FakeClock) -> Instant:
    return clock.now()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def file_store(path: Path, clock: FakeClock) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path, clock=clock)
    store.check(create=True)
    yield store
    store.close()


@pytest.fixture
def store(store_kind: StoreKind, clock: FakeClock) -> Iterator[Store]:
    """Every kind of store; what a test of it says holds for each."""
    store = store_kind.make(clock)
    yield store
    store_kind.discard(store)


def registration(**changes: Any) -> NewSupervisor:
    values: dict[str, Any] = {
        "host": "here",
        "machine_id": "m-1",
        "boot_id": "b-1",
        "pid": 4711,
        "pid_start": 99,
        "pid_namespace": "pid:[1]",
        "queues": ("default",),
        "concurrency": 4,
        "app": "shop:engine",
        "version": "0.1.0",
    }
    return NewSupervisor(**{**values, **changes})


class Desk:
    """One supervisor on a store: registered, with the clock standing still unless moved."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self.store, self.clock = store, clock
        self.supervisor_store: SupervisorStore = store.supervisor_store()
        self.owner = self.supervisor_store.register(registration(), TTL_US)

    def commit(
        self,
        *transitions: Transition,
        slots: int = 0,
        ready: int | None = None,
        claim: ClaimRequest | None = None,
        progress: Sequence[Progress] = (),
        outputs: Sequence[Output] = (),
        **more: Any,
    ) -> CommitResult:
        if slots or claim is not None:
            claim = msgspec.structs.replace(claim or request(), slots=slots, ready=ready)
        return self.supervisor_store.commit(
            self.owner, transitions, Reports(progress, outputs), claim=claim, **more
        )

    def claim(self, slots: int = 100, claim: ClaimRequest | None = None) -> list[ClaimedJob]:
        return list(self.commit(slots=slots, claim=claim).claimed)

    def close(self) -> None:
        self.supervisor_store.close()


class Woken:
    """The wake-ups of a store, and how often it has used them."""

    def __init__(self, store: Store) -> None:
        self._times = self._ends = 0
        store.wake_ups = self

    def notify(self) -> None:
        self._times += 1

    def listen(self, owner: int) -> None: ...

    def notify_of_ends(self) -> None:
        self._ends += 1

    def listen_for_ends(self) -> None: ...

    def close(self) -> None: ...

    def times(self) -> int:
        """How often since this was last asked."""
        times, self._times = self._times, 0
        return times

    def times_of_ends(self) -> int:
        """How often since this was last asked waiting clients were told."""
        times, self._ends = self._ends, 0
        return times


@pytest.fixture
def new_desk(store: Store, clock: FakeClock) -> Iterator[Callable[[], Desk]]:
    desks: list[Desk] = []

    def make() -> Desk:
        desks.append(Desk(store, clock))
        return desks[-1]

    yield make
    for each in desks:
        each.close()


@pytest.fixture
def desk(new_desk: Callable[[], Desk]) -> Desk:
    return new_desk()


@pytest.fixture
def enqueue(store: Store) -> Callable[..., Job]:
    def make(name: str = "render", payload: Any = None, **options: Any) -> Job:
        body = msgspec.json.encode(payload if payload is not None else {"path": "a.pdf"})
        return store.enqueue(NewJob(name=name, payload=body, **options))

    return make


ERROR = ErrorInfo(type="ValueError", message="no such page", traceback="Traceback …")


def ended(job: ClaimedJob, state: JobState, cause: Cause, at: Instant, **changes: Any) -> Transition:
    """The transition of this start; `run`, `error`, `attempt` and the rest as given."""
    values: dict[str, Any] = {
        "job_id": job.id,
        "starts": job.starts,
        "state": state,
        "attempt": job.attempt,
        "cause": cause,
        "at_us": at.wall_us,
        "run": Run(
            started_us=at.wall_us - 1000, duration_us=900, worker_pid=31, cpu_us=800, max_rss_bytes=2**20
        ),
        "claim_attempt": job.attempt,
    }
    return Transition(**{**values, **changes})


def completed(job: ClaimedJob, at: Instant, result: bytes = b'{"pages":3}', **changes: Any) -> Transition:
    return ended(job, JobState.COMPLETED, Cause.COMPLETED, at, result=result, **changes)


def failed(job: ClaimedJob, at: Instant, **changes: Any) -> Transition:
    return ended(job, JobState.FAILED, Cause.ERROR, at, **{"error": ERROR, **changes})


def retrying(job: ClaimedJob, at: Instant, in_s: float = 60, **changes: Any) -> Transition:
    run_at_us = at.wall_us + round(in_s * 1e6)
    return ended(job, JobState.RETRYING, Cause.ERROR, at, **{"error": ERROR, "run_at_us": run_at_us, **changes})


def released(job: ClaimedJob, at: Instant) -> Transition:
    return ended(job, JobState.PENDING, Cause.RELEASED, at, run=None, attempt=job.attempt - 1)
