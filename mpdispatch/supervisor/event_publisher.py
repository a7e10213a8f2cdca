"""Sends events to extensions: starts when the loop sees them, outcomes once on disk. Effects: a hook sink.

Nothing here waits, except to close. There is no publisher if no extension has a hook.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Protocol

from mpdispatch.clock import Clock
from mpdispatch.events.notices import Began, Forwarded, Notice, Recorded, ended, enqueued, fired, late
from mpdispatch.events.publish import DRAIN_S
from mpdispatch.events.queue import HookQueue, NoticeQueue
from mpdispatch.hooks import HOOKS, CronFired, CronLate, JobEnqueued, JobStarted
from mpdispatch.model import ClaimedJob, CronEntry, Job, Transition
from mpdispatch.pool.hook_process import HookProcess


class Sink(Protocol):
    """Takes notices. All methods but `close` return at once."""

    def offer(self, notices: list[Notice], count: int) -> None: ...

    def close(self, timeout_s: float) -> None:
        """Deliver the waiting notices; waits at most `timeout_s`."""
        ...


class LocalSink:
    """Hooks in this process: the engine's own hook queue."""

    def __init__(self, queue: NoticeQueue) -> None:
        self._queue = queue
        self.offer = queue.offer

    def close(self, timeout_s: float) -> None:
        self._queue.drain(timeout_s)


class ProcessSink:
    """Hooks in a separate process. A thread here delivers the events, and may wait for that process."""

    def __init__(self, process: HookProcess, log: logging.Logger) -> None:
        self._process = process
        self._queue = HookQueue(process.deliver, log)
        self.offer = self._queue.offer

    def close(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        self._queue.drain(timeout_s)
        self._process.close(max(0.1, deadline - time.monotonic()))


class EventPublisher:
    """Gathers the notices of a commit and offers them together. One thread, the loop's."""

    def __init__(self, sink: Sink, wanted: frozenset[str], clock: Clock) -> None:
        self._sink, self._clock = sink, clock
        self._wanted = wanted
        self.wants_starts = HOOKS[JobStarted] in wanted
        self._waiting: list[Notice] = []
        self._begun: set[tuple[int, int]] = set()
        """Starts that were published and have no outcome yet."""

    def has_published(self, job: ClaimedJob) -> bool:
        """Whether this start was published and has no outcome yet."""
        return (job.id, job.starts) in self._begun

    def started(self, job: ClaimedJob, started_wall_us: int, worker_pid: int) -> None:
        """Its handler was called. Offered with the next `flush`."""
        self._begun.add((job.id, job.starts))
        self._waiting.append(Began(job, started_wall_us, worker_pid))

    def recorded(self, job: ClaimedJob, transition: Transition) -> None:
        """An outcome is on disk. Offered with the next `flush`."""
        run = transition.run
        if run is not None and self.wants_starts:
            token = (job.id, job.starts)
            if token in self._begun:
                self._begun.discard(token)
            else:
                self._waiting.append(Began(job, run.started_us, run.worker_pid))
        self._waiting.append(Recorded(job, transition))

    def rescued(self, job: ClaimedJob, transition: Transition) -> None:
        """As `recorded`, for a start that another supervisor has published."""
        self._waiting.append(Recorded(job, transition))

    def enqueued(self, events: bytes, count: int) -> None:
        """A handler enqueued jobs. Offered at once."""
        self._sink.offer([Forwarded(events)], count)

    def fired(self, entry: str, jobs: Iterable[Job]) -> None:
        """A cron entry fired: these new jobs are on disk. Offered with the next `flush`."""
        for job in jobs:
            if HOOKS[JobEnqueued] in self._wanted:
                self._waiting.append(enqueued(job, is_committed=True))
            if HOOKS[CronFired] in self._wanted:
                self._waiting.append(fired(entry, job))

    def called_back(self, jobs: Iterable[Job]) -> None:
        """Batches have ended: these callbacks are on disk. Offered with the next `flush`."""
        if HOOKS[JobEnqueued] in self._wanted:
            self._waiting += [enqueued(job, is_committed=True) for job in jobs]

    def late(self, entry: CronEntry, since_us: int) -> None:
        """A cron entry is late now, and that is on disk. Offered with the next `flush`."""
        if HOOKS[CronLate] in self._wanted:
            self._waiting.append(late(entry, since_us, self._clock.now().wall_us))

    def flush(self) -> None:
        """Offer the gathered notices to the sink."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._sink.offer(waiting, len(waiting))

    def forget(self) -> None:
        """All jobs we held were given up."""
        self._begun.clear()

    def close(self, *, exit_code: int, completed: int, failed: int) -> None:
        """Publish the last event; waits at most 5 s for the hooks."""
        now_us = self._clock.now().wall_us
        self._waiting.append(ended(now_us, exit_code=exit_code, completed=completed, failed=failed))
        self.flush()
        self._sink.close(DRAIN_S)
