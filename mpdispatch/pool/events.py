"""What the pool tells the supervisor. Values only."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec

from mpdispatch.handlers.description import AppDescription
from mpdispatch.model import ClaimedJob, Outcome
from mpdispatch.pool.frames import Wrote
from mpdispatch.pool.protocol import Worker


class Ready(msgspec.Struct, frozen=True):
    """A worker has imported the app."""

    worker: Worker
    app: AppDescription


class BootFault(msgspec.Struct, frozen=True):
    """A worker ended before it was ready."""

    reason: str
    traceback: str


class Settled(NamedTuple):
    """A job that was started has an outcome, which is not on disk yet. A tuple is made four times as fast, once per job."""

    worker: Worker
    job: ClaimedJob
    outcome: Outcome


class Returned(msgspec.Struct, frozen=True):
    """Jobs that never began are no longer with a worker."""

    jobs: list[ClaimedJob]


class Progressed(msgspec.Struct, frozen=True):
    """A handler reported its progress (JSON)."""

    job_id: int
    starts: int
    data: bytes


class Enqueued(msgspec.Struct, frozen=True):
    """A handler enqueued jobs: events for the extensions (JSON), and their number."""

    events: bytes
    count: int


class Gone(msgspec.Struct, frozen=True):
    """A worker that had been ready has ended."""

    worker: Worker
    unbegun: tuple[ClaimedJob, ...] = ()
    """Its jobs, in the order sent, if it had begun none of them. They are in a `Returned`, too."""
    has_read: bool = True
    """Whether it had got so far that it may have read any of them."""


Event: TypeAlias = Ready | BootFault | Settled | Returned | Progressed | Wrote | Enqueued | Gone
