"""Runs store calls on a thread while the disk is slow, so that the loop goes on meanwhile. Effects: a thread.

The calls of a store on a server are always made on the thread: nobody knows when a server that is stopped or cut
off will answer. Of a store in a file, the loop's own thread makes the calls while the disk is fast. Once a call has
waited for `_SLOW_S`, the next ones are handed to the thread, one at a time, until no call has waited so long for
`_LASTS_S`. So when a disk becomes slow, only the first flush delays a kill or a timeout. (Handing over all calls: a
drain of no-op jobs took 3 % more CPU time and the same wall time; with flushes of 200 ms a timeout was 1 to 3 ms late,
instead of 105 to 170.)

The caller still gets its result before it goes on, so a recorded outcome is durable when reported. One thread
at a time uses the store. While a call runs on the thread, the loop hears workers, enforces deadlines and
answers signals (`meanwhile`); duties that need the store wait.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Protocol, TypeVar

from mpdispatch.model import (
    ClaimedJob,
    ClaimRequest,
    CronDecision,
    CronEntry,
    CronSync,
    Job,
    NewCron,
    NewSupervisor,
    Origin,
    PeerSupervisor,
    Transition,
)
from mpdispatch.pool.selector import Selector
from mpdispatch.store.crons import CronDecisions
from mpdispatch.store.optional import FileCare, StoreUpkeep
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import (
    NO_REPORTS,
    CommitResult,
    OtherOwners,
    Outstanding,
    PruneStep,
    Renewal,
    Reports,
    Retention,
    UpkeepStep,
)

T = TypeVar("T")

_SLOW_S = 0.020
"""How late the loop may be. A flush after 800 outcomes takes some 12 ms, others 0.1 to 5 ms."""
_LASTS_S = 10.0


class StoreThread:
    """Calls functions on its thread while the disk is slow, else at once. The loop's thread only."""

    def __init__(self, selector: Selector, *, always: bool = False) -> None:
        """`always`: all calls go to the thread."""
        self._selector, self._always = selector, always
        self.meanwhile: Callable[[Callable[[], bool]], None] | None = None
        """Runs the duties without the store until the function returns True. None: hand no call over."""
        self._thread: threading.Thread | None = None
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._read_fd = self._write_fd = -1
        self._is_away = False
        self._slow_until_s = 0.0

    def call(self, work: Callable[[], T]) -> T:
        """Call the function here, or on the thread while the disk is slow; returns or raises its result."""
        if self.meanwhile is None or not (self._always or self._is_slow()) or not self._start():
            return self._timed(work)
        return self._hand_over(work, self.meanwhile)

    def _is_slow(self) -> bool:
        return time.monotonic() < self._slow_until_s

    def _timed(self, work: Callable[[], T]) -> T:
        began_s, cpu_s = time.monotonic(), time.thread_time()
        try:
            return work()
        finally:
            ended_s = time.monotonic()
            if ended_s - began_s - (time.thread_time() - cpu_s) >= _SLOW_S:
                self._slow_until_s = ended_s + _LASTS_S

    def _hand_over(self, work: Callable[[], T], meanwhile: Callable[[Callable[[], bool]], None]) -> T:
        future = Future[T]()

        def run() -> None:
            try:
                future.set_result(self._timed(work))
            except BaseException as error:  # noqa: BLE001 - raised again in the caller
                future.set_exception(error)
            os.write(self._write_fd, b"!")

        self._is_away = True
        self._calls.put(run)
        try:
            meanwhile(future.done)
        finally:
            os.read(self._read_fd, 1)  # even if `meanwhile` raised: the store is in use until the call ends
            self._is_away = False
        return future.result()

    def _start(self) -> bool:
        """Start the thread if needed. False: another call is running, or no thread can be started."""
        if self._is_away:
            return False
        if self._thread is None:
            try:
                self._read_fd, self._write_fd = os.pipe()
                # Registered as `_calls`, so that no other part takes the event for its own.
                self._selector.register(self._read_fd, self._calls, urgent=True)
                self._thread = threading.Thread(target=self._main, name="mpdispatch-store", daemon=True)
                self._thread.start()
            except (OSError, RuntimeError):  # no descriptor or thread available
                self._thread = None
                self._close_pipe()
                return False
        return True

    def _main(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def _close_pipe(self) -> None:
        if self._read_fd >= 0:
            self._selector.unregister(self._read_fd)
            os.close(self._read_fd)
            os.close(self._write_fd)
            self._read_fd = self._write_fd = -1

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join()
            self._thread = None
        self._close_pipe()


class Call(Protocol):
    def __call__(self, work: Callable[[], T]) -> T: ...


def _at_once(work: Callable[[], T]) -> T:
    return work()


class ThreadedStore:
    """The supervisor's store; its calls that may wait for the disk are made by a `StoreThread`."""

    def __init__(self, store: SupervisorStore, thread: StoreThread) -> None:
        self._store, self._thread, self._call = store, thread, thread.call
        self.is_remote = store.is_remote
        self._read: Call = thread.call if store.is_remote else _at_once
        """Reads do not wait for the disk, but for a server."""
        self.upkeep: StoreUpkeep = _ThreadedUpkeep(store.upkeep, thread)
        self.file_care: FileCare = _ThreadedFileCare(store.file_care, thread)
        self.crons: CronDecisions = _ThreadedCrons(store.crons, thread, self._read)

    # While it registers and signs off, no job runs: that may wait for a disk. Signals must not wait for a server.

    def register(self, who: NewSupervisor, ttl_us: int) -> int:
        return self._read(lambda: self._store.register(who, ttl_us))

    def unregister(self, owner: int) -> None:
        self._read(lambda: self._store.unregister(owner))

    def renew(self, owner: int, ttl_us: int) -> Renewal:
        return self._call(lambda: self._store.renew(owner, ttl_us))

    def commit(
        self,
        owner: int,
        transitions: Sequence[Transition],
        reports: Reports = NO_REPORTS,
        *,
        claim: ClaimRequest | None = None,
        skip_idle_check: bool = False,
    ) -> CommitResult:
        return self._call(
            lambda: self._store.commit(
                owner, transitions, reports, claim=claim, skip_idle_check=skip_idle_check
            )
        )

    def take_over(self, dead: PeerSupervisor | int, transitions: Sequence[Transition]) -> bool:
        return self._call(lambda: self._store.take_over(dead, transitions))

    def cancel_requests(self, owner: int) -> list[tuple[int, int]]:
        return self._read(lambda: self._store.cancel_requests(owner))

    def peers(self, owner: int) -> OtherOwners:
        return self._read(lambda: self._store.peers(owner))

    def jobs_of(self, owner: int) -> list[ClaimedJob]:
        return self._read(lambda: self._store.jobs_of(owner))

    def outstanding(self, queues: Sequence[str]) -> Outstanding:
        return self._read(lambda: self._store.outstanding(queues))

    def close(self) -> None:
        self._thread.close()
        self._store.close()


class _ThreadedUpkeep:
    def __init__(self, upkeep: StoreUpkeep, thread: StoreThread) -> None:
        self._upkeep, self._call = upkeep, thread.call

    def step(self, queues: Sequence[str]) -> UpkeepStep:
        return self._call(lambda: self._upkeep.step(queues))

    def prune(self, retention: Retention) -> PruneStep:
        return self._call(lambda: self._upkeep.prune(retention))

    def set_aside(self, owner: int, job_ids: Collection[int]) -> None:
        self._call(lambda: self._upkeep.set_aside(owner, job_ids))


class _ThreadedCrons:
    def __init__(self, crons: CronDecisions, thread: StoreThread, read: Call) -> None:
        self._crons, self._call, self._read = crons, thread.call, read

    def entries(self) -> list[CronEntry]:
        return self._read(self._crons.entries)

    def sync(self, origin: Origin, app: str, declared: Sequence[NewCron]) -> CronSync:
        return self._call(lambda: self._crons.sync(origin, app, declared))

    def decide(self, decision: CronDecision) -> list[Job] | None:
        return self._call(lambda: self._crons.decide(decision))


class _ThreadedFileCare:
    def __init__(self, care: FileCare, thread: StoreThread) -> None:
        self._care, self._call = care, thread.call
        self.verify, self.has_changed, self.blocker = care.verify, care.has_changed, care.blocker

    def checkpoint_if_large(self) -> None:
        self._call(self._care.checkpoint_if_large)

    def shrink(self) -> bool:
        return self._call(self._care.shrink)

    def sync(self) -> None:
        self._call(self._care.sync)
