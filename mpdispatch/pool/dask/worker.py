"""One worker process of a cluster, as the supervisor sees it. Runs in the supervisor.

It holds at most one job. Its fields are those of `pool.protocol.Worker`; what they are for, `WorkerProcess` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mpdispatch.clock import Clock
from mpdispatch.host.worker_record import WorkerRecord
from mpdispatch.model import ClaimedJob
from mpdispatch.pool.assigned import AssignedJobs, Assignment, WorkerState
from mpdispatch.pool.dask.cluster import Cluster
from mpdispatch.pool.exec import ExitStatus
from mpdispatch.pool.frames import Attach, encode
from mpdispatch.pool.job_frames import encode_jobs
from mpdispatch.pool.process import CONTROL_TIMEOUT


class LeftCluster(ExitStatus):
    """The end of a worker whose exit status nobody tells us."""

    __slots__ = ()

    def __str__(self) -> str:
        return "left the cluster"


LEFT = LeftCluster(None, None)


@dataclass(slots=True, eq=False)
class DaskWorker(AssignedJobs):
    """Used by the loop's thread only."""

    cluster: Cluster
    clock: Clock
    address: str
    number: int
    """Names it in the notices of the cluster; unique in this pool."""
    token: str
    boot_frame: bytes
    started_boot_us: int
    on_kill: Callable[[DaskWorker], None]
    state: WorkerState = WorkerState.BOOTING
    pid: int = 0
    """On its own host; 0: it has not imported the app yet."""
    process: str = ""
    shares_app: bool = False
    is_late: bool = False
    killed_because: str | None = None
    stale_since_us: int = 0
    leaving_since_us: int = 0
    record: WorkerRecord | None = None
    attach_frame: bytes = b""
    exit_status: ExitStatus | None = None
    is_ending: bool = False
    """Whether its process was asked to end; then its end is awaited."""
    is_stale: bool = field(default=False, init=False)
    channel_fault: str | None = field(default=None, init=False)
    _unsent: list[tuple[ClaimedJob, str | None]] = field(default_factory=list)

    def attach(self, record: WorkerRecord) -> None:
        """Set its record of the start journal, into which we write its starts ourselves."""
        self.record = record

    def send_attach(self, frame: Attach) -> None:
        """How to behave; this goes with each job."""
        self.attach_frame = encode(frame)

    def assign(self, jobs: Sequence[ClaimedJob], estimate_us: int, reference: str | None = None) -> None:
        self._unsent += [(job, reference) for job in jobs]
        self.hold(jobs, estimate_us)

    def flush(self) -> list[ClaimedJob]:
        unsent, self._unsent = self._unsent, []
        if not unsent:
            return []
        assert self.record is not None  # only then it is ready
        (job, _), now_us = unsent[0], self.clock.now().boot_us
        # Before it is sent, because nobody here is told when it begins before it has begun.
        self.record.write(job.id, job.starts, now_us)
        self.cluster.run(
            self.number,
            self.address,
            f"mpdispatch-{self.token}-{job.id}-{job.starts}",
            self.process,
            self.token,
            self.boot_frame,
            self.attach_frame,
            encode_jobs(unsent[:1]),
        )
        more = self.take_last(len(unsent) - 1)
        self.jobs_sent -= len(more)
        return more

    def recall(self) -> list[ClaimedJob]:
        return []  # it holds one job, which may run

    def began(self, job_id: int, starts: int) -> None:
        """It said that this start has begun."""
        held = self.find(job_id, starts)
        if held is not None and held.started_us is None:
            held.started_us = self.clock.now().boot_us

    def started_us(self, held: Assignment) -> int | None:
        return held.started_us

    def has_unread(self) -> bool:
        return False

    def interrupt(self, held: Assignment, kind: int) -> None:
        is_timeout = kind == CONTROL_TIMEOUT
        self.cluster.interrupt(self.address, self.token, held.job.id, held.job.starts, is_timeout=is_timeout)

    def retire(self) -> None:
        """Let its process be replaced once it has done its job."""
        if self.state is WorkerState.READY:
            self.state = WorkerState.RETIRING

    def kill(self) -> None:
        self.on_kill(self)
