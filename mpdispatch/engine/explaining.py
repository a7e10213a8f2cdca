"""Why a job has not ended yet, in a sentence, with what to do about it. Reads the store it is given."""

from __future__ import annotations

from datetime import UTC, datetime

from mpdispatch.model import Job, JobState, PeerSupervisor
from mpdispatch.store.contract import Store

__all__ = ["has_supervisor", "why_not_ended"]

_START = "start one: `mpdispatch supervise module:engine`, or `with engine.dispatcher:` in a program"


def why_not_ended(store: Store, job_id: int) -> str:
    """The reason, as far as the store shows it; empty if the job has ended.

    Raises:
        JobNotFoundError: there is no such job (any more).
    """
    job = store.get(job_id)
    match job.state:
        case JobState.PENDING:
            return _why_pending(store, job)
        case JobState.SCHEDULED:
            return f"it is due {_when(job)}{_nobody(store)}"
        case JobState.RETRYING:
            return f"attempt {job.attempt} ended with {job.last_error}; the next one is due {_when(job)}{_nobody(store)}"
        case JobState.RUNNING:
            return _how_long(job) if _living(store) else f"the supervisor that ran it is gone; {_START}"
        case _:
            return ""


def _why_pending(store: Store, job: Job) -> str:
    if (reason := job.blocked_reason) is not None:
        resume = f"; `mpdispatch resume {job.queue}` lets it go on" if reason.endswith("is paused") else ""
        return reason + resume
    living = _living(store)
    if not living:
        return f"no supervisor is running on this store; {_START}"
    if not any(job.queue in each.queues for each in living):
        polled = ", ".join(sorted({queue for each in living for queue in each.queues}))
        return f"no running supervisor polls its queue {job.queue!r}; polled are: {polled}"
    return "it waits for its turn: a supervisor polls its queue, and other jobs or a limit come first"


def has_supervisor(store: Store) -> bool:
    """Whether any supervisor of this store lives. Raises StoreError."""
    return bool(_living(store))


def _living(store: Store) -> list[PeerSupervisor]:
    from mpdispatch.engine.supervisors import living_supervisors  # it knows the host, which no enqueuer needs

    return living_supervisors(store)


def _nobody(store: Store) -> str:
    return "" if _living(store) else f"; no supervisor is running on this store: {_START}"


def _when(job: Job) -> str:
    left_s = (job.run_at - datetime.now(UTC)).total_seconds()
    return f"at {job.run_at:%Y-%m-%d %H:%M:%S} UTC" + (f", in {left_s:,.0f} s" if left_s >= 0.5 else "")


def _how_long(job: Job) -> str:
    if job.started_at is None:
        return "a supervisor has it and is about to start it"
    ran_s = max(0.0, (datetime.now(UTC) - job.started_at).total_seconds())
    return f"attempt {job.attempt} has been running for {ran_s:,.1f} s"
