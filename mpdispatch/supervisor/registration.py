"""What a supervisor has at its store: its row, its start journal, its workers' records, its wake-ups. Effects.

It is made when the supervisor joins, removed when it leaves, and made anew when it no longer trusts its
lease. A file that is removed while in use is made again, and running jobs go on; if the journal is truncated,
its content is lost.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from mpdispatch.clock import SECOND_US
from mpdispatch.errors import StoreBusy, StoreError, StoreFull, StorePermission, StoreUnreachable
from mpdispatch.fstext import packed
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.host.start_journal import Journal, journal_path
from mpdispatch.host.wake import bring_wake_ups
from mpdispatch.pool.frames import Attach
from mpdispatch.private import NotPrivateError
from mpdispatch.store.optional import WakeListener
from mpdispatch.supervisor.heartbeat import Heartbeat
from mpdispatch.supervisor.plan import Plan
from mpdispatch.supervisor.runtime import Runtime

_JOIN_US = 30 * SECOND_US
_JOIN_PAUSE_S = 0.02


class Registration:
    """One at a time. The loop's thread only."""

    def __init__(self, runtime: Runtime, plan: Plan, heartbeat: Heartbeat) -> None:
        self._runtime, self._plan, self._heartbeat = runtime, plan, heartbeat
        self._client_store, self._config = plan.store, plan.config
        self._folder = runtime_folder(plan.store)
        self._journal: Journal | None = None
        self._listener: WakeListener | None = None
        bring_wake_ups(plan.store)

    def join_patiently(self) -> None:
        """Join for the first time, and wait for a store that is busy or away: nothing runs yet that this could delay.

        Raises StoreBusy, StoreUnreachable after 30 s, or when a stop is requested; StoreFull, StoreError.
        """
        clock, runtime = self._runtime.clock, self._runtime
        until_us = clock.now().boot_us + _JOIN_US
        while True:
            try:
                self.join()
            except (StoreBusy, StoreUnreachable):
                if runtime.stop_signal.requests or clock.now().boot_us >= until_us:
                    raise
                runtime.idle(_JOIN_PAUSE_S)
            except StoreError:
                if self._heartbeat.owner:
                    self._heartbeat.leave()  # else each try would leave a row that looks alive
                raise
            else:
                return

    def join(self) -> None:
        """Register, make a fresh start journal, and give the workers records in it. Raises StoreError."""
        owner = self._heartbeat.register(self._runtime.token)
        path = journal_path(self._folder, owner)
        # Records for all workers that may live, and for as many dead ones whose last outcomes are not on disk yet.
        try:
            path.unlink(missing_ok=True)
            self._journal = Journal(path, 4 * self._config.slots + 4, token=self._runtime.token)
        except NotPrivateError as error:
            self._heartbeat.distrust()
            raise StorePermission(self._client_store.display, str(error)) from error
        except OSError as error:
            self._heartbeat.distrust()  # Without a journal no worker may get a job: join again in a moment.
            raise self._cannot_make(path, error) from error
        self._runtime.pool.open(self._journal, self._attach)
        self._listen()
        self._client_store.wake()  # so that our peers watch us from the start

    def _listen(self) -> None:
        wake_ups = self._client_store.wake_ups
        self._listener = None if wake_ups is None else wake_ups.listen(self._heartbeat.owner)
        if self._listener is not None:
            self._runtime.selector.register(self._listener.fileno(), self, urgent=True)

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            self._runtime.selector.unregister(listener.fileno())
            listener.close()

    def drain_wakes(self) -> None:
        """Consume the wake-ups, once the selector reports this registration."""
        if self._listener is not None:
            self._listener.drain()

    def _cannot_make(self, path: Path, error: OSError) -> StoreError:
        kind = StoreFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
        return kind(self._client_store.display, f"cannot make {path}: {error.strerror}")

    def _attach(self, record: int) -> Attach:
        assert self._journal is not None
        return Attach(
            journal_path=packed(str(self._journal.path)),
            record=record,
            store=self._plan.store_for_workers,
            max_payload_bytes=self._config.max_payload_bytes,
            max_result_bytes=self._config.max_result_bytes,
            kills_children=self._config.child_policy == "kill",
        )

    def is_cut(self) -> bool:
        """Whether another process has truncated our start journal. If so, its proofs are lost, so we distrust
        our lease.

        Call this before each read of the journal, which would otherwise raise SIGBUS.
        """
        if self._journal is None or not self._journal.is_cut():
            return False
        self._journal.mend()
        self._heartbeat.distrust()
        self._runtime.log.error(
            "somebody has cut %s: nobody knows any more what its workers began; starting over",
            self._journal.path,
        )
        return True

    def restore_files(self, recall: Callable[[], None]) -> None:
        """With each heartbeat: make our files again if they were removed. Raises StoreError.

        `recall` recalls all unstarted jobs from the workers.
        """
        if self._listener is not None and not self._listener.is_in_place():
            self._stop_listening()
            self._listen()
            self._client_store.wake()  # wake-ups sent meanwhile were lost
        journal, pool = self._journal, self._runtime.pool
        if journal is None:
            return
        if journal.is_in_place():
            journal.trim()
            return
        recall()
        now_us = self._runtime.clock.now().boot_us
        try:
            journal.remake(
                (worker.record, each.job.id, each.job.starts, worker.started_us(each) or now_us)
                for worker, each in pool.assignments()
                if worker.record is not None
            )
        except OSError as error:
            self._heartbeat.renew_soon()  # do not wait for the next heartbeat
            raise self._cannot_make(journal.path, error) from error
        pool.replace_workers_of_old_journal()
        self._runtime.log.error(
            "%s was removed while it was in use; it was made anew, and workers are replaced as they end their jobs",
            journal.path,
        )

    def detach_files(self) -> None:
        """Close the files after the workers were killed; the row is left to `leave` or a rescuer."""
        self._stop_listening()
        if self._journal is not None:
            self._runtime.pool.detach()
            self._journal.close(remove=False)
            self._journal = None

    def rejoin(self) -> None:
        """Replace this registration, which is not trusted any more, by a new one. Raises StoreError."""
        self.detach_files()
        if self._heartbeat.token == self._runtime.token:  # else it was renewed already, and joining failed
            self._runtime.renew_token()
        self.join()

    def leave(self) -> None:
        """Remove our row. Only when all our jobs are settled; else a rescuer must find it."""
        if not self._heartbeat.leave():
            return
        self._stop_listening()
        if self._journal is not None:
            self._journal.path.unlink(missing_ok=True)
