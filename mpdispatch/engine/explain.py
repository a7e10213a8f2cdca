"""Why a job is not running yet, from what the store knows: for `explain` and for the error of a `wait` that gives up.

Reads the store, and only as much of it as the job's state makes necessary. Loaded when it is asked for: what it reads of
supervisors no enqueuer needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.config import QueueConfig
from mpdispatch.engine.supervisors import supervisors_of
from mpdispatch.errors import BatchNotFoundError
from mpdispatch.model import COMMAND_JOB, UNREADABLE, Job, JobState, Parent, SupervisorStatus
from mpdispatch.model.json import moment_of, time_to_json
from mpdispatch.policy.rate import Rate
from mpdispatch.store.contract import Store
from mpdispatch.store.values import QueueState


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that holds a job back, or the state it is in."""

    code: str
    """`ended, running, cancelling, later, parents, parent, parked, paused, no_supervisor, not_polled, supervisor_gone,
    queue_limit, rate_limit, busy, turn, unreadable, due, expiring` or `expired`."""
    text: str
    remedy: str | None = None

    def __str__(self) -> str:
        return self.text + (f" ▸ {self.remedy}" if self.remedy else "")


class _Facts:
    """What the reasons are made of; each is read when it is first needed."""

    def __init__(
        self,
        store: Store,
        job: Job,
        now: Instant,
        queue_configs: Sequence[QueueConfig],
        dependent: _Facts | None = None,
    ) -> None:
        """`dependent`: of a job that waits for this one."""
        self.store, self.job, self.now = store, job, now
        self.limits = next((each for each in queue_configs if each.name == job.queue), None)
        self.queue_configs, self.dependent = queue_configs, dependent

    def of_parent(self, job_id: int) -> _Facts:
        return _Facts(self.store, self.store.get(job_id), self.now, self.queue_configs, self)

    @cached_property
    def supervisors(self) -> list[SupervisorStatus]:
        if self.dependent is not None:
            return self.dependent.supervisors
        return supervisors_of(self.store, self.now)

    @cached_property
    def awaited(self) -> list[Parent]:
        is_possible = self.job.state is JobState.PENDING and self.job.blocked_reason is not None
        return self.store.awaited(self.job.id) if is_possible else []

    @cached_property
    def queue(self) -> QueueState:
        return self.store.queue_state(self.job.queue)

    @cached_property
    def faults(self) -> list[str]:
        return self.store.faults(self.job.id)

    @cached_property
    def holder(self) -> SupervisorStatus | None:
        """The supervisor that has claimed the job; None: its row was removed, or the job has just ended."""
        held = (each for each in self.supervisors if each.jobs)
        job_id = self.job.id
        return next(
            (each for each in held if any(job_id == job.id for job in self.store.held_by(each.id))), None
        )

    @property
    def living(self) -> list[SupervisorStatus]:
        return [each for each in self.supervisors if each.is_alive]

    @property
    def polling(self) -> list[SupervisorStatus]:
        return [each for each in self.living if self.job.queue in each.queues]


def explain(
    store: Store, job_id: int, *, now: Instant, queue_configs: Iterable[QueueConfig] = ()
) -> tuple[Job, list[Reason]]:
    """The job, and all that keeps it from running, what weighs most first; never empty.

    `queue_configs`: limits of queues, as far as the caller knows them; supervisors keep theirs to themselves.

    Raises JobNotFoundError: there is no such job.
    """
    job = store.get(job_id)
    return job, list(_reasons(_Facts(store, job, now, tuple(queue_configs))))


def _reasons(facts: _Facts) -> Iterator[Reason]:
    job = facts.job
    if job.state.is_terminal and (job.completed_at is not None or not _is_unreadable(job)):
        yield _ended(facts)
        return
    if _is_unreadable(job):
        yield _unreadable(job)
    elif facts.faults and not job.state.is_terminal:
        yield _astray(facts)
    if job.state.is_terminal:
        return
    if job.state is JobState.RUNNING:
        yield from _running(facts)
        return
    yield from _waiting(facts)


def _waiting(facts: _Facts) -> Iterator[Reason]:
    expiry = _expiry(facts)
    if expiry is not None and expiry.code == "expired":
        yield expiry  # whatever else holds it back does not matter any more
        return
    held_back = list(_held_back(facts))
    yield from held_back
    if not held_back and not facts.faults:
        yield Reason("due", "nothing holds it back: a supervisor takes it at its next look")
    if expiry is not None:
        yield expiry


