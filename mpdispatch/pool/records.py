"""Which worker has which record of the start journal. Runs in the supervisor.

A worker without one gets no job. The record of a dead worker is kept until the last outcomes of its jobs are on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mpdispatch.host.start_journal import Journal
from mpdispatch.host.worker_record import WorkerRecord
from mpdispatch.pool.frames import Attach


class Holder(Protocol):
    """A worker that has a record, or waits for one."""

    record: WorkerRecord | None
    unwritten: int

    def attach(self, record: WorkerRecord) -> None: ...

    def send_attach(self, frame: Attach) -> None: ...


class Records:
    """The records of one pool. There are none before `open`."""

    def __init__(self) -> None:
        self._journal: Journal | None = None
        self._attach: Callable[[int], Attach] | None = None
        self._of_dead: list[Holder] = []

    def open(self, journal: Journal, attach: Callable[[int], Attach]) -> None:
        """`attach` makes the frame of a record."""
        self._journal, self._attach = journal, attach

    def give(self, worker: Holder) -> None:
        """Give the worker a record, if it has none and one is free; otherwise a later call does."""
        if self._journal is None or self._attach is None or worker.record is not None:
            return
        record = self._journal.take_record()
        if record is not None:
            worker.attach(record)
            worker.send_attach(self._attach(record.index))

    @property
    def no_room(self) -> OSError | None:
        """The error of the last attempt to get a record, if the disk was full."""
        return None if self._journal is None else self._journal.no_room

    def is_outdated(self, worker: Holder) -> bool:
        """Whether its record is in a file of the journal that was removed: readers do not see it."""
        if self._journal is None or worker.record is None:
            return False
        return not self._journal.is_of_this_file(worker.record)

    def keep_of(self, worker: Holder) -> bool:
        """The worker is dead. Whether it had a record, so that `free` may find a free one."""
        if worker.record is None:
            return False
        self._of_dead.append(worker)
        return True

    def free(self) -> bool:
        """Free the records of dead workers whose last outcomes are on disk. Whether one may be free now."""
        if self._journal is None or not (self._of_dead or self._journal.no_room):
            return False
        for worker in list(self._of_dead):
            if worker.unwritten == 0 and worker.record is not None:
                self._of_dead.remove(worker)
                self._journal.give_back(worker.record)
        self._journal.no_room = None  # the next attempt finds out
        return True

    def detach(self) -> None:
        """The journal is closed."""
        self._journal = self._attach = None
        self._of_dead.clear()
