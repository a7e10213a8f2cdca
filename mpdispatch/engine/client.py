"""The client of a store's jobs. Every door uses it: an engine is a client, command line and HTTP have one.

It needs a store and no handlers. All that makes jobs, here, in `batch`, `crons` and `dead_letters`, tells the hooks through
this object (`tell`, `tell_all`, `add_jobs`), so that hooks are told the same whichever door is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from mpdispatch.clock import SystemClock
from mpdispatch.config import QueueConfig
from mpdispatch.engine.dead_letters import DeadLetters
from mpdispatch.engine.operating import OperatesStore
from mpdispatch.engine.options import checked_id, checked_limit, checked_state
from mpdispatch.engine.waiting.waits import WaitsForJobs
from mpdispatch.errors import StoreNotShared
from mpdispatch.execution.process_context import in_worker
from mpdispatch.model import (
    AlikeJobs,
    Attempt,
    Enqueued,
    Job,
    JobState,
    NewBatch,
    NewJob,
    Output,
    Page,
    Parent,
    Retried,
)
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import JobFilter
from mpdispatch.store.values import Dependents

if TYPE_CHECKING:
    from mpdispatch.engine.batches.listing import Batches
    from mpdispatch.engine.crons.entries import Crons
    from mpdispatch.engine.explain import Reason
    from mpdispatch.events.publish import Hooks


class JobClient(WaitsForJobs, OperatesStore):
    """The jobs of a store. Safe from any thread."""

    queue_configs: tuple[QueueConfig, ...] = ()
    """The limits of queues that this client knows of."""

    def __init__(self, store: Callable[[], Store], hooks: Hooks | None = None) -> None:
        """`store` is called at each use: it may change. `hooks` are told of every job that is made here."""
        self._store, self._hooks = store, hooks

    @classmethod
    def of(cls, store: Store) -> Self:
        """A client of this store, without an app: no hook is told of what it does."""
        return cls(lambda: store)

    @property
    def store(self) -> Store:
        """The store of the jobs.

        Raises StoreNotShared: this is a worker, and the store is in the memory of another process.
        """
        store = self._store()
        if in_worker() and not store.is_shared:
            raise StoreNotShared(store.display)
        return store

    def get_job(self, job_id: int) -> Job:
        """Raises JobNotFoundError."""
        return self.store.get(checked_id(job_id)).known_to(self)

    def state_of(self, job_id: int) -> JobState:
        """The job's state alone: cheap enough to poll. Raises JobNotFoundError."""
        return self.store.state_of(checked_id(job_id))

    def attempts(self, job_id: int) -> list[Attempt]:
        """How each start of the job ended, oldest first. Raises JobNotFoundError."""
        return self.store.attempts(checked_id(job_id))

    def parents(self, job_id: int) -> list[Parent]:
        """The jobs that this one waits for, or waited for (`after`), by id. Of one that was pruned, the state is None."""
        return self.store.parents(checked_id(job_id))

    def parent_results(self, job_id: int) -> dict[int, Any]:
        """What the parents of this job have returned, by their ids; without those that did not complete.

        In a handler: `current_engine().parent_results(current_job().id)`. A parent that was retried stands under the id of
        the retry. They are there: a parent is not pruned before its dependents have ended.
        """
        parents = self.parents(job_id)
        return {each.id: self.store.get(each.id).result for each in parents if each.state is JobState.COMPLETED}

    def dependents(self, job_id: int) -> Dependents:
        """How many jobs have this one as a parent, `total`, and how many of them still wait, `waiting`."""
        return self.store.dependents(checked_id(job_id))

    def list_jobs(
        self,
        *,
        state: JobState | str | None = None,
        queue: str | None = None,
        name: str | None = None,
        batch: int | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Job]:
        """Jobs, newest first: `items` (at most `limit`, 1 to 1000) and the `next_cursor` (None at the end).

        `batch`: the id of the batch of which they are members.

        Raises UsageError: there is no such state, or `batch`, `limit` or `cursor` is not allowed.
        """
        where = JobFilter(state=checked_state(state), queue=queue, name=name, batch_id=batch)
        return self.store.list_jobs(where, limit=checked_limit(limit), cursor=cursor)

    def outputs(self, job_id: int) -> list[Output]:
        """What each start of the job wrote, oldest start first; a running one's too. Raises JobNotFoundError."""
        return self.store.outputs(checked_id(job_id))

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state, 0 included. A failed job that was enqueued again does not count."""
        return self.store.counts()

    def explain(self, job_id: int, *, queue_configs: Iterable[QueueConfig] = ()) -> tuple[Job, list[Reason]]:
        """The job, and all that keeps it from running, what weighs most first; never empty.

        Each reason has a `code`, a `text` and, if there is one, a `remedy`. `queue_configs` are limits beyond those this
        client knows; its own win.

        Raises JobNotFoundError: there is no such job.
        """
        from mpdispatch.engine.explain import explain  # it imports much that enqueueing does not need

        limits = (*self.queue_configs, *queue_configs)
        return explain(self.store, checked_id(job_id), now=SystemClock().now(), queue_configs=limits)

    def _why_not_ended(self, job_id: int) -> str:
        """What `explain` says, in one line for a program; empty if the job has ended."""
        job, reasons = self.explain(job_id)
        if job.state.is_terminal:
            return ""
        in_code = " (in a program: `with engine.dispatcher:`)"
        return "; ".join(f"{each}{in_code if each.code == 'no_supervisor' else ''}" for each in reasons)

    def cancel(self, job_id: int) -> Job:
        """Cancel a waiting job at once; ask the supervisor to end a running one.

        Raises:
            InvalidStateError: it has ended already.
            JobNotFoundError: there is no such job.
        """
        job = self.store.cancel(checked_id(job_id)).known_to(self)
        self.settle()
        return job

    def retry(self, job_id: int) -> Job:
        """Run a retrying or scheduled job now; enqueue a failed or cancelled one again as a **new** job.

        The new job has `retried_from`; the old one stays as it ended, and its dead letter is marked replayed. A second
        `retry` of the same ended job gives the job of the first, with `created=False`: retry that one.

        A job that had parents waits again, for the jobs that are in their places now, and for the retry of one that has
        failed: retry a job and those that were cancelled for it in any order, and they run in the right one.

        Raises:
            InvalidStateError: it is pending (also if it waits for parents), running or completed.
            JobNotFoundError: there is no such job.
        """
        job = self.store.retry(checked_id(job_id))
        if job.id != job_id:
            return self.tell(job)
        return (job if self.in_process is None else self.in_process.made(job)).known_to(self)

    def retry_all(
        self,
        *,
        state: JobState | str | None = None,
        queue: str | None = None,
        name: str | None = None,
        batch: int | None = None,
        error: str | None = None,
        everything: bool = False,
        on_selected: Callable[[int], object] | None = None,
    ) -> Retried:
        """As `retry` of each job for which all that is given holds, the oldest first: `count` and `errors`.

        Those that are there at the beginning, in short transactions, so supervisors go on claiming. A failed job is left
        out if its dead letter was replayed or purged, a cancelled one if it was enqueued again already.

        Args:
            state: failed, retrying, scheduled or cancelled; None: failed and retrying.
            batch: the id of the batch of which they are members.
            error: stands in their last error, as `type: message`.
            everything: all jobs in these states. Needed if none of `queue`, `name`, `batch` and `error` says which.
            on_selected: called with their number before the first is retried. If it raises, none is.

        Raises BatchNotFoundError; UsageError: nothing says which, or what says so is not allowed.
        """
        from mpdispatch.engine import again  # no single retry needs it

        where = JobFilter(queue=queue, name=name, batch_id=batch)
        again.refuse_everything(where, everything or error is not None)
        again.refuse_unknown_batch(self.store, where)
        states = again.checked_states(state)
        ids = [job_id for each in states for job_id in again.ids_in(self.store, each, where, error)]
        if on_selected is not None:
            on_selected(len(ids))
        retried = again.run_again(self.store, ids, self.tell_all)
        self.settle()
        return retried

    def tell(self, job: Job, *, is_committed: bool = True) -> Job:
        """Tell the hooks of a new job, and give it: in tests, where jobs run in this process, as it ended."""
        if self._hooks is not None:
            self._hooks.enqueued(job, is_committed=is_committed)
        if self.in_process is not None and is_committed:
            job = self.in_process.made(job)
        return job.known_to(self)

    def settle(self) -> None:
        """Jobs may have been made or become due. In tests they run now."""
        if self.in_process is not None:
            self.in_process.settle()

    def tell_all(self, jobs: Iterable[Job]) -> None:
        """Tell the hooks of new jobs. Whoever has made them calls `settle` after the last, for tests that run jobs."""
        if self._hooks is not None:
            for job in jobs:
                self._hooks.enqueued(job)

    @property
    def batches(self) -> Batches:
        """The batches: get, list."""
        from mpdispatch.engine.batches.listing import Batches

        return Batches(self)

    @property
    def dead_letters(self) -> DeadLetters:
        """The jobs that failed for good: list, get, count, replay, purge."""
        return DeadLetters(self)

    @property
    def crons(self) -> Crons:
        """The cron entries: add, list, get, enable, disable, delete, trigger, preview, backfill, explain, history."""
        from mpdispatch.engine.crons.entries import Crons
        from mpdispatch.engine.crons.jobs import job_as_given  # these import much that no enqueuer needs

        return Crons(self.store, new_job=job_as_given, on_fire=self._tell_fired)

    def _tell_fired(self, entry: str, jobs: Sequence[Job]) -> Sequence[Job]:
        if self._hooks is not None:
            for job in jobs:
                self._hooks.fired(entry, job)
        if self.in_process is not None:
            self.in_process.settle()
            jobs = [self.store.get(job.id) for job in jobs]
        return [job.known_to(self) for job in jobs]

    # ---------------------------------------------------------------- new jobs, for the doors

    def add_job(self, job: NewJob, *, connection: Any = None, is_synced: bool = True) -> Job:
        """Store one job as it is and tell the hooks. `Engine.enqueue` checks name and arguments first."""
        made = self.store.enqueue(job, connection=connection, is_synced=is_synced)
        return self.tell(made, is_committed=connection is None)

    def add_jobs(
        self,
        template: NewJob,
        payloads: Sequence[bytes],
        batch: NewBatch | int | None = None,
        *,
        closes: bool = True,
    ) -> Enqueued:
        """Store one job like `template` per payload, in one transaction, and tell the hooks.

        They are members of a batch, see `Store.enqueue_many`.
        """
        made = self.store.enqueue_many(AlikeJobs(template, payloads), batch=batch, closes=closes)
        if self._hooks is not None and made.batch_id is not None:
            self._hooks.enqueued_many(template, made.ids, made.batch_id, SystemClock().now().wall_us)
        self.settle()
        return made

    def wake(self) -> None:
        """Tell supervisors that there is work, for example after the commit of `connection=` enqueues. A hint."""
        self.store.wake()
        self.settle()
