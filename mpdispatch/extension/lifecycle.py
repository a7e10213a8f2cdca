"""The lifecycle of an extension: start (migrate, supervise), health, stop. Effects."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from mpdispatch.engine import Engine
from mpdispatch.engine.supervisors import living_supervisors
from mpdispatch.errors import AppReferenceError, DispatchError, UsageError
from mpdispatch.execution.app_reference import find_reference
from mpdispatch.execution.process_context import (
    in_worker,
    release_current_engine,
    set_current_engine,
    stop_main_rerun,
)
from mpdispatch.model import Job, JobState
from mpdispatch.policy.durations import duration_of
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import JobFilter

if TYPE_CHECKING:
    from mpdispatch.extension.election import Election

_GRACE_S = 10.0
"""A supervisor that starts, or takes over from another, needs some seconds."""


class Lifecycle:
    """The life of an extension in this process. Safe from any thread, and from signal handlers."""

    def __init__(
        self, engine: Engine, *, migrates: bool, supervise: bool | Literal["auto"], log: logging.Logger
    ) -> None:
        self._engine, self._migrates, self._how, self._log = engine, migrates, supervise, log
        self._lock = threading.RLock()
        """Held during start and stop. Reentrant, because a signal handler may call `stop` in the middle."""
        self._is_changing = self._is_starting = False
        self._is_unwanted = False
        """Whether `stop` was called since the start began."""
        engine.dispatcher.is_unwanted = lambda: self._is_starting and self._is_unwanted
        self._alone_since_s: float | None = None
        """Since when jobs wait and no supervisor lives, as far as this process has seen."""
        self._is_started = False
        self._election: Election | None = None

    def start(self) -> None:
        """See `DispatchExtension.start`."""
        if in_worker():
            stop_main_rerun()
            return
        with self._alone():
            if self._is_started:
                raise UsageError("this extension is started already; stop() it first")
            self._is_unwanted = False
            self._is_starting = True
            self._engine.store.check(create=self._migrates)
            if self._how is not False and not self._is_unwanted:
                self._supervise()
            set_current_engine(self._engine)
            self._is_started = True
            if self._is_unwanted:
                self._end(None)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            self._is_changing = True
            try:
                yield
            finally:
                self._is_changing = self._is_starting = False

    def _supervise(self) -> None:
        try:
            find_reference(self._engine)
        except AppReferenceError as error:
            hint = "; give supervise=False where another process supervises"
            raise AppReferenceError(f"{error}{hint}") from None
        if self._how is True:
            self._engine.dispatcher.start()
            return
        # Imports what supervising needs, which workers do not.
        from mpdispatch.extension.election import Election

        self._election = election = Election(self._engine.dispatcher, self._log)
        try:
            election.start()
        except BaseException:
            self._election = None
            raise

    def stop(self, timeout: float | timedelta | str | None = None) -> None:
        """See `DispatchExtension.stop`."""
        timeout_s = None if timeout is None else duration_of("timeout", timeout)
        self._is_unwanted = True
        if self._is_starting:
            self._engine.dispatcher.stop(timeout_s)
        with self._lock:
            if self._is_changing:
                return  # We are in a signal handler; the interrupted start or stop does the rest.
            with self._alone():
                if self._is_started:
                    self._end(timeout_s)

    def _end(self, timeout_s: float | None) -> None:
        self._is_started = False
        release_current_engine(self._engine)
        election, self._election = self._election, None
        try:
            if election is not None:
                election.stop(timeout_s)
            else:
                self._engine.dispatcher.stop(timeout_s)
        finally:
            # A server that a signal ends closes nothing itself. The last close writes the WAL into the file.
            self._engine.store.close_all()

    def health(self) -> dict[str, Any]:
        """See `DispatchExtension.health`."""
        store = self._engine.store
        supervises = self._engine.dispatcher.is_supervising
        error, living = self._trouble(supervises), 0
        try:
            store.check()
            living = len(living_supervisors(store))
            if error is None:
                error = self._unattended(store, living)
        except DispatchError as problem:
            error = str(problem)
        return {
            "status": "failing" if error else "ok",
            "error": error,
            "store": store.display,
            "supervises": supervises,
            "supervisors": living,
        }

    def _trouble(self, supervises: bool) -> str | None:
        election = self._election
        if election is not None:
            return election.trouble
        should = self._is_started and self._how is True
        return "the supervisor of this process has ended" if should and not supervises else None

    def _unattended(self, store: Store, living: int) -> str | None:
        """The fault if jobs wait and no supervisor lives: at once if one has died, else after 10 s. Three small reads."""
        job = None if living else _waiting(store)
        if job is None:
            self._alone_since_s = None
            return None
        now_s = time.monotonic()
        self._alone_since_s = now_s if self._alone_since_s is None else self._alone_since_s
        waited_s = (datetime.now(UTC) - max(job.created_at, job.run_at)).total_seconds()
        if store.supervisors() or max(now_s - self._alone_since_s, waited_s) >= _GRACE_S:
            return "no supervisor is running, and jobs wait: mpdispatch supervise APP"
        return None


def _waiting(store: Store) -> Job | None:
    """The newest job that a supervisor could run, or was running."""
    for state in (JobState.PENDING, JobState.RUNNING):
        for job in store.list_jobs(JobFilter(state=state), limit=1, cursor=None).items:
            return job
    return None
