"""Why a cron entry did not fire, from what the store knows. Reads the store; loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator

from mpdispatch.clock import Instant
from mpdispatch.engine.explain import Reason
from mpdispatch.engine.supervisors import living_supervisors
from mpdispatch.errors import JobNotFoundError
from mpdispatch.model import COMMAND_JOB, CronEntry, JobState
from mpdispatch.policy.cron.preview import explain
from mpdispatch.store.contract import Store

_SKIPS = 3


def explain_cron(store: Store, entry: CronEntry, *, now: Instant) -> list[Reason]:
    """All that keeps the entry from firing or its jobs from running, what weighs most first; never empty."""
    return list(_reasons(store, entry, now))


def _reasons(store: Store, entry: CronEntry, now: Instant) -> Iterator[Reason]:
    history = store.crons.history(entry.spec.name, _SKIPS)
    living = living_supervisors(store)
    if not living:
        app = "--allow-commands" if entry.spec.job.name == COMMAND_JOB else "APP"
        text = "no supervisor is running, and only supervisors fire slots"
        yield Reason("no_supervisor", text, remedy=f"mpdispatch supervise {app}")
    for text in explain(entry, now_us=now.wall_us, skipped=history.skipped):
        yield Reason("entry", text)
    if entry.last_job_id is not None:
        yield from _of_last_job(store, entry.last_job_id)


def _of_last_job(store: Store, job_id: int) -> Iterator[Reason]:
    try:
        job = store.get(job_id)
    except JobNotFoundError:
        return  # pruned
    if job.state is JobState.FAILED or job.blocked_reason is not None or not job.state.is_terminal:
        why = f": {job.blocked_reason or job.last_error}" if job.blocked_reason or job.last_error else ""
        yield Reason("last_job", f"its last job {job_id} is {job.state}{why}", f"mpdispatch explain {job_id}")
