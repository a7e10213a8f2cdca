"""What a job is, before, while and after it runs. Values only: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, Self, TypeVar, overload

import msgspec

from mpdispatch.errors import UsageError

T = TypeVar("T")
if TYPE_CHECKING:  # its default (PEP 696): a Job of which nothing is said may have any result
    from datetime import timedelta

    from typing_extensions import TypeVar as TypeVarWithDefault

    R = TypeVarWithDefault("R", default=Any, covariant=True)
else:
    R = TypeVar("R", covariant=True)


class JobState(StrEnum):
    """Where a job stands. The last three are terminal: after them a job is only pruned."""

    SCHEDULED = "scheduled"
    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL_STATES


TERMINAL_STATES = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})


OnParentFailure = Literal["cancel", "run", "wait"]
"""What a dependent does when a parent fails or is cancelled: it is cancelled; it counts that parent as done; it waits
until the parent was enqueued again and completes."""


UNREADABLE = "UnreadableJob"
"""The error type of a job whose row cannot be read, because something other than mpdispatch wrote to the store."""


class Cause(StrEnum):
    """How one start of a job ended."""

    COMPLETED = "completed"
    ERROR = "error"
    RETRY = "retry"
    SNOOZE = "snooze"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    WORKER_DIED = "worker_died"
    LEASE_LOST = "lease_lost"
    ABORTED = "aborted"
    RELEASED = "released"
    EXPIRED = "expired"
    """It was not started in time."""


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An exception as text, so that nobody needs its class: `type` is the qualified name, `message` its `str()`.

    `traceback` has at most 64 KiB.
    """

    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job as handed to a store. `payload` is a JSON object: argument name → value."""

    name: str
    payload: bytes
    queue: str = "default"
    priority: int = 0
    max_retries: int = 3
    run_at_us: int | None = None
    """Wall time; None: `delay_us` after it is enqueued."""
    delay_us: int = 0
    timeout_us: int | None = None
    idempotency_key: str | None = None
    retried_from: int | None = None
    trace_context: str | None = None
    """The trace in which it was enqueued: a JSON object of header name → value (`traceparent` …)."""
    slot_us: int | None = None
    """Wall time of the slot of a cron entry for which it was made."""
    expires_at_us: int | None = None
    """Wall time from which on it is cancelled instead of started for the first time; None: see `expires_us`."""
    expires_us: int | None = None
    """The same as a duration, from its slot, or from the enqueue if it has no slot; None: it does not expire."""
    batch_id: int | None = None
    """The batch of which it is a member."""
    after: tuple[int, ...] = ()
    """Ids of its parents: the jobs that must have ended before it is due."""
    parents_created_us: tuple[tuple[int, int], ...] = ()
    """Id and time of creation of some of them, as far as they are known: a job of another store has another time."""
    on_parent_failure: OnParentFailure = "cancel"

    def due_us(self, now_us: int) -> int:
        """Wall time at which it is due if it is enqueued now."""
        return now_us + self.delay_us if self.run_at_us is None else self.run_at_us

    def expiry_us(self, now_us: int) -> int | None:
        """Wall time at which it expires if it is enqueued now; None: never.

        A job of a cron entry counts from the moment at which it is due: one of a slot that was missed is due when it
        catches up.

        >>> NewJob(name="a", payload=b"{}", expires_us=60, slot_us=1000, run_at_us=1002).expiry_us(5000)
        1062
        """
        if self.expires_us is None or self.expires_at_us is not None:
            return self.expires_at_us
        return self.expires_us + (now_us if self.slot_us is None else self.due_us(now_us))


class AlikeJobs(Sequence[NewJob]):
    """As a list of NewJobs, without making them: one for each payload, and each like `template` in all else.

    A store that takes any sequence of jobs takes this one; one that knows it may be quicker.

    >>> jobs = AlikeJobs(NewJob(name="resize", payload=b"{}", queue="bulk"), [b'{"n":1}', b'{"n":2}'])
    >>> len(jobs), jobs[1].queue, jobs[1].payload
    (2, 'bulk', b'{"n":2}')
    """

    __slots__ = ("payloads", "template")

    def __init__(self, template: NewJob, payloads: Sequence[bytes]) -> None:
        self.template, self.payloads = template, payloads

    def __len__(self) -> int:
        return len(self.payloads)

    @overload
    def __getitem__(self, index: int) -> NewJob: ...
    @overload
    def __getitem__(self, index: slice) -> AlikeJobs: ...
    def __getitem__(self, index: int | slice) -> NewJob | AlikeJobs:
        if isinstance(index, slice):
            return AlikeJobs(self.template, self.payloads[index])
        return msgspec.structs.replace(self.template, payload=self.payloads[index])


# A struct, not a dataclass: thousands are made per second (0.3 µs instead of 3 µs each). A store selects its fields in
# their order, and a frame to a worker sends them so: the payload is the last.
class ClaimedJob(msgspec.Struct, frozen=True, gc=False):
    """A job this supervisor holds a lease on; `starts` is the fencing token of that lease."""

    id: int
    starts: int
    attempt: int
    """Attempts spent, this claim included: 1 = the first start."""
    name: str
    queue: str
    priority: int
    run_at_us: int
    max_retries: int
    timeout_us: int | None
    idempotency_key: str | None
    trace_context: str | None = None
    slot_us: int | None = None
    expires_at_us: int | None = None
    """Only of a first start (or one after a refund without a start): any other may be late."""
    payload: bytes = b""


class Waits(Protocol):
    """The client of a job's store, as a job knows it."""

    def result_of(self, job: Job, timeout: float | timedelta | str | None = None) -> Any:
        """What `Job.wait` gives."""
        ...

    async def result_of_async(self, job: Job, timeout: float | timedelta | str | None = None) -> Any:
        """What `Job.wait_async` gives."""
        ...