def _expiry(facts: _Facts) -> Reason | None:
    """That the job expires, or has; None: it may start whenever it likes."""
    expires_at, now = facts.job.expires_at, moment_of(facts.now.wall_us)
    if expires_at is None:
        return None
    at = time_to_json(expires_at)
    if expires_at <= now:
        who = "a supervisor cancels it at its next look" if facts.living else "the next supervisor cancels it"
        return Reason("expired", f"it was to start by {at}: {who}", remedy=f"mpdispatch cancel {facts.job.id}")
    return Reason("expiring", f"unless it has started by {at}, in {_span(expires_at, now)}, it is cancelled")


def _ended(facts: _Facts) -> Reason:
    job = facts.job
    error = f": {job.last_error}" if job.last_error is not None else _with_its_batch(facts)
    ended = "was cancelled" if job.state is JobState.CANCELLED else job.state
    text = f"it {ended} at {time_to_json(job.completed_at)}{error}"
    if job.retried_as is not None:
        again = f"{text}; job {job.retried_as} has taken its place"
        return Reason("ended", again, remedy=f"mpdispatch explain {job.retried_as}")
    remedy = None if job.state is JobState.COMPLETED else f"mpdispatch retry {job.id}"
    return Reason("ended", text, remedy=remedy)


def _with_its_batch(facts: _Facts) -> str:
    """That it was cancelled with its batch; nothing if it was not."""
    job = facts.job
    if job.state is not JobState.CANCELLED or job.batch_id is None or job.completed_at is None:
        return ""
    try:
        batch = facts.store.batches.get(job.batch_id)
    except BatchNotFoundError:
        return ""
    if batch.cancelled_at is None or batch.cancelled_at > job.completed_at:
        return ""
    return f", with its batch {batch.id}"


def _is_unreadable(job: Job) -> bool:
    return job.last_error is not None and job.last_error.type == UNREADABLE


def _unreadable(job: Job) -> Reason:
    return Reason(
        "unreadable",
        f"its row cannot be read: {job.last_error.message if job.last_error else ''}",
        remedy=f"a supervisor of its queue ends it as failed when it is due; or mpdispatch cancel {job.id}",
    )


def _astray(facts: _Facts) -> Reason:
    return Reason(
        "unreadable",
        f"its row cannot be claimed: {'; '.join(facts.faults)}",
        remedy=f"mpdispatch cancel {facts.job.id} ends it; a supervisor of its queue ends or mends it when it is started",
    )


def _running(facts: _Facts) -> Iterator[Reason]:
    job = facts.job
    for supervisor in facts.supervisors:
        for worker in supervisor.workers:
            if worker.job_id == job.id:
                where = f"it runs in worker {worker.pid} of supervisor {supervisor.id} (pid {supervisor.pid})"
                text = f"{where} since {time_to_json(worker.since)}: attempt {job.attempt}"
                yield Reason("running", f"{text}, for {_seconds(worker.since, facts.now)}")
                return
    holder, since = facts.holder, time_to_json(job.started_at)
    if holder is None:
        yield Reason("running", f"a supervisor that is not registered any more claimed it at {since}")
        return
    who = f"supervisor {holder.id} (pid {holder.pid} on {holder.host})"
    if not holder.is_alive:
        remedy = None if facts.living else f"{_supervise(job)} (it takes its jobs over)"
        text = f"{who} claimed it at {since}, and is gone ({holder.state})"
        yield Reason("supervisor_gone", text, remedy=remedy)
        return
    more = "" if holder.workers else ", or cannot be seen from here"
    yield Reason("running", f"{who} claimed it at {since}; its worker has not begun it yet{more}")


def _seconds(since: datetime | None, now: Instant) -> str:
    passed = 0.0 if since is None else (moment_of(now.wall_us) - since).total_seconds()
    return f"{max(0.0, passed):,.1f} s"


def _held_back(facts: _Facts) -> Iterator[Reason]:
    job = facts.job
    of_queue = list(_of_queue(facts))
    if facts.awaited:
        yield from _parents(facts, {each.text for each in of_queue})
    if facts.awaited or job.state in (JobState.SCHEDULED, JobState.RETRYING):
        yield from _later(facts)
    yield from of_queue
    if job.state is JobState.PENDING and job.blocked_reason is None:
        yield from _limits(facts)
        yield from _busy(facts)
        if ahead := facts.store.ahead(job.id):
            count = f"{ahead}{' or more' if ahead >= 1000 else ''}"
            text = "1 due job of its queue comes" if ahead == 1 else f"{count} due jobs of its queue come"
            yield Reason("turn", f"{text} first")


