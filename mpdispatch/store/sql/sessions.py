"""How work reaches the database: what each backend's sessions offer to the two faces of a store."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol, TypeVar

from mpdispatch.store.sql.connection import Work

T = TypeVar("T")


class Flush(Enum):
    """When a commit is flushed to disk, in a store of full durability."""

    IN_COMMIT = auto()
    """The commit survives a power cut before others see it. Other writers wait, as the lock is held."""
    ONCE_RELEASED = auto()
    """Before `write` returns but after releasing the lock: others see the commit and go on while the disk works.

    For data that nobody relies on until the call returns, such as a new job: a power cut loses it and all later
    commits. Enqueue to first line on an idle system, in a file: 1.28 instead of 1.51 × the sum of its parts.
    """
    LATER = auto()
    """By `sync`, or with the next commit that is flushed."""


class Read(Protocol):
    def __call__(self, work: Work[T]) -> T: ...


class Write(Protocol):
    def __call__(self, work: Work[T], point: str, *, flush: Flush = Flush.IN_COMMIT) -> T: ...


class ClientSessions(Protocol):
    """Sessions of a store's clients: any thread, also after a fork. A call waits up to 30 s, then raises StoreBusy."""

    def read(self, work: Work[T]) -> T:
        """Run `work` and return its result. Several statements in it need not share a snapshot."""
        ...

    def write(self, work: Work[T], point: str, *, flush: Flush = Flush.IN_COMMIT) -> T:
        """Run `work` in one transaction and return its result. `work` may run more than once.

        `point` begins the names of the failpoints before and after the commit.
        """
        ...

    def create(self, work: Work[T], point: str, *, flush: Flush = Flush.IN_COMMIT) -> T:
        """As `write`; creates the store, or migrates it, if that is needed."""
        ...

    def write_jobs(
        self,
        work: Work[T],
        wake: Callable[[], None],
        *,
        is_one_statement: bool = False,
        is_synced: bool = True,
    ) -> T:
        """As `create`, for new jobs: `wake` is called as soon as others can see them.

        `is_one_statement`: `work` is a single INSERT, which needs no transaction of its own.
        """
        ...

    def sync(self) -> None:
        """Return once all that was written is on disk."""
        ...

    def close(self) -> None:
        """Close this thread's session. The next call opens one."""
        ...

    def close_all(self) -> None:
        """Close the sessions of all threads."""
        ...


class SupervisorSession(Protocol):
    """The session of a supervisor: one thread; opened on first use and again after a failure. Raises StoreBusy in 50 ms."""

    def read(self, work: Work[T]) -> T:
        """As `ClientSessions.read`."""
        ...

    def write(self, work: Work[T], point: str, *, flush: Flush = Flush.IN_COMMIT) -> T:
        """As `ClientSessions.write`."""
        ...

    def close(self) -> None: ...
