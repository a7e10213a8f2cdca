"""The lifecycle of an extension: start (migrate, supervise), health, stop. Effects."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
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
from mpdispatch.extension.attendance import Attendance
from mpdispatch.policy.durations import duration_of

if TYPE_CHECKING:
    from mpdispatch.extension.election import Election


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
        self._attendance = Attendance()
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
        from mpdispatch.extension.election import (
            Election,
        )  # imports what supervising needs, which workers do not

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
                error = self._attendance.trouble(store, living)
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
