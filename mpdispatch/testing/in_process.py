"""Who runs an engine's jobs in this process, and when: `inline` at once, `drain` when it is called."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import timedelta

import msgspec

from mpdispatch.clock import SECOND_US, sleep
from mpdispatch.engine.engine import Engine
from mpdispatch.errors import JobFailedError, UsageError
from mpdispatch.events.queue import THREAD_NAME
from mpdispatch.model import COMMAND_JOB, Job, JobState
from mpdispatch.policy.durations import duration_of
from mpdispatch.store.contract import Store
from mpdispatch.testing.execute import nested
from mpdispatch.testing.fake_clock import FakeClock
from mpdispatch.testing.goals import BatchGoal, Goal, JobGoal
from mpdispatch.testing.isolation import AnyEngine, clock, drain_hooks, engine_of, fake_clock_of, isolated
from mpdispatch.testing.runner import Ended, Runner

_is_ours: ContextVar[bool] = ContextVar("mpdispatch_testing", default=False)
"""Whether this is the test's own code, or a thread that has its context variables."""


_BESIDE_S = 0.2
"""A job that runs on for so long while another thread waits for a job is taken to wait for that thread."""


@contextmanager
def inline(engine: AnyEngine, *, raises: bool = True) -> Iterator[FakeClock]:
    """Inside the block, an enqueue runs its job at once, in this process, and gives the Job as it ended.

        with testing.inline(engine):
            assert render.enqueue("a.pdf").result == {"pages": 3}

    The job takes the way that it takes in a worker: arguments and result become JSON and come back, middleware and hooks
    are called, a failure is retried after its backoff, `Retry`, `Snooze` and `Cancel` do what they do, and after the last
    retry there is a dead letter. Where it would wait, the clock is advanced. A timeout is real time, and interrupts the
    handler in the main thread only.

    Jobs that a handler enqueues run after it, as do all that are due: if they are due later, with the clock
    (`testing.drain`). `wait` runs the job that it waits for. A job that no supervisor could run now (a paused queue) stays
    as it is; command jobs are refused.

    Async code and threads may enqueue, too: jobs still run one at a time. A thread without the test's context variables
    gets its job as it was made if another one runs just then.

    Outside of `isolated` the block has a store of its own, in memory. Gives the store's clock.

    Args:
        raises: whether a job that failed for good raises JobFailedError where it was enqueued, from what its handler
            raised. With False the caller goes on with the failed Job.
    """
    engine = engine_of(engine)
    with ExitStack() as stack:
        found = fake_clock_of(engine.store)
        if found is None:
            found = stack.enter_context(isolated(engine))
        stack.enter_context(_in_process(engine, InProcessJobs(engine, is_inline=True, raises=raises)))
        yield found


def drain(
    engine: AnyEngine,
    *,
    until: Callable[[], object] | None = None,
    advance: float | timedelta | str | None = None,
    crons: bool = False,
) -> list[Job]:
    """Run what is due in this process, in the order of a supervisor, until nothing is. Gives the jobs that ended.

    They are in the order in which they ended, each as it ended: a job that failed for good does not raise. Jobs run as in
    `inline`, on the engine's present store, of all queues, and those that handlers enqueue meanwhile run too.

    Args:
        until: called before each job; once what it gives is true, no further job is started.
        advance: let so much time pass (seconds, a timedelta, or text such as `"2h"`). Jobs that become due meanwhile run
            when they are due. None: scheduled and retrying jobs that are not due stay.
        crons: fire the cron entries that the app declares, and those that were added, as a supervisor would that starts
            now and runs for that time.

    Raises:
        UsageError: `advance` or `crons` is given, and the clock of the store is the machine's; or a handler calls it.
    """
    engine = engine_of(engine)
    if _is_in_handler():
        raise UsageError(
            "drain() was called in a handler or a hook; engine.wait(id) runs the job that it waits for"
        )
    total_us = None if advance is None else round(duration_of("advance", advance) * SECOND_US)
    if total_us is not None or crons:
        clock(engine)  # raises on a store that is not the test's
    jobs = engine.in_process
    if isinstance(jobs, InProcessJobs):
        return jobs.drain(until, total_us, fires=crons)
    jobs = InProcessJobs(engine, is_inline=False, raises=False)
    with _in_process(engine, jobs):
        return jobs.drain(until, total_us, fires=crons)


@contextmanager
def _in_process(engine: Engine, jobs: InProcessJobs) -> Iterator[None]:
    before, was_ours = engine.in_process, _is_ours.get()
    engine.in_process = jobs
    _is_ours.set(True)
    try:
        yield
    finally:
        engine.in_process = before
        _is_ours.set(was_ours)  # no reset by a token: the end of an async fixture has other context variables


def _is_in_handler() -> bool:
    """Whether a handler makes this call, or a hook."""
    return nested.get() is not None or threading.current_thread().name == THREAD_NAME


