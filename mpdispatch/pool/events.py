"""What the pool tells the supervisor. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from mpdispatch.handlers.description import AppDescription
from mpdispatch.model import ClaimedJob, Outcome
from mpdispatch.pool.frames import Wrote
from mpdispatch.pool.process import WorkerProcess


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has imported the app."""

    worker: WorkerProcess
    app: AppDescription


@dataclass(frozen=True, slots=True)
class BootFault:
    """A worker ended before it was ready."""

    reason: str
    traceback: str


class Settled(NamedTuple):
    """A job that was started has an outcome. A tuple, because each job makes one, and it is four times as fast."""

    worker: WorkerProcess
    job: ClaimedJob
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Returned:
    """Jobs that never began are no longer with a worker."""

    jobs: list[ClaimedJob]


@dataclass(frozen=True, slots=True)
class Said:
    """A handler reported its progress (JSON)."""

    job_id: int
    starts: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A handler enqueued jobs: events for the extensions (JSON), and their number."""

    events: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Gone:
    """A worker that had been ready has ended."""

    worker: WorkerProcess
    unbegun: tuple[ClaimedJob, ...] = ()
    """Its jobs, in the order sent, if it had begun none of them. They are in a `Returned`, too."""
    has_read: bool = True
    """Whether it had got so far that it may have read any of them."""


Event: TypeAlias = Ready | BootFault | Settled | Returned | Said | Wrote | Enqueued | Gone
