"""What a client does with a whole store: pause queues, count, prune, back up."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from mpdispatch.clock import SystemClock
from mpdispatch.engine.options import checked_state, so_long_ago_us
from mpdispatch.errors import StoreError, UsageError
from mpdispatch.model import JobState, SupervisorStatus
from mpdispatch.policy.names import check_name, shown
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import PruneFilter
from mpdispatch.store.values import Backup, Pruned, QueueStats


class OperatesStore:
    """Looks after its store, and says how it stands."""

    @property
    def store(self) -> Store:
        raise NotImplementedError

    def settle(self) -> None:
        """Jobs may have become due. In tests they run now."""
        raise NotImplementedError

    def pause_queue(self, queue: str) -> None:
        """No job of this queue is started until it is resumed; running ones go on."""
        self.store.set_paused(check_name("queue", queue), True)

    def resume_queue(self, queue: str) -> None:
        """Jobs of this queue are started again."""
        self.store.set_paused(check_name("queue", queue), False)
        self.settle()

    def queue_stats(self) -> list[QueueStats]:
        """Every queue that has jobs or is paused."""
        return self.store.queue_stats()

    def workers(self) -> list[SupervisorStatus]:
        """Every registered supervisor, dead or alive, with its worker processes where they can be seen (this host)."""
        from mpdispatch.engine.supervisors import supervisors_of  # it imports much that no enqueuer needs

        return supervisors_of(self.store, SystemClock().now())

    def has_supervisor(self) -> bool:
        """Whether any supervisor of this store lives."""
        from mpdispatch.engine.supervisors import living_supervisors

        return bool(living_supervisors(self.store))

    def stats(self) -> dict[str, Any]:
        """Counts of the whole store, as `mpdispatch stats --json` gives them."""
        from mpdispatch.engine.supervisors import living_supervisors

        store = self.store
        queues = store.queue_stats()
        return {
            "jobs": {state.value: sum(each.jobs[state] for each in queues) for state in JobState},
            "dlq_count": store.dead_letter_count(),
            "queues": {each.name: {"paused": each.is_paused, "jobs": dict(each.jobs)} for each in queues},
            "supervisors": len(living_supervisors(store)),
            "store": store.display,
        }

    def prune(
        self,
        older_than: float | timedelta | str | None = None,
        *,
        state: JobState | str | None = None,
        keep: int | None = None,
        dry_run: bool = False,
    ) -> int:
        """Delete ended jobs for which all that is given holds; gives how many. `retention` does it all the time.

        Completed and cancelled jobs, and failed ones whose dead letter was replayed or purged. Deleted in short
        transactions, so supervisors go on claiming.

        Args:
            older_than: they ended longer ago than this (seconds).
            state: they are "completed", "failed" or "cancelled".
            keep: they are not among this many (of the state, if one is given) that ended last.
            dry_run: only count them.

        Raises UsageError: none of the first three is given, or one of them is not allowed.
        """
        return sum(self.pruned(older_than, state=state, keep=keep, dry_run=dry_run).by_state.values())

    def pruned(
        self,
        older_than: float | timedelta | str | None = None,
        *,
        state: JobState | str | None = None,
        keep: int | None = None,
        dry_run: bool = False,
    ) -> Pruned:
        """As `prune`; gives their number by state, and of the failed jobs that stay for their dead letters."""
        if older_than is None and state is None and keep is None:
            raise UsageError("prune: say which jobs: older_than, state or keep")
        if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 0):
            raise UsageError(f"keep: must be a whole number from 0, not {shown(keep)}")
        before_us = None if older_than is None else so_long_ago_us(older_than)
        where = PruneFilter(state=checked_state(state), ended_before_us=before_us, keep=keep)
        return self.store.prune(where, dry_run=dry_run)

    def backup(self, destination: str | os.PathLike[str]) -> Backup:
        """Copy the store to a new file, while supervisors and others use it: one moment of it, checked and on disk.

        To restore: end all that use the store, remove what lies beside it as `FILE-wal` and `FILE-shm`, and put the copy
        in the place of `FILE`. Jobs that were running at that moment run again.

        Raises StoreError: the destination is there already or cannot be written, of which nothing is left; or the store
        cannot be read.
        """
        return self.store.backup(destination)

    def compact(self) -> tuple[int, int]:
        """Make the store's file as small as it can be; gives its size before and after, in bytes.

        Nobody can write meanwhile: some seconds for a large file. A file that this version made becomes smaller by
        itself, as jobs are pruned; this is for older ones.

        Raises StoreError: a supervisor is running, which would lose its jobs while it waits.
        """
        store = self.store
        if self.has_supervisor():
            raise StoreError(
                store.display, "has a running supervisor, which cannot wait so long; stop it first"
            )
        return store.compact()
