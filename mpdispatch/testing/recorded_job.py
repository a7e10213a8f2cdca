"""A job context without a job, so that a test can call a handler directly. It records what the handler reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from mpdispatch.errors import UsageError
from mpdispatch.execution.job_context import JobContext
from mpdispatch.execution.process_context import running_here, set_current_job
from mpdispatch.model import ClaimedJob, Stream
from mpdispatch.policy.names import check_name, shown
from mpdispatch.testing.isolation import AnyEngine, engine_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ReportedProgress(NamedTuple):
    """One call of `progress`."""

    done: float
    total: float | None
    message: str | None


class RecordedJob(JobContext):
    """The context of a job that does not exist. What `progress` and `log` were called with is kept."""

    __slots__ = ("logged", "progressed")

    def __init__(self, job: ClaimedJob, deadline: datetime | None) -> None:
        super().__init__(job, reporter=_Nobody(), deadline=deadline)
        self.close()  # nothing is sent, and no thread is started for that
        self.progressed: list[ReportedProgress] = []
        """Every call of `progress`, in order."""
        self.logged: list[str] = []
        """The text of every call of `log`, in order."""

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        super().progress(done, total, message)
        self.progressed.append(ReportedProgress(done, total, message))

    def log(self, text: str) -> None:
        super().log(text)
        self.logged.append(str(text))


class _Nobody:
    def progress(self, job_id: int, starts: int, data: bytes) -> None: ...

    def output(
        self, job_id: int, starts: int, stream: Stream, text: str, written: int, *, is_last: bool
    ) -> None: ...


@contextmanager
def job_context(
    *,
    id: int = 1,  # noqa: A002 - as a job calls it
    name: str = "job",
    queue: str = "default",
    attempt: int = 1,
    max_retries: int = 3,
    fencing_token: int | None = None,
    deadline: datetime | None = None,
    idempotency_key: str | None = None,
    slot: datetime | None = None,
    is_cancelled: bool = False,
    engine: AnyEngine | None = None,
) -> Iterator[RecordedJob]:
    """Inside the block, `current_job()` gives a job that does not exist, so that a handler can be called directly.

        with testing.job_context(attempt=2) as job:
            assert render("a.pdf") == {"pages": 3}
        assert job.progressed[-1].done == 3
        assert job.logged == ["rendered a.pdf"]

    Its facts are those that are given; `fencing_token` is the attempt unless given. `engine` is what `current_engine()`
    gives. No store is used, and `deadline` interrupts nobody.

    Raises UsageError: a value that no job can have, such as a time without a zone.
    """
    counts = {
        "id": (id, 1),
        "attempt": (attempt, 1),
        "max_retries": (max_retries, 0),
        "fencing_token": (fencing_token, 1),
    }
    for field, (value, least) in counts.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise UsageError(f"{field}: must be a whole number from {least}, not {shown(value)}")
    check_name("name", name)
    check_name("queue", queue)
    job = ClaimedJob(
        id=id,
        starts=attempt if fencing_token is None else fencing_token,
        attempt=attempt,
        name=name,
        queue=queue,
        priority=0,
        run_at_us=0,
        max_retries=max_retries,
        timeout_us=None,
        idempotency_key=idempotency_key,
        slot_us=None if slot is None else (_aware("slot", slot) - _EPOCH) // timedelta(microseconds=1),
    )
    context = RecordedJob(job, None if deadline is None else _aware("deadline", deadline))
    context.is_cancelled = is_cancelled
    with running_here(None if engine is None else engine_of(engine)):
        set_current_job(context)
        yield context


def _aware(field: str, moment: object) -> datetime:
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise UsageError(f"{field}: must be an aware datetime, not {shown(moment)}")
    return moment