# A struct as well: every enqueue returns one (0.7 µs instead of 8). Its client is in its `__dict__`: so it is no field,
# which JSON or `==` would look at, and setting it costs 0.1 µs.
class Job(msgspec.Struct, Generic[R], frozen=True, kw_only=True, dict=True):
    """A job as the store has it now; `Job[R]`: its handler returns an R. Times are aware UTC datetimes."""

    id: int
    name: str
    queue: str
    state: JobState
    priority: int
    payload: dict[str, Any]
    attempt: int = 0
    """Attempts spent; 1 = the first start."""
    starts: int = 0
    """How often it was claimed, never decreased: the fencing token."""
    max_retries: int
    run_at: datetime
    created_at: datetime
    started_at: datetime | None = None
    """The last start."""
    completed_at: datetime | None = None
    """When the outcome was decided."""
    timeout: float | None = None
    """Seconds one start may take."""
    idempotency_key: str | None = None
    last_error: ErrorInfo | None = None
    result: Any = None
    progress: dict[str, Any] | None = None
    """`{"done": …, "total": …, "message": …}` as last reported."""
    batch_id: int | None = None
    retried_from: int | None = None
    retried_as: int | None = None
    """The job that has taken its place: it failed or was cancelled, and was enqueued again."""
    blocked_reason: str | None = None
    """Why no running supervisor can run it, if so."""
    worker_pid: int | None = None
    cpu_s: float | None = None
    max_rss_bytes: int | None = None
    slot: datetime | None = None
    """The moment of a schedule for which a cron entry made it."""
    expires_at: datetime | None = None
    """If it has not been started by then, it is cancelled. None: it does not expire, or that is decided already."""
    created: bool = True
    """False if `enqueue` found an older job under the same idempotency key."""

    def __repr__(self) -> str:
        """Only what identifies it: a payload may be a megabyte."""
        return (
            f"Job(id={self.id}, name={self.name!r}, queue={self.queue!r}, state={self.state.value!r},"
            f" attempt={self.attempt})"
        )

    def wait(self, timeout: float | timedelta | str | None = None) -> R:
        """Block until it has ended, at most `timeout` seconds; gives what the handler returned.

        It is read back as the handler's return annotation says: a dataclass, a datetime … Without one, or in a client
        without the handler, it is plain data, as `result` is.

        Raises:
            JobFailedError: it failed; carries the job and the handler's ErrorInfo.
            JobCancelledError: it was cancelled.
            WaitTimeoutError: it has not ended in time; the job itself goes on.
            JobNotFoundError: there is no such job (any more).
            ResultError: what it returned does not fit the annotation.
        """
        found: R = self._client().result_of(self, timeout)
        return found

    async def wait_async(self, timeout: float | timedelta | str | None = None) -> R:
        """As `wait`, from async code. Never blocks the event loop."""
        found: R = await self._client().result_of_async(self, timeout)
        return found

    def _client(self) -> Waits:
        client: Waits | None = self.__dict__.get("client")
        if client is None:
            text = f"job {self.id} was read from a store, not by an engine"
            raise UsageError(f"{text}; engine.wait({self.id}) waits for it")
        return client

    def known_to(self, client: Waits) -> Self:
        """The same job, which knows from now on the client that waits for it."""
        self.__dict__["client"] = client
        return self


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One start of a job, after it ended."""

    job_id: int
    starts: int
    attempt: int
    cause: Cause
    started_at: datetime
    finished_at: datetime
    duration_s: float | None
    """How long the handler ran, where known."""
    worker_pid: int | None
    error: ErrorInfo | None
    exit_status: int | None
    """Of a command job: the command's. Else the worker's, if the worker ended by itself during the job."""
    signal: str | None
    """The signal that ended the worker or the command, e.g. `SIGKILL`."""
    cpu_s: float | None
    max_rss_bytes: int | None
    stdout: str | None = None
    """The last 64 KiB that a command wrote; None: it wrote nothing, or the job is no command."""
    stderr: str | None = None
    log: str | None = None
    """The last 64 KiB of lines that the handler gave to `current_job().log`."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A job that reached `failed`, kept until somebody replays or purges it. Times are aware UTC datetimes."""

    id: int
    """The job's own id: a job fails once, so one number names both."""
    job: Job
    """As it ended: arguments, attempts, last error."""
    failed_at: datetime
    replayed_at: datetime | None
    """When it was replayed, by `replay` or by `retry` of the job; None: never."""
    replayed_as: int | None
    """The job it was replayed as."""

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def queue(self) -> str:
        return self.job.queue


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A part of a list. `next_cursor` is the cursor of the next part; None at the end."""

    items: list[T]
    next_cursor: str | None


RESERVED_PREFIX = "mpdispatch."
"""Names of handlers must not begin with this."""

COMMAND_JOB = "mpdispatch.command"
"""A program to run, put there by `mpdispatch run`; only a supervisor with `--allow-commands` claims it."""


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The payload of a command job. The program gets `argv` itself; no shell reads it."""

    argv: list[str]
    cwd: str
    """Absolute."""
    env: dict[str, str] | None
    """Its whole environment, except MPDISPATCH_JOB_ID, MPDISPATCH_ATTEMPT and MPDISPATCH_SLOT, which the worker adds.
    None: that of the supervisor."""
    spool: str | None = None
    """An absolute folder on this machine for all that it writes (see `execution.spool`); None: the end of it is stored."""
    is_bytes: bool = False
    """Whether each character of `argv`, `cwd` and `spool` stands for one byte (Latin-1), because one is no UTF-8."""
