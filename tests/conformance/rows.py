"""What the model keeps of a job, and the values it shows of it. No rules; those are in model.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec

from mpdispatch.errors import UsageError
from mpdispatch.model import (
    Attempt,
    ClaimedJob,
    DeadLetter,
    ErrorInfo,
    Failure,
    Job,
    JobState,
    NewJob,
    Output,
    Page,
    Run,
    Stream,
    Transition,
)

T = TypeVar("T")
Start = tuple[int, int]
"""(job id, starts): one start of one job."""


@dataclass(kw_only=True)
class Row:
    """A job and everything kept of it."""

    id: int
    new: NewJob
    """As it was enqueued; nothing of it changes."""
    state: JobState
    run_at_us: int
    expires_at_us: int | None
    """None again once it has begun or ended."""
    created_at_us: int
    attempt: int = 0
    """Attempts spent: counted at claim; some outcomes give one back."""
    starts: int = 0
    """How often it was claimed; only ever grows. Together with `owner` it names one start and fences off all others."""
    owner: int | None = None
    """The supervisor that runs it; None unless it is running."""
    is_cancel_requested: bool = False
    blocked_reason: str | None = None
    """Parked: pending, but the supervisor that looked at it could not run it."""
    started_at_us: int | None = None
    completed_at_us: int | None = None
    run: Run | None = None
    """What is known of the last start that ended."""
    last_error: ErrorInfo | None = None
    result: bytes | None = None
    progress: bytes | None = None
    history: list[tuple[Transition, Run]] = field(default_factory=list)
    """Every start that ended, but for those whose handler was never called."""
    outputs: dict[tuple[int, Stream], Output] = field(default_factory=dict)
    """By (starts, stream)."""
    parents: list[int] = field(default_factory=list)
    """The jobs that it waits or waited for."""
    open_parents: set[int] = field(default_factory=set)
    """Those that it still waits for."""
    retried_as: int | None = None
    """The job that has taken its place."""

    @property
    def is_due(self) -> bool:
        return self.state is JobState.PENDING and self.blocked_reason is None and not self.open_parents

    @property
    def is_dealt_with(self) -> bool:
        """It failed, and was enqueued again."""
        return self.state is JobState.FAILED and self.retried_as is not None

    @property
    def place(self) -> tuple[int, int, int]:
        """Jobs are claimed in this order: highest priority first, then the longest due, then the oldest."""
        return -self.new.priority, self.run_at_us, self.id

    @property
    def start(self) -> Start:
        return self.id, self.starts

    @property
    def put_off_us(self) -> int | None:
        """When its last start ended; None: there was none, or nothing is known of it."""
        ended = self.history[-1][0] if self.history else None
        return ended.at_us if ended is not None and ended.starts == self.starts else None


@dataclass(kw_only=True)
class Letter:
    """A dead letter."""

    number: int
    """Its place in the order in which jobs failed."""
    row: Row
    failed_at_us: int
    replayed_at_us: int | None = None
    replayed_as: int | None = None
    closed_at_us: int | None = None
    """When it was first replayed or purged; None: it is open."""
    is_purged: bool = False

    @property
    def is_replayed(self) -> bool:
        return self.replayed_at_us is not None


# ---------------------------------------------------------------- as others see them


def job_of(row: Row, blocked_reason: str | None, *, created: bool = True) -> Job:
    run, new = row.run, row.new
    return Job(
        id=row.id,
        name=new.name,
        queue=new.queue,
        state=row.state,
        priority=new.priority,
        payload=msgspec.json.decode(new.payload),
        attempt=row.attempt,
        starts=row.starts,
        max_retries=new.max_retries,
        run_at=moment_of(row.run_at_us),
        created_at=moment_of(row.created_at_us),
        started_at=_moment_or_none(row.started_at_us),
        completed_at=_moment_or_none(row.completed_at_us),
        timeout=_seconds(new.timeout_us),
        idempotency_key=new.idempotency_key,
        last_error=row.last_error,
        result=None if row.result is None else msgspec.json.decode(row.result),
        progress=None if row.progress is None else msgspec.json.decode(row.progress),
        batch_id=new.batch_id,
        retried_from=new.retried_from,
        retried_as=row.retried_as,
        blocked_reason=blocked_reason,
        worker_pid=None if run is None else run.worker_pid,
        cpu_s=None if run is None else _seconds(run.cpu_us),
        max_rss_bytes=None if run is None else run.max_rss_bytes,
        slot=_moment_or_none(new.slot_us),
        expires_at=_moment_or_none(row.expires_at_us),
        created=created,
    )


def claimed_job_of(row: Row) -> ClaimedJob:
    new = row.new
    return ClaimedJob(
        id=row.id,
        starts=row.starts,
        attempt=row.attempt,
        name=new.name,
        queue=new.queue,
        priority=new.priority,
        run_at_us=row.run_at_us,
        max_retries=new.max_retries,
        timeout_us=new.timeout_us,
        idempotency_key=new.idempotency_key,
        payload=new.payload,
        trace_context=new.trace_context,
        slot_us=new.slot_us,
        expires_at_us=row.expires_at_us,
    )


def attempts_of(row: Row) -> list[Attempt]:
    def text(starts: int, stream: Stream) -> str | None:
        output = row.outputs.get((starts, stream))
        return None if output is None else output.text

    return [
        Attempt(
            job_id=row.id,
            starts=ended.starts,
            attempt=ended.claim_attempt,
            cause=ended.cause,
            started_at=moment_of(run.started_us),
            finished_at=moment_of(ended.at_us),
            duration_s=_seconds(run.duration_us),
            worker_pid=run.worker_pid,
            error=ended.error,
            exit_status=ended.exit_status,
            signal=ended.signal,
            cpu_s=_seconds(run.cpu_us),
            max_rss_bytes=run.max_rss_bytes,
            stdout=text(ended.starts, Stream.STDOUT),
            stderr=text(ended.starts, Stream.STDERR),
            log=text(ended.starts, Stream.LOG),
        )
        for ended, run in row.history
    ]


def letter_of(letter: Letter, job: Job) -> DeadLetter:
    return DeadLetter(
        id=job.id,
        job=job,
        failed_at=moment_of(letter.failed_at_us),
        replayed_at=_moment_or_none(letter.replayed_at_us),
        replayed_as=letter.replayed_as,
    )


def failure_of(letter: Letter) -> Failure:
    error = letter.row.last_error
    return Failure(
        id=letter.row.id,
        name=letter.row.new.name,
        failed_at_us=letter.failed_at_us,
        type="" if error is None else error.type,
        message="" if error is None else error.message,
    )


def page_of(newest_first: Sequence[tuple[int, T]], limit: int, cursor: str | None) -> Page[T]:
    """Some of these (place, item), whose places fall. The cursor is the place of the last item seen."""
    if limit < 1:
        raise UsageError(f"limit must be 1 or more, not {limit}")
    if cursor is not None and not cursor.isdecimal():
        raise UsageError(f"{cursor!r} is no cursor; use the next_cursor of a page")
    rest = [(place, item) for place, item in newest_first if cursor is None or place < int(cursor)]
    return Page(
        items=[item for _, item in rest[:limit]],
        next_cursor=str(rest[limit - 1][0]) if len(rest) > limit else None,
    )


def tally(reasons: Iterable[str | None]) -> dict[str, int]:
    """How often each occurs, the commonest first; None is none."""
    found = dict[str, int]()
    for reason in reasons:
        if reason is not None:
            found[reason] = found.get(reason, 0) + 1
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def moment_of(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def _moment_or_none(us: int | None) -> datetime | None:
    return None if us is None else moment_of(us)


def _seconds(us: int | None) -> float | None:
    return None if us is None else us / 1e6
