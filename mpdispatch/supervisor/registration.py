"""Where a supervisor lies in its store: its registration, its start journal, the records of its workers. Effects.

Taken when it joins, let go when it leaves, and taken anew when it has lost trust in its lease. What somebody removes of it
while it is in use is made anew, and nothing that runs ends for that; what somebody cuts off is lost.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from mpdispatch.clock import SECOND_US
from mpdispatch.config import Config
from mpdispatch.errors import StoreBusy, StoreError, StoreFull, StorePermission
from mpdispatch.fstext import packed
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.host.start_journal import Journal, journal_path
from mpdispatch.host.wake import bring_wake_ups
from mpdispatch.pool.frames import Attach
from mpdispatch.private import NotPrivateError
from mpdispatch.store.contract import Store
from mpdispatch.store.optional import WakeListener
from mpdispatch.supervisor.heartbeat import Heartbeat
from mpdispatch.supervisor.runtime import Runtime

__all__ = ["Registration"]

_JOIN_US = 30 * SECOND_US
_JOIN_PAUSE_S = 0.02


class Registration:
    """One at a time. The loop's thread only."""

    def __init__(
        self,
        runtime: Runtime,
        client_store: Store,
        heartbeat: Heartbeat,
        config: Config,
        for_workers: str | None,
    ) -> None:
        """`for_workers`: the store handlers enqueue into, if it is not the app's own."""
        self._runtime, self._client_store = runtime, client_store
        self._heartbeat, self._config, self._for_workers = heartbeat, config, for_workers
        self._folder = runtime_folder(client_store)
        self._journal: Journal | None = None
        self._listener: WakeListener | None = None
        bring_wake_ups(client_store)

    def join_patiently(self) -> None:
        """For the first time: as a client would, for nothing is running yet that could not wait.

        Raises StoreBusy after 30 s, or when told to stop; StoreFull, StoreError.
        """
        clock, runtime = self._runtime.clock, self._runtime
        until_us = clock.now().boot_us + _JOIN_US
        while True:
            try:
                self.join()
            except StoreBusy:
                if runtime.stop_signal.requests or clock.now().boot_us >= until_us:
                    raise
                # Selected, so that it does not wake us again; nobody holds a job yet that it could be about.
                list(runtime.pool.hear(runtime.selector.select(_JOIN_PAUSE_S)))
            except StoreError:
                if self._heartbeat.owner:
                    self._heartbeat.leave()  # or it would look alive, and each try would leave one behind
                raise
            else:
                return

    def join(self) -> None:
        """Register, with a fresh start journal, and let the workers have records in it. Raises StoreError."""
        owner = self._heartbeat.register(self._runtime.token)
        path = journal_path(self._folder, owner)
        # Every worker that may live, and as many dead ones whose last outcomes are not on disk yet.
        try:
            path.unlink(missing_ok=True)
            self._journal = Journal(path, 4 * self._config.slots + 4, token=self._runtime.token)
        except NotPrivateError as error:
            self._heartbeat.distrust()
            raise StorePermission(self._client_store.display, str(error)) from error
        except OSError as error:
            self._heartbeat.distrust()  # Without marks no worker may have a job: join again in a moment.
            raise self._cannot_make(path, error) from error
        self._runtime.pool.open(self._journal, self._attach)
        self._hear_wakes()
        self._client_store.wake()  # so that our peers watch over us from the first moment

    def _hear_wakes(self) -> None:
        wake_ups = self._client_store.wake_ups
        self._listener = None if wake_ups is None else wake_ups.listen(self._heartbeat.owner)
        if self._listener is not None:
            self._runtime.selector.register(self._listener.fileno(), self, urgent=True)

    def _hear_no_wakes(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            self._runtime.selector.unregister(listener.fileno())
            listener.close()

    def drain_wakes(self) -> None:
        """Swallow what woke the loop: the selector gave this registration."""
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
            store=self._for_workers,
            max_payload_bytes=self._config.max_payload_bytes,
            max_result_bytes=self._config.max_result_bytes,
            kills_children=self._config.child_policy == "kill",
        )

    def is_cut(self) -> bool:
        """Whether somebody has cut our start journal. What it proved is lost, so our registration is: not trusted any more.

        To be asked before every look into it, which would be a SIGBUS.
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

    def look_beside(self, recall: Callable[[], None]) -> None:
        """With the heartbeat: have our files where others look for them, if somebody has removed them. Raises StoreError.

        `recall` takes back what the workers hold and have not begun.
        """
        if self._listener is not None and not self._listener.is_in_place():
            self._hear_no_wakes()
            self._hear_wakes()
            self._client_store.wake()  # nobody was told of what was enqueued meanwhile
        marks, pool = self._journal, self._runtime.pool
        if marks is None:
            return
        if marks.is_in_place():
            marks.trim()
            return
        recall()
        now_us = self._runtime.clock.now().boot_us
        try:
            marks.remake(
                (worker.record, each.job.id, each.job.starts, worker.started_us(each) or now_us)
                for worker, each in pool.assignments()
                if worker.record is not None
            )
        except OSError as error:
            self._heartbeat.renew_soon()  # not only with the next heartbeat
            raise self._cannot_make(marks.path, error) from error
        pool.leave_old_rings()
        self._runtime.log.error(
            "%s was removed while it was in use; it was made anew, and workers are replaced as they end their jobs",
            marks.path,
        )

    def detach_files(self) -> None:
        """Of the registration's files, after its workers were killed; the row is left to `leave` or a rescuer."""
        self._hear_no_wakes()
        if self._journal is not None:
            self._runtime.pool.detach()
            self._journal.close(remove=False)
            self._journal = None

    def rejoin(self) -> None:
        """Let go of it for another: nobody may believe the old one any more. Raises StoreError."""
        self.detach_files()
        if self._heartbeat.token == self._runtime.token:  # not if joining has failed since it was renewed
            self._runtime.renew_token()
        self.join()

    def leave(self) -> None:
        """Strike our row off. Only when every job of ours is settled; else a rescuer must find it."""
        if not self._heartbeat.leave():
            return
        self._hear_no_wakes()
        if self._journal is not None:
            self._journal.path.unlink(missing_ok=True)