class InProcessJobs:
    """Runs the jobs of an engine in this process (see `engine.in_process`). For any thread; one job runs at a time."""

    def __init__(self, engine: Engine, *, is_inline: bool, raises: bool) -> None:
        self._engine, self._is_inline, self._raises = engine, is_inline, raises
        self._lock = threading.Lock()
        """Held while jobs run that are not inside of a handler."""
        self._strays = threading.Lock()
        """The same for threads for which a handler waits."""
        self._has_more = False
        """Whether jobs were made that whoever runs jobs now may not have seen."""
        self._ended = Ended()
        """Of what runs now, also inside of handlers."""

    @property
    def _store(self) -> Store:
        """The present one: `isolated` may be inside of `inline`."""
        return self._engine.store

    # -- what the engine asks ---------------------------------------------------------------------------

    def made(self, job: Job) -> Job:
        if not self._enters():
            return job
        self._run(JobGoal(self._store, job.id))
        after = self._store.get(job.id)
        if after.name == COMMAND_JOB and not after.state.is_terminal:
            raise UsageError(
                f"job {job.id} is a program: it runs under a supervisor with --allow-commands, and not in this process"
            )
        return msgspec.structs.replace(after, created=job.created)

    def settle(self) -> None:
        if self._enters():
            self._run(None)

    def awaited(self, job_id: int) -> None:
        goal = JobGoal(self._store, job_id)
        self._reach(goal)
        self._ended.seen.add(job_id)
        if not goal.is_reached():
            job, reasons = self._engine.explain(job_id)
            why = "; ".join(each.text for each in reasons if each.code != "no_supervisor")
            raise UsageError(f"job {job_id} is {job.state}, and nothing in this process will end it: {why}")

    def batch_awaited(self, batch_id: int) -> None:
        goal = BatchGoal(self._store, batch_id)
        self._reach(goal)
        if not goal.is_reached():
            info = self._store.batches.get(batch_id)
            why = "it is open" if info.is_open else f"{info.total - info.done} of its jobs have not ended"
            raise UsageError(f"nothing in this process will end batch {batch_id}: {why}")

    # -- running ----------------------------------------------------------------------------------------

    def _enters(self) -> bool:
        """Whether the caller may run jobs now; it holds the lock then. Else whoever holds it does."""
        self._has_more = True
        if not self._is_inline or _is_in_handler():
            return False
        # The thread of an app, or one that a handler has started: that one must not wait for the handler's end.
        return self._lock.acquire(blocking=_is_ours.get())

    def _reach(self, goal: Goal) -> None:
        """Run jobs until this is so, if they can do it."""
        if goal.is_reached():
            return
        if self._enters():
            self._run(goal)
        elif (inside := nested.get()) is not None:
            with inside:
                self._run_towards(goal)
        else:
            self._reach_beside(goal)

    def _reach_beside(self, goal: Goal) -> None:
        """As `_reach`, on a thread that may be a handler's: the job that runs now may wait for it, or not know it."""
        before = None
        while not goal.is_reached():
            if self._lock.acquire(timeout=_BESIDE_S):
                self._run(goal)
                return
            now = self._ended, self._ended.starts
            if now == before:
                with self._strays:
                    self._run_towards(goal)
                return
            before = now

    def _run(self, goal: Goal | None) -> None:
        """Run what is due, and what leads to this goal. Releases the lock."""
        ended = self._ended = Ended()
        try:
            self._repeat(lambda: self._run_towards(goal))
        finally:
            self._lock.release()
        if self._raises:
            _raise_failed(ended)

    def _run_towards(self, goal: Goal | None) -> None:
        def advances(due_us: int) -> bool:
            """Let time pass if that is what the goal waits for."""
            if goal is None or not goal.is_later():
                return False
            self._advance(due_us)
            return True

        Runner(self._engine).run(self._ended, lambda: False, advances)

    def _advance(self, microseconds: int) -> None:
        if (fake := fake_clock_of(self._store)) is None:
            sleep(microseconds / SECOND_US)
        else:
            fake.advance_us(microseconds)

    def _repeat(self, run: Callable[[], None]) -> None:
        """Run, tell the hooks, and run again if meanwhile, or on other threads, jobs were made."""
        self._has_more = True
        while self._has_more:
            self._has_more = False
            run()
            drain_hooks(self._engine)

    def drain(self, until: Callable[[], object] | None, total_us: int | None, *, fires: bool) -> list[Job]:
        """As `drain`. With `total_us` the store has a fake clock."""
        fake = fake_clock_of(self._store)
        end_us = 0 if fake is None or total_us is None else fake.now().boot_us + total_us

        def is_over() -> bool:
            return until is not None and bool(until())

        def left_us() -> int:
            return 0 if fake is None else max(0, end_us - fake.now().boot_us)

        def advances(due_us: int) -> bool:
            if due_us > left_us():
                return False
            self._advance(due_us)
            return True

        with self._lock:
            ended, runner = Ended(), Runner(self._engine)
            self._ended = ended
            firing = runner.firing() if fires else None
            self._repeat(lambda: runner.run(ended, is_over, advances, tends=True, firing=firing))
            if left_us() and not is_over():
                self._advance(left_us())
        return ended.jobs


def _raise_failed(ended: Ended) -> None:
    """Raises JobFailedError for the first failed job, from what its handler has raised."""
    failed = [job for job in ended.jobs if job.state is JobState.FAILED and job.id not in ended.seen]
    if not failed:
        return
    error = JobFailedError(failed[0], failed[0].last_error)
    for job in failed[1:]:
        error.add_note(f"job {job.id} ({job.name}) failed, too: {job.last_error}")
    raise error from ended.errors.get(failed[0].id)
