"""What the supervisor asks of a pool and of its workers, wherever these run. Protocols only.

`pool.ProcessPool` has them: worker processes of this machine. `dask.pool.DaskPool` has workers of a dask cluster.
Nothing of a pool waits, but for `dismiss` and `kill_all` at the end, for a given time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from mpdispatch.host.start_journal import Journal
from mpdispatch.host.worker_record import WorkerRecord
from mpdispatch.model import ClaimedJob
from mpdispatch.pool.assigned import Assignment, WorkerState
from mpdispatch.pool.exec import ExitStatus
from mpdispatch.pool.frames import Attach
from mpdispatch.pool.selector import Selected

if TYPE_CHECKING:  # its events name workers
    from mpdispatch.pool.events import Event


class Worker(Protocol):
    """A process that has imported the app, or does so now, and runs one job at a time. Times are boottime µs."""

    state: WorkerState
    started_boot_us: int
    assigned: deque[Assignment]
    unwritten: int
    work_us: int
    jobs_sent: int
    is_late: bool
    """Whether its slow import was reported."""
    killed_because: str | None
    stale_since_us: int
    leaving_since_us: int
    record: WorkerRecord | None
    exit_status: ExitStatus | None
    """How it ended; None: it lives, as far as is known."""

    @property
    def pid(self) -> int: ...

    @property
    def shares_app(self) -> bool: ...

    @property
    def is_stale(self) -> bool:
        """Whether it gets no jobs until it has discarded those that were recalled."""
        ...

    @property
    def channel_fault(self) -> str | None:
        """Why nothing can be sent to it or read from it any more; None: it can."""
        ...

    def assign(self, jobs: Sequence[ClaimedJob], estimate_us: int, reference: str | None = None) -> None:
        """Assign jobs of one handler. `flush` sends them; `reference` is where the handler is, if it may not have it."""
        ...

    def flush(self) -> list[ClaimedJob]:
        """Send the newly assigned jobs. Gives those that could not be sent."""
        ...

    def recall(self) -> list[ClaimedJob]:
        """Take back the jobs that it has not begun, oldest first. Its running job goes on."""
        ...

    def drop(self, held: Assignment) -> None:
        """Remove an assigned job that will have no outcome from it."""
        ...

    def written(self) -> None:
        """The outcome of one of its jobs is on disk."""
        ...

    def started_us(self, held: Assignment) -> int | None:
        """When this job's handler was called; None: there is no sign that it was."""
        ...

    def has_unread(self) -> bool:
        """Whether it has unread messages."""
        ...

    def interrupt(self, held: Assignment, kind: int) -> None:
        """Raise JobTimeout or JobCancelled in the handler, if that very job is still running."""
        ...

    def retire(self) -> None:
        """Let it end once it has done its assigned jobs."""
        ...

    def kill(self) -> None:
        """End it with all its jobs. Its end is an event as any other."""
        ...


class Pool(Protocol):
    """All workers of a supervisor. One thread."""

    may_prefetch: bool
    """Whether a worker may hold more than the job that it runs, because those can be recalled."""
    helper_pids: set[int]
    """Pids of our other child processes."""

    @property
    def workers(self) -> Sequence[Worker]: ...

    @property
    def ready(self) -> Sequence[Worker]:
        """Workers that may get jobs."""
        ...

    @property
    def stale(self) -> int:
        """How many workers get no jobs until they have discarded those that were recalled."""
        ...

    @property
    def booting(self) -> int: ...

    @property
    def child_pids(self) -> set[int]:
        """Pids of all processes that were started here and not seen to end."""
        ...

    @property
    def may_answer_silently(self) -> bool:
        """Whether a worker may answer without an event of the selector."""
        ...

    @property
    def no_room(self) -> OSError | None:
        """The error of the last attempt to get a record, if the disk was full."""
        ...

    def assignments(self) -> Iterator[tuple[Worker, Assignment]]: ...

    @property
    def capacity(self) -> int:
        """Most workers that it could have now."""
        ...

    # -- starting -------------------------------------------------------------------------------------

    def use(self, start_method: str) -> None:
        """Start workers in this way from now on, see `Config.start_method`."""
        ...

    def warm_up(self) -> None:
        """Prepare for the first `spawn`, without a wait."""
        ...

    @property
    def is_warming(self) -> bool:
        """Whether a worker started in a moment would be ready sooner than one started now."""
        ...

    @property
    def has_app(self) -> bool:
        """Whether a worker started now shares the memory of an imported app."""
        ...

    def renew(self, token: str) -> None:
        """Mark processes that are started from now on with this token."""
        ...

    def open(self, journal: Journal, attach: Callable[[int], Attach]) -> None:
        """Call this when the store is open: workers get records and may get jobs."""
        ...

    def spawn(self) -> Worker:
        """Start one worker. Raises OSError if it cannot be started now."""
        ...

    def free_records(self) -> None:
        """Free the records of dead workers whose last outcomes are on disk, for workers that wait for one."""
        ...

    def replace_workers_of_old_journal(self) -> None:
        """After the start journal was made again: let workers that write into the old file end after their jobs."""
        ...

    def detach(self) -> None:
        """The start journal is closed: no worker may use a record of it any more."""
        ...

    # -- events and ends ------------------------------------------------------------------------------

    def receive(self, events: Selected) -> Iterator[Event]:
        """What the workers report and how they end: answers come before ends."""
        ...

    def dismiss(self, *, wait_s: float) -> None:
        """Let idle workers end by themselves, so that they can flush what they hold back."""
        ...

    def kill(self, workers: Iterable[Worker]) -> None:
        """End these workers with all their jobs. Their ends are events as any other."""
        ...

    def give_up_all(self) -> None:
        """End every worker and forget it with its jobs, which a rescuer decides about. Waits for none of them."""
        ...

    def kill_all(self) -> None:
        """As `give_up_all`, at the end of the supervisor: waits for their ends, for a moment."""
        ...

    def close(self) -> None:
        """After `kill_all`: end what else it has started."""
        ...
