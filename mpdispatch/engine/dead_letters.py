"""`engine.dead_letters`: the jobs that failed for good. Needs a store, no handlers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from mpdispatch.engine.options import checked_id, checked_limit, so_long_ago_us
from mpdispatch.model import DeadLetter, FailureGroup, Job, Page, Retried
from mpdispatch.store.filters import DeadLetterFilter

if TYPE_CHECKING:  # which loads this module
    from mpdispatch.engine.client import JobClient


class DeadLetters:
    """The dead letters of a store, each by the id of its job.

    Many are selected by `queue`, `name` (of the job), `batch` (the id of the batch that the job is a member of) and
    `error` (a text that stands in `type: message` of the error); those are meant for which all that is given holds.
    """

    def __init__(self, client: JobClient) -> None:
        self._client, self._store = client, client.store

    def list(
        self,
        *,
        queue: str | None = None,
        name: str | None = None,
        batch: int | None = None,
        error: str | None = None,
        replayed: bool | None = False,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[DeadLetter]:
        """The last failed first: `items` (at most `limit`, 1 to 1000) and the `next_cursor` (None at the end).

        `replayed=True` gives those that were replayed, None gives all; the default gives those that were not.

        Raises UsageError: `limit`, `cursor` or what selects them is not allowed.
        """
        where = DeadLetterFilter(queue=queue, name=name, batch_id=batch, error=error, is_replayed=replayed)
        return self._store.dead_letters(where, limit=checked_limit(limit), cursor=cursor)

    def groups(
        self,
        *,
        queue: str | None = None,
        name: str | None = None,
        batch: int | None = None,
        error: str | None = None,
        replayed: bool | None = False,
    ) -> Sequence[FailureGroup]:
        """The dead letters by job name and error, the largest group first.

        Errors whose messages differ in numbers, ids, paths and the like are in one group. Reads the dead letters in
        steps, without arguments and tracebacks: some seconds for 100,000.
        """
        from mpdispatch.engine.again import failures  # these are for looking at many
        from mpdispatch.engine.failure_groups import grouped

        where = DeadLetterFilter(queue=queue, name=name, batch_id=batch, error=error, is_replayed=replayed)
        return grouped(failures(self._store, where))

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
        return self._client.tell(self._store.replay(checked_id(job_id)))

    def replay_all(
        self,
        *,
        queue: str | None = None,
        name: str | None = None,
        batch: int | None = None,
        error: str | None = None,
        everything: bool = False,
        on_selected: Callable[[int], object] | None = None,
    ) -> Retried:
        """As `replay` of each dead letter that was not replayed, the first failed first: `count` and `errors`.

        Those that are there at the beginning, in short transactions, so supervisors go on claiming. If the caller dies in
        between, the others stay open: calling it again goes on.

        Args:
            everything: all of them. Needed if nothing else says which.
            on_selected: called with their number before the first is replayed. If it raises, none is.

        Raises BatchNotFoundError; UsageError: nothing says which, or what says so is not allowed.
        """
        from mpdispatch.engine.again import failed_ids, refuse_everything, refuse_unknown_batch, run_again

        where = DeadLetterFilter(queue=queue, name=name, batch_id=batch, error=error)
        refuse_everything(where, everything)
        refuse_unknown_batch(self._store, where)
        ids = failed_ids(self._store, where)
        if on_selected is not None:
            on_selected(len(ids))
        retried = run_again(self._store, ids, self._client.tell_all)
        self._client.settle()
        return retried

    def purge(
        self,
        *,
        queue: str | None = None,
        name: str | None = None,
        batch: int | None = None,
        error: str | None = None,
        older_than: float | timedelta | str | None = None,
    ) -> int:
        """Purge dead letters, replayed or not; gives how many. They are gone; their jobs stay, as failed.

        The jobs are deleted when the setting `retention_failed` has passed. `older_than` (seconds): only those that
        failed longer ago. Purged in short transactions, so supervisors go on claiming. Raises BatchNotFoundError.
        """
        from mpdispatch.engine.again import refuse_unknown_batch

        where = DeadLetterFilter(
            queue=queue,
            name=name,
            batch_id=batch,
            error=error,
            is_replayed=None,
            failed_before_us=None if older_than is None else so_long_ago_us(older_than),
        )
        refuse_unknown_batch(self._store, where)
        return self._store.purge_dead_letters(where)
