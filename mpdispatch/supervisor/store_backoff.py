"""Pauses calls while the store is busy or full, logs it, and kills a stopped lock holder. Effects: signals."""

from __future__ import annotations

import logging
import os

from mpdispatch.clock import SECOND_US
from mpdispatch.errors import StoreBusy, StoreError
from mpdispatch.host.kill import is_our_user, kill_process
from mpdispatch.host.processes import ProcessId, process_start, process_state
from mpdispatch.repeated import Repeated
from mpdispatch.store.supervisor_contract import SupervisorStore

_BUSY_US = 20_000
_RETRY_US = 500_000
_APART_US = 5 * SECOND_US
"""An error that returns within this time is the same condition: a full store fails some calls only."""
_STOPPED_US = 5 * SECOND_US
"""A stopped process that holds the write lock is killed after this long, because no one else can write."""


class StoreBackoff:
    """When to try the store again. Times are boottime µs."""

    def __init__(self, store: SupervisorStore, log: logging.Logger, repeats: Repeated | None = None) -> None:
        self._store, self._log = store, log
        self._repeats = repeats or Repeated(log)
        self._busy_since_us: int | None = None
        self._last_error: str | None = None
        self._failed_us = 0
        self.until_us = 0
        """The store is not called before this time."""

    def failed(self, error: StoreError, now_us: int) -> None:
        """A call failed; nothing of it was written."""
        if isinstance(error, StoreBusy):
            self._busy(now_us)
            return
        self.until_us = now_us + _RETRY_US
        if self._last_error is None and now_us - self._failed_us >= _APART_US:
            for key in (("backoff", type(error)), "works"):
                self._repeats.over(key)  # a new backoff, not the same one again
        self._last_error, self._failed_us = str(error), now_us
        # The key is the error's type: its text may name another file each time.
        self._repeats.log(
            ("backoff", type(error)),
            logging.ERROR,
            "the store is in backoff; outcomes are kept and tried again",
            extra={"error": self._last_error},
        )

    def succeeded(self) -> None:
        """A call succeeded."""
        self._busy_since_us = None
        if self._last_error is not None:
            # Rate-limited: on a full store some calls work, so failures and successes may alternate.
            self._repeats.log(
                "works", logging.WARNING, "the store works again", extra={"after": self._last_error}
            )
            self._last_error = None

    def _busy(self, now_us: int) -> None:
        self.until_us = now_us + _BUSY_US
        if self._busy_since_us is None:
            self._busy_since_us = now_us
        elif now_us - self._busy_since_us >= _STOPPED_US:
            self._busy_since_us = now_us
            self._free()

    def _free(self) -> None:
        pid = self._store.file_care.blocker()
        if pid is None or pid == os.getpid():
            return
        try:
            start = process_start(pid)
            # Only a process of our own user: as root we could kill any process that opened the file.
            is_ours = start is not None and process_state(pid) == "T" and is_our_user(pid)
            is_killed = is_ours and start is not None and kill_process(ProcessId(pid, start))
        except OSError:
            return  # no descriptor available: try again later
        if is_killed:
            self._log.error(
                "killed a stopped process that held the store's write lock", extra={"blocker_pid": pid}
            )
