"""Where a supervisor lies in its store: its registration, its mark file, the rings of its workers. Effects.

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
from mpdispatch.pool.frames import Attach
from mpdispatch.pool.marks import MarkFile, marks_path
from mpdispatch.private import NotPrivateError
from mpdispatch.store.base import Ledger, Store
from mpdispatch.supervisor.crew import Crew
from mpdispatch.supervisor.membership import Membership

__all__ = ["Berth"]

_JOIN_US = 30 * SECOND_US
_JOIN_PAUSE_S = 0.02


class Berth:
    """One at a time. The loop's thread only."""

    def __init__(
        self,
        crew: Crew,
        store: Store,
        ledger: Ledger,
        members: Membership,
        config: Config,
        for_workers: str | None,
    ) -> None:
        """`for_workers`: the store handlers enqueue into, if it is not the app's own."""
        self._crew, self._store, self._ledger = crew, store, ledger
        self._members, self._config, self._for_workers = members, config, for_workers
        self._marks: MarkFile | None = None
        self._wake_fd: int | None = None

    def take_patiently(self) -> None:
        """For the first time: as a client would, for nothing is running yet that could not wait.

        Raises StoreBusy after 30 s, or when told to stop; StoreFull, StoreError.
        """
        clock, crew = self._crew.clock, self._crew
        until_us = clock.now().boot_us + _JOIN_US
        while True:
            try:
                self.take()
            except StoreBusy:
                if crew.bell.rung or clock.now().boot_us >= until_us:
                    raise
                # Heard, so that it does not wake us again; nobody holds a job yet that it could be about.
                list(crew.pool.hear(crew.ears.listen(_JOIN_PAUSE_S)))
            except StoreFull:
                self._members.leave()  # or each try would leave a registration behind
                raise
            else:
                return

    def take(self) -> None:
        """Register, with a fresh mark file, and let the workers have rings in it. Raises StoreError."""
        owner = self._members.register(self._crew.token)
        path = marks_path(self._ledger.side_dir, owner)
        path.unlink(missing_ok=True)
        # Every worker that may live, and as many dead ones whose last outcomes are not on disk yet.
        try:
            self._marks = MarkFile(path, 4 * self._config.slots + 4, token=self._crew.token)
        except NotPrivateError as error:
            self._members.distrust()
            raise StorePermission(self._store.location, str(error)) from error
        except OSError as error:
            self._members.distrust()  # Without marks no worker may have a job: join again in a moment.
            raise self._cannot_make(path, error) from error
        self._crew.pool.open(self._marks, self._attach)
        self._hear_wakes()
        self._store.wake()  # so that our peers watch over us from the first moment

    def _hear_wakes(self) -> None:
        self._wake_fd = self._ledger.wake_fileno()
        if self._wake_fd is not None:
            self._crew.ears.register(self._wake_fd, self._ledger, urgent=True)

    def _hear_no_wakes(self) -> None:
        if self._wake_fd is not None:
            self._crew.ears.unregister(self._wake_fd)
            self._wake_fd = None

    def _cannot_make(self, path: Path, error: OSError) -> StoreError:
        kind = StoreFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
        return kind(self._store.location, f"cannot make {path}: {error.strerror}")

    def _attach(self, ring: int) -> Attach:
        assert self._marks is not None
        return Attach(
            marks_path=packed(str(self._marks.path)),
            ring=ring,
            store=self._for_workers,
            max_payload_bytes=self._config.max_payload_bytes,
            max_result_bytes=self._config.max_result_bytes,
            kills_children=self._config.child_policy == "kill",
        )

    def is_cut(self) -> bool:
        """Whether somebody has cut our mark file. What it proved is lost, so our registration is: not trusted any more.

        To be asked before every look into it, which would be a SIGBUS.
        """
        if self._marks is None or not self._marks.is_cut():
            return False
        self._marks.mend()
        self._members.distrust()
        self._crew.log.error(
            "somebody has cut %s: nobody knows any more what its workers began; starting over", self._marks.path
        )
        return True

    def look_beside(self, recall: Callable[[], None]) -> None:
        """With the heartbeat: have our files where others look for them, if somebody has removed them. Raises StoreError.

        `recall` takes back what the workers hold and have not begun.
        """
        if self._ledger.look_beside(self._members.owner):
            self._hear_no_wakes()
            self._hear_wakes()
            self._store.wake()  # nobody was told of what was enqueued meanwhile
        marks, pool = self._marks, self._crew.pool
        if marks is None or marks.is_in_place():
            return
        recall()
        now_us = self._crew.clock.now().boot_us
        try:
            marks.remake(
                (worker.ring, each.job.id, each.job.starts, worker.started_us(each) or now_us)
                for worker, each in pool.held()
                if worker.ring is not None
            )
        except OSError as error:
            self._members.next_us = 0  # not only with the next heartbeat
            raise self._cannot_make(marks.path, error) from error
        pool.leave_old_rings()
        self._crew.log.error(
            "%s was removed while it was in use; it was made anew, and workers are replaced as they end their jobs",
            marks.path,
        )

    def let_go(self) -> None:
        """Of the registration's files, after its workers were killed; the row is left to `sign_off` or a rescuer."""
        self._hear_no_wakes()
        if self._marks is not None:
            self._crew.pool.detach()
            self._marks.close(remove=False)
            self._marks = None

    def take_anew(self) -> None:
        """Let go of it for another: nobody may believe the old one any more. Raises StoreError."""
        self.let_go()
        if self._members.token == self._crew.token:  # not if joining has failed since it was renewed
            self._crew.renew_token()
        self.take()

    def sign_off(self) -> None:
        """Strike our row off. Only when every job of ours is settled; else a rescuer must find it."""
        if self._members.leave() and self._marks is not None:
            self._marks.path.unlink(missing_ok=True)
