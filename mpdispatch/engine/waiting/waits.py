"""Waiting for jobs, as a client offers it: for one, for each of many as they end, for the first; plain and async."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from mpdispatch.engine.options import checked_id
from mpdispatch.engine.waiting.blocking import ends_of, wait_for_end
from mpdispatch.errors import JobCancelledError, JobFailedError, UsageError
from mpdispatch.execution.process_context import refuse_while_importing
from mpdispatch.model import Job, JobState
from mpdispatch.policy.durations import duration_of
from mpdispatch.policy.names import shown
from mpdispatch.store.contract import Store

if TYPE_CHECKING:
    from mpdispatch.engine.in_process import InProcess

R = TypeVar("R")
Timeout = float | timedelta | str | None


class WaitsForJobs:
    """Waits for jobs of its store. Each call takes jobs or their ids."""

    in_process: InProcess | None = None
    """Who runs the jobs in this process, in tests; None: supervisors do."""

    @property
    def store(self) -> Store:
        raise NotImplementedError

    def _why_not_ended(self, job_id: int) -> str:
        """What keeps the job from running, in one line; empty if it has ended."""
        raise NotImplementedError

    def _returned_by(self, job: Job) -> Any:
        """What the handler of this completed job returned, as its annotation says. Raises ResultError."""
        return job.result

    # ---------------------------------------------------------------- one

    @overload
    def wait(self, job: Job[R], timeout: Timeout = None) -> Job[R]: ...
    @overload
    def wait(self, job: int, timeout: Timeout = None) -> Job[Any]: ...
    def wait(self, job: Job[Any] | int, timeout: Timeout = None) -> Job[Any]:
        """Block until the job (or the one of this id) has ended; gives it completed.

        Raises:
            JobFailedError: it failed; carries the job and the handler's ErrorInfo.
            JobCancelledError: it was cancelled.
            WaitTimeoutError: it has not ended within `timeout` seconds; the job itself goes on.
            JobNotFoundError: there is no such job (any more).
        """
        refuse_while_importing("wait")
        job_id, store = _id_of(job), self.store
        if self.in_process is not None:
            self.in_process.awaited(job_id)
        wait_for_end(store, job_id, _seconds(timeout), self._why_not_ended)
        return completed(store.get(job_id).known_to(self))

    @overload
    async def wait_async(self, job: Job[R], timeout: Timeout = None) -> Job[R]: ...
    @overload
    async def wait_async(self, job: int, timeout: Timeout = None) -> Job[Any]: ...
    async def wait_async(self, job: Job[Any] | int, timeout: Timeout = None) -> Job[Any]:
        """As `wait`, from async code: `await engine.wait_async(job)`. Never blocks the event loop.

        Cancelling it ends the waiting, not the job.
        """
        from mpdispatch.engine.offload import offload_read
        from mpdispatch.engine.waiting.loop_watch import wait_for_end_async  # asyncio, which few need

        job_id, store = _id_of(job), self.store
        if self.in_process is not None:
            from mpdispatch.engine.in_process import on_thread

            await on_thread(self.in_process.awaited, job_id)
        await wait_for_end_async(store, job_id, _seconds(timeout), self._why_not_ended)
        return completed((await offload_read(store.get, job_id)).known_to(self))

    def result_of(self, job: Job[R], timeout: Timeout = None) -> R:
        """As `job.wait`, which calls it."""
        found: R = self._returned_by(self.wait(job, timeout))
        return found

    async def result_of_async(self, job: Job[R], timeout: Timeout = None) -> R:
        """As `job.wait_async`, which calls it."""
        found: R = self._returned_by(await self.wait_async(job, timeout))
        return found

    # ---------------------------------------------------------------- many

    @overload
    def as_completed(self, jobs: Iterable[Job[R]], timeout: Timeout = None) -> Iterator[Job[R]]: ...
    @overload
    def as_completed(self, jobs: Iterable[Job[Any] | int], timeout: Timeout = None) -> Iterator[Job[Any]]: ...
    def as_completed(self, jobs: Iterable[Job[Any] | int], timeout: Timeout = None) -> Iterator[Job[Any]]:
        """Each of these jobs (or ids, or those of a Batch) as it ends, once. Failed and cancelled ones too: see `state`.

        Raises:
            WaitTimeoutError: they have not all ended `timeout` seconds from now.
            JobNotFoundError: one of them is not there (any more).
        """
        refuse_while_importing("as_completed")
        store, job_ids = self.store, _ids_of(jobs, "as_completed")
        if self.in_process is not None:
            return map(self._run_here(self.in_process), self._ended_first(job_ids))
        ids = ends_of(store, job_ids, _seconds(timeout), self._why_not_ended)
        return (store.get(job_id).known_to(self) for job_id in ids)

    def _ended_first(self, job_ids: Iterable[int]) -> list[int]:
        """Each once. Raises JobNotFoundError."""
        return sorted(dict.fromkeys(job_ids), key=lambda job_id: not self.store.state_of(job_id).is_terminal)

    def _run_here(self, here: InProcess) -> Callable[[int], Job[Any]]:
        def run(job_id: int) -> Job[Any]:
            here.awaited(job_id)
            return self.store.get(job_id).known_to(self)

        return run

    @overload
    def as_completed_async(
        self, jobs: Iterable[Job[R]], timeout: Timeout = None
    ) -> AsyncGenerator[Job[R], None]: ...
    @overload
    def as_completed_async(
        self, jobs: Iterable[Job[Any] | int], timeout: Timeout = None
    ) -> AsyncGenerator[Job[Any], None]: ...
    def as_completed_async(
        self, jobs: Iterable[Job[Any] | int], timeout: Timeout = None
    ) -> AsyncGenerator[Job[Any], None]:
        """As `as_completed`, from async code: `async for job in engine.as_completed_async(jobs)`."""
        from mpdispatch.engine.offload import offload_read
        from mpdispatch.engine.waiting.loop_watch import ends_of_async

        store = self.store
        job_ids = _ids_of(jobs, "as_completed_async")
        ends = ends_of_async(store, job_ids, _seconds(timeout), self._why_not_ended)

        async def found() -> AsyncGenerator[Job[Any], None]:
            if (here := self.in_process) is not None:
                from mpdispatch.engine.in_process import on_thread

                for job_id in await offload_read(self._ended_first, job_ids):
                    yield await on_thread(self._run_here(here), job_id)
                return
            async with aclosing(ends):
                async for job_id in ends:
                    yield (await offload_read(store.get, job_id)).known_to(self)

        return found()

    @overload
    def wait_first(self, jobs: Iterable[Job[R]], timeout: Timeout = None) -> Job[R]: ...
    @overload
    def wait_first(self, jobs: Iterable[Job[Any] | int], timeout: Timeout = None) -> Job[Any]: ...
    def wait_first(self, jobs: Iterable[Job[Any] | int], timeout: Timeout = None) -> Job[Any]:
        """The first of these jobs (or ids, or those of a Batch) that ends, completed or not: see `state`.

        If some have ended already, the first of those. Raises as `as_completed`, and UsageError: there are none.
        """
        ids = _some_ids_of(jobs, "wait_first")
        return next(iter(self.as_completed(ids, timeout)))

    @overload
    async def wait_first_async(self, jobs: Iterable[Job[R]], timeout: Timeout = None) -> Job[R]: ...
    @overload
    async def wait_first_async(self, jobs: Iterable[Job[Any] | int], timeout: Timeout = None) -> Job[Any]: ...
    async def wait_first_async(self, jobs: Iterable[Job[Any] | int], timeout: Timeout = None) -> Job[Any]:
        """As `wait_first`, from async code."""
        ids = _some_ids_of(jobs, "wait_first_async")
        async with aclosing(self.as_completed_async(ids, timeout)) as ends:
            return await anext(ends)


def completed(job: Job[R]) -> Job[R]:
    """The job, which has ended. Raises JobFailedError, JobCancelledError."""
    if job.state is JobState.FAILED:
        raise JobFailedError(job, job.last_error)
    if job.state is JobState.CANCELLED:
        raise JobCancelledError(job)
    return job


def _seconds(timeout: Timeout) -> float | None:
    return None if timeout is None else duration_of("timeout", timeout)


def _id_of(job: object) -> int:
    return job.id if isinstance(job, Job) else checked_id(job)


def _ids_of(jobs: object, call: str) -> list[int]:
    if isinstance(jobs, (str, bytes)) or not isinstance(jobs, Iterable):
        raise UsageError(f"{call}: jobs: must be several jobs or ids, or a Batch, not {shown(jobs)}")
    return [_id_of(each) for each in jobs]


def _some_ids_of(jobs: object, call: str) -> list[int]:
    ids = _ids_of(jobs, call)
    if not ids:
        raise UsageError(f"{call}: jobs: there are none to wait for")
    return ids
