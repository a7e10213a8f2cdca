"""The thread that calls hooks, and the bounded queue it takes notices from. Effects: a thread; runs the user's code.

    offer(notices) ──queue──▶ thread: deliver(notices)

`offer` never waits. Notices that do not fit into the queue are dropped and counted; the count is logged.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from mpdispatch.events.notices import Notice, events_of
from mpdispatch.hooks import HOOKS, Event, Extension, overridden

MOST_WAITING = 10_000
"""The most events that wait (the last offer may exceed it)."""
THREAD_NAME = "mpdispatch-hooks"
_LOG_EVERY_S = 10.0
"""How often dropped events are logged while events are being dropped."""

Deliver = Callable[[Sequence[Notice]], None]


class NoticeQueue(Protocol):
    """What takes the notices of a supervisor in its own process."""

    def offer(self, notices: Sequence[Notice], count: int) -> None:
        """Take these notices of about `count` events; returns at once."""
        ...

    def drain(self, timeout_s: float) -> bool:
        """Wait, at most this long, until everything offered so far is delivered. False: it is not."""
        ...


class Subscribers:
    """The hooks of all extensions, by kind of event."""

    def __init__(self, extensions: Sequence[Extension], log: logging.Logger) -> None:
        self._log = log
        self._hooks: dict[type, list[tuple[str, Callable[[Event], None]]]] = {}
        self._raised: set[tuple[str, str]] = set()
        for extension in extensions:
            own = overridden(extension)
            name = extension.name or type(extension).__name__
            for kind, hook in HOOKS.items():
                if hook in own:
                    self._hooks.setdefault(kind, []).append((name, getattr(extension, hook)))
        self.wanted = frozenset(HOOKS[kind] for kind in self._hooks)
        """The names of all hooks that an extension overrides."""

    def deliver(self, notices: Sequence[Notice]) -> None:
        """Call the hooks for these, in order. Never raises."""
        for notice in notices:
            for event in events_of(notice):
                self.call(event)

    def call(self, event: Event) -> None:
        """Call the hooks for one event. Never raises."""
        for name, hook in self._hooks.get(type(event), ()):
            try:
                hook(event)
            except BaseException as error:  # noqa: BLE001 - whatever a hook raises is its own affair
                self._log_failure(name, HOOKS[type(event)], error)

    def _log_failure(self, name: str, hook: str, error: BaseException) -> None:
        # The traceback only once: a hook that fails for every job would fill the log.
        is_first = (name, hook) not in self._raised
        self._raised.add((name, hook))
        self._log.error(
            "extension %s raised in %s: %r",
            name,
            hook,
            error,
            exc_info=error if is_first else None,
            extra={"extension": name, "hook": hook},
        )


class HookQueue:
    """The queue and its thread. The first offer starts the thread. Any thread may offer."""

    def __init__(self, deliver: Deliver, log: logging.Logger, *, most: int = MOST_WAITING) -> None:
        self._deliver, self._log, self._most = deliver, log, most
        self._queue: queue.SimpleQueue[tuple[Sequence[Notice], int]] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._pid = 0
        self._offered = self._done = 0
        self._unlogged = 0
        self._logged_at_s = -_LOG_EVERY_S
        self.dropped = 0
        """Events dropped so far."""

    def offer(self, notices: Sequence[Notice], count: int) -> None:
        """Queue these notices of about `count` events; returns at once."""
        if self._pid != os.getpid():
            self._begin()
        with self._changed:
            if self._offered - self._done >= self._most:
                self._drop(count)
                return
            self._offered += count
        self._queue.put((notices, count))

    def _begin(self) -> None:
        """Start the thread, also in a forked child, whose queue is empty at first."""
        if self._pid:
            # After a fork the lock may be held by a thread of the parent, which does not exist here to release it.
            self._changed = threading.Condition()
        with self._changed:
            if self._pid == os.getpid():
                return
            self._queue = queue.SimpleQueue()
            self._offered = self._done = 0
            threading.Thread(target=self._main, args=(self._queue,), name=THREAD_NAME, daemon=True).start()
            self._pid = os.getpid()

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._unlogged += count
        if time.monotonic() - self._logged_at_s >= _LOG_EVERY_S:
            self._log_dropped()

    def _log_dropped(self) -> None:
        self._logged_at_s = time.monotonic()
        count, self._unlogged = self._unlogged, 0
        self._log.error(
            "hooks are too slow: %d events were dropped",
            count,
            extra={"dropped": count, "in_all": self.dropped},
        )

    def _main(self, source: queue.SimpleQueue[tuple[Sequence[Notice], int]]) -> None:
        while True:
            notices, count = source.get()
            try:
                self._deliver(notices)
            except Exception:  # noqa: BLE001 - junk a worker sent as events; the thread must live on
                self._log.exception("events could not be delivered to the hooks")
            with self._changed:
                self._done += count
                if self._done == self._offered:
                    self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait, at most this long, until everything offered so far is delivered. False: it is not."""
        deadline = time.monotonic() + timeout_s
        if self._pid != os.getpid():
            return True
        with self._changed:
            while self._done < self._offered:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    self._log.error(
                        "hooks did not end in time: %d events are lost",
                        self._offered - self._done,
                        extra={"lost": self._offered - self._done},
                    )
                    return False
                self._changed.wait(left_s)
            if self._unlogged:
                self._log_dropped()
            return True
