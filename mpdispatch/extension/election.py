"""`supervise="auto"`: one of all extensions on a store supervises, and none while another supervisor lives. Effects.

        ┌─ no lock ──▶ wait for its holder's end (0.5 s at most) ─┐
step ◀──┼─ lock, others supervise ──▶ hand over, wait for theirs ─┼── a thread of its own; wakes at once when a
        └─ lock, nobody else ──▶ start, look again ───────────────┘   process it waits for dies
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import sys
import threading
import time
from collections.abc import Iterable, Iterator

from mpdispatch.dispatcher import Dispatcher
from mpdispatch.engine.supervisors import living_supervisors
from mpdispatch.errors import DispatchError, StoreError, StorePermission
from mpdispatch.host.process_lock import SUPERVISING, ProcessLock
from mpdispatch.host.processes import ProcessId, pid_namespace, process_id, process_start
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.ids import boot_id
from mpdispatch.model import PeerSupervisor
from mpdispatch.policy.staffing import boot_backoff_s
from mpdispatch.private import NotPrivateError

LOOK_EVERY_S = 0.5
_PATIENT_S = 30.0
_PAUSE_S = 0.05


class Election:
    """Decides again and again whether this process supervises. One thread, between `start` and `stop`."""

    def __init__(self, dispatcher: Dispatcher, log: logging.Logger) -> None:
        self._dispatcher, self._store, self._log = dispatcher, dispatcher.store, log
        self._lock = ProcessLock(runtime_folder(self._store), SUPERVISING) if self._store.is_shared else None
        self._held = contextlib.ExitStack()
        self._me = process_id()
        self._failures = 0
        self._not_before = 0.0
        self._is_stopping = False
        self._read, self._write = os.pipe()
        self._thread = threading.Thread(target=self._run, name="mpdispatch-election", daemon=True)
        self.trouble: str | None = None
        """Why this process does not supervise although it should; None: nothing is wrong."""

    def start(self) -> None:
        """Supervise now if no other process does, and otherwise as soon as none does.

        Raises DispatchError if it should supervise now and cannot.
        """
        # Held also while another process supervises, because this one may take over.
        self._held.enter_context(self._dispatcher.hold_store())
        try:
            self._step()
        except BaseException:
            self._close()
            raise
        self._thread.start()

    def stop(self, timeout_s: float | None) -> None:
        """Stop supervising. Raises the error that had ended the supervisor, if there was one."""
        self._is_stopping = True
        os.write(self._write, b"!")
        try:
            self._stop_for_good(timeout_s)
        finally:
            self._close()

    def _stop_for_good(self, timeout_s: float | None) -> None:
        """Stop the dispatcher, again and again while the thread lives: it may be starting it, which takes long."""
        error: DispatchError | None = None
        while True:
            may_start = self._thread.is_alive()
            try:
                self._dispatcher.stop(timeout_s)
            except DispatchError as ended:
                error = ended
            if not may_start:
                break
            self._thread.join(_PAUSE_S)
        if error is not None:
            raise error

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        while not self._is_stopping:
            self._wait(self._awaited())
            if self._is_stopping:
                return
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 - the next try may succeed; health() reports it
                self._failed(error)

    def _step(self) -> None:
        """Look once, and act on it."""
        if not self._has_lock():
            self.trouble = None  # Another process supervises; nothing is wrong here.
            if self._dispatcher.is_supervising:
                # The lock's folder was removed, and another process was quicker to lock the new file.
                self._log.info("another process is to supervise this store; handing over to it")
                self._dispatcher.stop()
            return
        if time.monotonic() < self._not_before:
            return
        if self._dispatcher.is_supervising:
            self.trouble, self._failures = None, 0
            if self._others():
                self._log.info("another supervisor works on this store; handing over to it")
                self._dispatcher.stop()
            return
        self._dispatcher.stop()  # Raises the error that ended it, if there was one.
        if not self._others():
            self._dispatcher.start()
        self.trouble = None

    def _has_lock(self) -> bool:
        if self._lock is None:
            return True
        try:
            return self._lock.try_acquire()
        except NotPrivateError as error:
            raise StorePermission(self._store.display, f"its lock file cannot be trusted: {error}") from error
        except OSError as error:
            raise StoreError(self._store.display, f"its lock file: {error}") from error

    def _others(self) -> list[PeerSupervisor]:
        """Living supervisors in other processes."""
        if not self._store.is_shared:
            return []
        return [peer for peer in living_supervisors(self._store) if not self._is_mine(peer)]

    def _is_mine(self, peer: PeerSupervisor) -> bool:
        return (peer.boot_id, peer.pid_namespace, peer.pid, peer.pid_start) == (
            boot_id(),
            pid_namespace(),
            self._me.pid,
            self._me.start,
        )

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._not_before = time.monotonic() + min(boot_backoff_s(self._failures), _PATIENT_S)
        text = str(error) or type(error).__name__
        if text != self.trouble:
            unexpected = None if isinstance(error, DispatchError) else error
            self._log.error("cannot supervise, trying again", extra={"error": text}, exc_info=unexpected)
        self.trouble = text
        if not self._dispatcher.is_supervising:
            self._let_go()  # Another process may succeed.

    # ---------------------------------------------------------------- waiting

    def _awaited(self) -> list[ProcessId]:
        """The processes after whose end to look again at once."""
        if self._dispatcher.is_supervising or self._lock is None:
            return []
        if not self._lock.is_held:
            holder = self._lock.holder()
            return [] if holder is None or holder == self._me else [holder]
        with contextlib.suppress(StoreError):  # The next step reports it.
            return [
                ProcessId(peer.pid, peer.pid_start)
                for peer in self._others()
                if (peer.boot_id, peer.pid_namespace) == (boot_id(), pid_namespace())
            ]
        return []

    def _wait(self, processes: Iterable[ProcessId]) -> None:
        with selectors.DefaultSelector() as selector, _pidfds(processes) as pidfds:
            selector.register(self._read, selectors.EVENT_READ)
            for pidfd in pidfds:
                selector.register(pidfd, selectors.EVENT_READ)
            selector.select(LOOK_EVERY_S)

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _close(self) -> None:
        self._let_go()
        self._held.close()
        os.close(self._read)
        os.close(self._write)


@contextlib.contextmanager
def _pidfds(processes: Iterable[ProcessId]) -> Iterator[list[int]]:
    """Descriptors that become readable when these processes end. Ended processes have none."""
    found: list[int] = []
    try:
        if sys.platform == "linux":
            for process in processes:
                with contextlib.suppress(OSError):
                    found.append(os.pidfd_open(process.pid))
                    if process_start(process.pid) != process.start:
                        os.close(found.pop())
        yield found
    finally:
        for pidfd in found:
            os.close(pidfd)
