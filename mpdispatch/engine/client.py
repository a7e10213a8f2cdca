"""What people do to jobs that exist: look at them, wait, cancel, retry; pause queues. Needs a store, no handlers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol

from mpdispatch.clock import Clock
from mpdispatch.engine.dead_letters import DeadLetters
from mpdispatch.engine.offload import offload_read
from mpdispatch.engine.options import checked_id, checked_limit
from mpdispatch.engine.stats import overview
from mpdispatch.engine.waiting import wait_for_end, wait_for_end_async
from mpdispatch.errors import JobCancelledError, JobFailedError, StoreNotShared, UsageError
from mpdispatch.execution.process_context import in_worker, refuse_while_importing
from mpdispatch.model import Attempt, Job, JobState, Page, SupervisorStatus
from mpdispatch.policy.durations import duration_of
from mpdispatch.policy.names import check_name, shown
from mpdispatch.store.contract import JobFilter, QueueStats, Store

__all__ = ["JobClient"]


class StoreHolder(Protocol):
    """Who has the store: a dispatcher."""

    @property
    def store(self) -> Store: ...


class JobClient:
    """The jobs of a store. Safe from any thread."""

    def __init__(self, holder: StoreHolder, clock: Clock) -> None:
        """`holder` says which store that is, each time it is asked."""
        self._holder, self._clock = holder, clock

    @property
    def store(self) -> Store:
        """Where its jobs are.

        Raises:
            StoreNotShared: this is a worker, and the jobs are in the memory of another process.
        """
        store = self._holder.store
        if in_worker() and not store.is_shared:
            raise StoreNotShared(store.location)
        return store

    def get_job(self, job_id: int) -> Job:
        """Raises JobNotFoundError."""
        return self.store.get(checked_id(job_id))

    def attempts(self, job_id: int) -> list[Attempt]:
        """How each start of the job ended, oldest first. Raises JobNotFoundError."""
        return self.store.attempts(checked_id(job_id))

    def list_jobs(
        self,
        *,
        state: JobState | str | None = None,
        queue: str | None = None,
        name: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Job]:
        """Jobs, newest first: `items` (at most `limit`, 1 to 1000) and the `next_cursor` (None at the end).

        Raises:
            UsageError: there is no such state, or `limit` or `cursor` is not allowed.
        """
        where = JobFilter(state=_checked_state(state), queue=queue, name=name)
        return self.store.list_jobs(where, limit=checked_limit(limit), cursor=cursor)

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state, 0 included."""
        return self.store.counts()

    def wait(self, job_id: int, timeout: float | timedelta | str | None = None) -> Job:
        """Block until the job has ended; gives it completed.

        Raises:
            JobFailedError: it failed; carries the job and the handler's ErrorInfo.
            JobCancelledError: it was cancelled.
            WaitTimeoutError: it has not ended within `timeout` seconds; the job itself goes on.
            JobNotFoundError: there is no such job (any more).
        """
        refuse_while_importing("wait")
        timeout_s = None if timeout is None else duration_of("timeout", timeout)
        wait_for_end(self.store, checked_id(job_id), timeout_s)
        return _completed(self.store.get(job_id))

    async def wait_async(self, job_id: int, timeout: float | timedelta | str | None = None) -> Job:
        """As `wait`, from async code: `await engine.wait_async(job.id)`. Never blocks the event loop.

        Cancelling it ends the waiting, not the job.
        """
        timeout_s = None if timeout is None else duration_of("timeout", timeout)
        await wait_for_end_async(self.store, checked_id(job_id), timeout_s)
        return _completed(await offload_read(self.store.get, job_id))

    def cancel(self, job_id: int) -> Job:
        """Cancel a waiting job at once; ask the supervisor to end a running one.

        Raises:
            InvalidStateError: it has ended already.
            JobNotFoundError: there is no such job.
        """
        return self.store.cancel(checked_id(job_id), now=self._clock.now())

    def retry(self, job_id: int) -> Job:
        """Run a retrying or scheduled job now; enqueue a failed or cancelled one again as a **new** job.

        The new job has `retried_from`; the old one stays as it ended, and its dead letter is marked replayed. A second
        `retry` of the same ended job gives the job of the first, with `created=False`: retry that one.

        Raises:
            InvalidStateError: it is pending, running or completed.
            JobNotFoundError: there is no such job.
        """
        job = self.store.retry(checked_id(job_id), now=self._clock.now())
        if job.id != job_id:
            self._enqueued(job)
        return job

    def _enqueued(self, job: Job) -> None:
        """A job was made of an older one. An engine tells its extensions."""

    @property
    def dead_letters(self) -> DeadLetters:
        """The jobs that failed for good: list, get, count, replay, purge."""
        return DeadLetters(self.store, self._clock, on_replay=self._enqueued)

    def wake(self) -> None:
        """Tell supervisors that there is work, for example after the commit of `connection=` enqueues. A hint."""
        self.store.wake()

    # ---------------------------------------------------------------- the whole

    def pause_queue(self, queue: str) -> None:
        """No job of this queue is started until it is resumed; running ones go on."""
        self.store.set_paused(check_name("queue", queue), True, now=self._clock.now())

    def resume_queue(self, queue: str) -> None:
        self.store.set_paused(check_name("queue", queue), False, now=self._clock.now())

    def queue_stats(self) -> list[QueueStats]:
        """Every queue that has jobs or is paused."""
        return self.store.queue_stats()

    def workers(self) -> list[SupervisorStatus]:
        """Every registered supervisor, dead or alive, with its worker processes where they can be seen (this host)."""
        from mpdispatch.engine.supervisors import supervisors_of  # it knows the pool, which no enqueuer loads

        return supervisors_of(self.store, self._clock.now())

    def stats(self) -> dict[str, Any]:
        """Counts of the whole store, as `mpdispatch stats --json` gives them."""
        return overview(self.store)


def _completed(job: Job) -> Job:
    if job.state is JobState.FAILED:
        raise JobFailedError(job, job.last_error)
    if job.state is JobState.CANCELLED:
        raise JobCancelledError(job)
    return job


def _checked_state(state: object) -> JobState | None:
    try:
        return None if state is None else JobState(state)  # type: ignore[arg-type]  # a wrong type is reported
    except ValueError:
        states = ", ".join(each.value for each in JobState)
        raise UsageError(f"state: must be one of {states}, not {shown(state)}") from None
