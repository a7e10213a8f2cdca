"""Runs an engine's due jobs in this process, one after the other, as a supervisor with one worker would.

    claim (store) ▸ execute (execution.Executor) ▸ decide (policy) ▸ commit (store) ▸ hooks

Every part is the one that a supervisor or a worker uses. Limits of queues do not count: one job runs at a time.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from mpdispatch.clock import SECOND_US, SystemClock
from mpdispatch.engine.engine import Engine
from mpdispatch.errors import DispatchError
from mpdispatch.execution.middleware import default_timeout_s
from mpdispatch.model import Cause, ClaimedJob, Job, JobState, Outcome, Transition
from mpdispatch.policy.decide import RetryRules, decide
from mpdispatch.store.contract import Store
from mpdispatch.store.values import CommitResult
from mpdispatch.supervisor.claimer import with_timeouts
from mpdispatch.supervisor.event_publisher import EventPublisher, LocalSink
from mpdispatch.supervisor.outcome_reporter import log_outcome
from mpdispatch.testing.execute import Execution
from mpdispatch.testing.firing import Firing
from mpdispatch.testing.isolation import fake_clock_of
from mpdispatch.testing.registration import Registration

MOST_STARTS, MOST_JOBS = 1_000, 100_000
"""In one run. A job that always snoozes, or always enqueues another, would never end it."""


class Ended:
    """The jobs that ended, in this order, and what the handlers of the failed ones raised last."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.errors: dict[int, BaseException] = {}
        self.starts = 0
        """How many starts there were."""
        self.seen: set[int] = set()
        """Jobs for whose end a handler has waited: it was told how they ended."""


class Runner:
    """On the engine's present store. May be used again inside of a handler that it runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.store: Store = engine.store
        self._clock = fake_clock_of(self.store) or SystemClock()
        self._log = engine.dispatcher.logger.getChild("testing")
        timeout_s = default_timeout_s(engine.middleware)
        self._default_timeout_us = None if timeout_s is None else round(timeout_s * SECOND_US)

    def run(
        self,
        ended: Ended,
        is_over: Callable[[], bool],
        advances: Callable[[int], bool],
        *,
        tends: bool = False,
        firing: Firing | None = None,
    ) -> None:
        """Run due jobs until `is_over()`, which is asked before each, or until none is due. Adds to `ended`.

        `tends`: have the store look after its rows, too, as supervisors do. It looks at all of them at first.
        `firing`: fires cron entries, too.
        `advances(due_us)` is asked when none is due, and a job or a slot will be in so many µs. It lets the
        time pass and gives True, or gives False, which ends the run.

        Raises DispatchError: one job was started 1,000 times, or 100,000 jobs ran.
        """
        starts = Counter[int]()
        with self._registered(tends) as registration:
            while not is_over():
                result = registration.claim()
                self._take_in(result, ended)
                for job in with_timeouts(result.claimed, self._engine.catalog, self._default_timeout_us):
                    self._start(registration, job, ended)
                    starts[job.id] += 1
                    _refuse_endless(starts, job)
                if result.claimed or result.has_more or registration.finds_more():
                    continue
                is_decided, slot_in_us = (False, None) if firing is None else firing.fire()
                due_in_us = _sooner(result.due_in_us, slot_in_us)
                if not is_decided and (due_in_us is None or not advances(due_in_us)):
                    return

    def firing(self) -> Firing:
        """For one or more runs that are the time of one supervisor. Raises ConfigError."""
        return Firing(self._engine, self._clock, self._publisher())

    @contextmanager
    def _registered(self, tends: bool) -> Iterator[Registration]:
        self.store.check(create=True)
        store = self.store.supervisor_store()
        try:
            with self._engine.dispatcher.hold_store():
                registration = Registration(self._engine, store, tends=tends)
                try:
                    yield registration
                finally:
                    registration.leave()
        finally:
            store.close()

    def _start(self, registration: Registration, job: ClaimedJob, ended: Ended) -> None:
        ended.starts += 1
        now = self._clock.now()
        publisher = self._publisher()
        if publisher is not None:
            publisher.started(job, now.wall_us, os.getpid())
            publisher.flush()
        execution = Execution(self._engine, job, now)
        transition = self._decide(job, execution.run())
        result = registration.commit(transition, execution.reports())
        start = job.id, job.starts
        if start in result.rejected:
            return  # another supervisor has taken the job over
        if start in result.cancelled:
            transition = msgspec.structs.replace(transition, state=JobState.CANCELLED)
        if publisher is not None:
            publisher.recorded(job, transition)
            publisher.flush()
        if transition.cause is not Cause.COMPLETED:
            log_outcome(self._log, job, transition, transition.state)
        if transition.state.is_terminal:
            ended.jobs.append(self.store.get(job.id))
        self._take_in(result, ended)
        if execution.raised is not None:
            _raise_what_ends_the_test(execution.raised)
            if transition.state is JobState.FAILED:
                ended.errors[job.id] = execution.raised

    def _decide(self, job: ClaimedJob, outcome: Outcome) -> Transition:
        rules = RetryRules(backoff=self._engine.catalog.backoff_for(job.name))
        return decide(job, outcome, rules, now_us=self._clock.now().wall_us, jitter=random.random())

    def _take_in(self, result: CommitResult, ended: Ended) -> None:
        """What the store has done besides: jobs it has ended, and callbacks it has enqueued."""
        publisher = self._publisher() if result.ended or result.enqueued else None
        if publisher is not None:
            publisher.called_back(result.enqueued)
            for job, transition in result.ended:
                publisher.recorded(job, transition)
            publisher.flush()
        ended.jobs += [self.store.get(job.id) for job, _ in result.ended]

    def _publisher(self) -> EventPublisher | None:
        hooks = self._engine.hooks
        if not (wanted := hooks.wanted()):
            return None
        return EventPublisher(LocalSink(hooks.queue()), wanted, self._clock)


def _sooner(one: int | None, other: int | None) -> int | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _refuse_endless(starts: Counter[int], job: ClaimedJob) -> None:
    if starts[job.id] >= MOST_STARTS:
        raise DispatchError(f"job {job.id} ({job.name}) was started {starts[job.id]:,} times and has not ended")
    if len(starts) >= MOST_JOBS:
        raise DispatchError(
            f"{len(starts):,} jobs ran and more are due, the last was job {job.id} ({job.name}): does it always enqueue"
            " another?"
        )


def _raise_what_ends_the_test(error: BaseException) -> None:
    """Pass on Ctrl-C, and what pytest.fail() and pytest.skip() raise. A worker makes failures of them."""
    if isinstance(error, KeyboardInterrupt) or any(
        each.__module__ == "_pytest.outcomes" for each in type(error).__mro__
    ):
        raise error
