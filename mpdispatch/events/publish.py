"""An engine's extensions: which of them want which events, and how an event gets to them. Effects: its hook queue.

in the app's process     enqueue, supervisor ──▶ hook queue ──▶ hooks
in a worker              enqueue ──▶ route (a frame to the supervisor)
in the hook process      frames ──▶ hooks; jobs that a hook enqueues ──▶ route, back into the same queue
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable, Sequence

from mpdispatch.events.notices import EnqueuedMany, Notice, encode_events, enqueued, events_of, fired
from mpdispatch.events.queue import HookQueue, Subscribers
from mpdispatch.hooks import HOOKS, CronFired, Extension, JobEnqueued
from mpdispatch.model import Job, NewJob

DRAIN_S = 5.0
"""How long a process, or a supervisor, waits for hooks before it ends."""

Route = Callable[[bytes, int], None]
"""Takes events as JSON, and their number."""

_ENQUEUED, _FIRED = HOOKS[JobEnqueued], HOOKS[CronFired]


class Hooks:
    """The extensions of an engine, metrics included. For any thread and any process."""

    def __init__(
        self, extensions: Sequence[Extension], metrics: Callable[[], Extension | None], log: logging.Logger
    ) -> None:
        self.extensions = tuple(extensions)
        """The extensions as the app gave them."""
        self._metrics, self._log = metrics, log
        self._subscribers: Subscribers | None = None
        self._has_metrics = False
        self._queue: HookQueue | None = None
        self._route: Route | None = None

    def subscribers(self) -> Subscribers | None:
        """The extensions to call in this process; None: there are none."""
        metrics = self._metrics()
        if self._subscribers is None or (metrics is not None and not self._has_metrics):
            if metrics is None and not self.extensions:
                return None
            self._has_metrics = metrics is not None
            every = self.extensions if metrics is None else (*self.extensions, metrics)
            self._subscribers = Subscribers(every, self._log)
        return self._subscribers

    def wanted(self) -> frozenset[str]:
        """The names of all hooks that an extension overrides."""
        subscribers = self.subscribers()
        return frozenset() if subscribers is None else subscribers.wanted

    def queue(self) -> HookQueue:
        """The queue and thread for hooks in this process. There is one, so one thread calls an extension."""
        if self._queue is None:
            self._queue = queue = HookQueue(self._deliver, self._log)
            atexit.register(queue.drain, DRAIN_S)
        return self._queue

    def _deliver(self, notices: Sequence[Notice]) -> None:
        if (subscribers := self.subscribers()) is not None:
            subscribers.deliver(notices)

    def route(self, route: Route) -> None:
        """From now on, send events of enqueues in this process to another process instead of calling hooks."""
        self._route = route

    # -- enqueues ---------------------------------------------------------------------------------------

    def enqueued(self, job: Job, *, is_committed: bool = True) -> None:
        """Report a new job."""
        subscribers = self.subscribers()
        if subscribers is not None and _ENQUEUED in subscribers.wanted and job.created:
            self._publish(enqueued(job, is_committed=is_committed))

    def enqueued_many(self, template: NewJob, ids: Sequence[int], batch_id: int, at_us: int) -> None:
        """Report jobs that were enqueued together."""
        if ids and _ENQUEUED in self.wanted():
            self._publish(EnqueuedMany(template, ids, batch_id, at_us))

    def fired(self, entry: str, job: Job) -> None:
        """Report a firing by hand, and its new job."""
        self.enqueued(job)
        if _FIRED in self.wanted():
            self._publish(fired(entry, job))

    def _publish(self, notice: Notice) -> None:
        if self._route is None:
            self.queue().offer([notice], len(notice.ids) if isinstance(notice, EnqueuedMany) else 1)
        else:
            events = list(events_of(notice))
            self._route(encode_events(events), len(events))