def _of_queue(facts: _Facts) -> Iterator[Reason]:
    """What holds it back whether it is due or not."""
    job = facts.job
    if facts.queue.is_paused:
        yield Reason("paused", f"queue {job.queue!r} is paused", remedy=f"mpdispatch resume {job.queue}")
    elif job.blocked_reason is not None and not facts.awaited and not facts.faults:
        yield Reason("parked", f"no supervisor could run it: {job.blocked_reason}", remedy=_parked(job))
    yield from _nobody(facts)


def _parents(facts: _Facts, known: set[str]) -> Iterator[Reason]:
    """The parents it waits for and what holds these back, but not what these wait for in turn.

    `known`: texts of reasons that need not be repeated.
    """
    if facts.dependent is not None:
        yield Reason("parents", f"it is {facts.job.blocked_reason} itself")
        return
    from mpdispatch.engine import explain_parents  # of few jobs, and it imports this module

    yield from explain_parents.reasons(
        facts.awaited, lambda job_id: list(_reasons(facts.of_parent(job_id))), known
    )


def _later(facts: _Facts) -> Iterator[Reason]:
    job, now = facts.job, moment_of(facts.now.wall_us)
    if job.run_at <= now:
        return
    text = f"it is due at {time_to_json(job.run_at)}, in {_span(job.run_at, now)}"
    if job.state is JobState.RETRYING:
        text += f"; attempt {job.attempt} ended with {job.last_error or 'no error kept'}"
    remedy = None if facts.awaited else f"mpdispatch retry {job.id} (runs it now)"
    yield Reason("later", text, remedy=remedy)


def _span(later: datetime, now: datetime) -> str:
    """
    >>> _span(datetime(2026, 1, 1, 0, 1, 30), datetime(2026, 1, 1))
    '0:01:30'
    """
    return str(timedelta(seconds=max(1, round((later - now).total_seconds()))))


def _supervise(job: Job, options: str = "") -> str:
    """The command that starts a supervisor which can run the job."""
    app = "--allow-commands" if job.name == COMMAND_JOB else "APP"
    return f"mpdispatch supervise {app}{options}"


def _parked(job: Job) -> str:
    if job.name == COMMAND_JOB:
        return _supervise(job)
    return "start a supervisor whose app has a handler of this name, or mpdispatch cancel " + str(job.id)


def _nobody(facts: _Facts) -> Iterator[Reason]:
    if not facts.living:
        gone = len(facts.supervisors)
        text = "no supervisor is running" + (f" ({gone} registered, but gone)" if gone else "")
        queue = "" if facts.job.queue == "default" else f" -q {facts.job.queue}"
        yield Reason("no_supervisor", text, remedy=_supervise(facts.job, queue))
    elif not facts.polling:
        polled = sorted({queue for each in facts.living for queue in each.queues})
        yield Reason(
            "not_polled",
            f"no running supervisor polls queue {facts.job.queue!r}; they poll {', '.join(polled)}",
            remedy=_supervise(facts.job, f" -q {facts.job.queue}"),
        )


def _limits(facts: _Facts) -> Iterator[Reason]:
    limits, queue = facts.limits, facts.job.queue
    running, bucket, now_us = facts.queue.running, facts.queue.bucket, facts.queue.now_us
    if limits is not None and limits.max_concurrency is not None and running >= limits.max_concurrency:
        text = f"{running} jobs of queue {queue!r} run, the most it allows (max_concurrency)"
        yield Reason("queue_limit", text)
    if limits is not None and limits.rate_limit is not None:
        due_us = Rate(limits.rate_limit, limits.rate_burst).next_due_us(bucket, now_us=now_us)
        if due_us > now_us:
            wait_s = (due_us - now_us) / SECOND_US
            text = f"queue {queue!r} starts {limits.rate_limit:g} jobs/s at most; the next may start in {wait_s:.1f} s"
            yield Reason("rate_limit", text)
    elif limits is None and bucket is not None and bucket > now_us:
        text = f"queue {queue!r} has a rate limit in the app, which lets few jobs start now"
        yield Reason("rate_limit", text)


def _busy(facts: _Facts) -> Iterator[Reason]:
    if facts.polling and all(each.jobs >= each.concurrency for each in facts.polling):
        text = "every place is taken: " + ", ".join(
            f"supervisor {each.id} runs {each.jobs} of {each.concurrency}" for each in facts.polling
        )
        yield Reason("busy", text, remedy="more --concurrency, or another supervisor")
