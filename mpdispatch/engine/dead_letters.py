"""`engine.dead_letters`: the jobs that failed for good. Needs a store, no handlers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from mpdispatch.engine.options import checked_id, checked_limit, so_long_ago_us
from mpdispatch.model import DeadLetter, Job, Page
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import DeadLetterFilter


class DeadLetters:
    """The dead letters of a store, each by the id of its job."""

    def __init__(self, store: Store, *, on_replay: Callable[[Job], object]) -> None:
        self._store, self._on_replay = store, on_replay

    def list(
        self,
        *,
        queue: str | None = None,
        name: str | None = None,
        replayed: bool | None = False,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[DeadLetter]:
        """The last failed first: `items` (at most `limit`, 1 to 1000) and the `next_cursor` (None at the end).

        `replayed=True` gives those that were replayed, None gives all; the default gives those that were not.

        Raises UsageError: `limit` or `cursor` is not allowed.
        """
        where = DeadLetterFilter(queue=queue, name=name, is_replayed=replayed)
        return self._store.dead_letters(where, limit=checked_limit(limit), cursor=cursor)

    def get(self, job_id: int) -> DeadLetter:
        """The dead letter of a failed job. Raises DeadLetterNotFoundError."""
        return self._store.dead_letter(checked_id(job_id))

    def count(self, queue: str | None = None) -> int:
        """How many are not replayed."""
        return self._store.dead_letter_count(DeadLetterFilter(queue=queue).queue)

    def replay(self, job_id: int) -> Job:
        """Enqueue the failed job again as a **new** job, and mark the dead letter, in one transaction.

        Doing it twice makes one job: the second call gives the first one's, with `created=False`.

        Raises DeadLetterNotFoundError: the job did not fail, or its dead letter was purged.
        """
        job = self._store.replay(checked_id(job_id))
        self._on_replay(job)
        return job

    def purge(
        self,
        *,
        queue: str | None = None,
        name: str | None = None,
        older_than: float | timedelta | str | None = None,
    ) -> int:
        """Purge dead letters, replayed or not; gives how many. They are gone; their jobs stay, as failed.

        The jobs are deleted when the setting `retention_failed` has passed. `older_than` (seconds): only those that
        failed longer ago. Purged in short transactions, so supervisors go on claiming.
        """
        before_us = None if older_than is None else so_long_ago_us(older_than)
        where = DeadLetterFilter(queue=queue, name=name, is_replayed=None, failed_before_us=before_us)
        return self._store.purge_dead_letters(where)
