"""One worker process as the supervisor sees it: its channel, its end. Runs in the supervisor.

The first of its assigned jobs may be running. The others wait in the socket's buffer or in the worker, in order, and can
be recalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mpdispatch.clock import sleep
from mpdispatch.host.journal_layout import Control
from mpdispatch.host.kill import NONE_LEFT, DeadWorker, kill_session_leftovers, kill_trees
from mpdispatch.host.processes import start_at
from mpdispatch.host.worker_record import WorkerRecord
from mpdispatch.model import ClaimedJob
from mpdispatch.pool.assigned import AssignedJobs, Assignment, WorkerState
from mpdispatch.pool.channel import ChannelBroken
from mpdispatch.pool.exec import ExitStatus, Launched
from mpdispatch.pool.frames import Attach, FromWorker, Stop, encode
from mpdispatch.pool.job_channel import JobSender
from mpdispatch.pool.job_frames import JobToSend
from mpdispatch.pool.replies import ReplyReader

CONTROL_TIMEOUT, CONTROL_CANCEL = 1, 2
_STOP = encode(Stop())


@dataclass(slots=True, eq=False)
class WorkerProcess(AssignedJobs):
    """A worker process and all that the supervisor holds of it. Used by the loop's thread only."""

    launched: Launched
    tag: str
    """The value of its environment variable, by which processes that it leaves behind are found."""
    started_boot_us: int
    shares_app: bool = False
    """Whether it was forked from a process that had imported the app."""
    state: WorkerState = WorkerState.BOOTING
    is_late: bool = False
    """Whether its slow import was reported."""
    killed_because: str | None = None
    """Why it was killed before it was ready; None: it was not."""
    leaves_children: bool = False
    """Whether processes that its jobs leave may outlive them and the worker."""
    has_booted: bool = False
    """Whether it has imported the app."""
    booted_boot_us: int = 0
    record: WorkerRecord | None = None
    _unsent: list[JobToSend] = field(default_factory=list)
    stale_since_us: int = 0
    """When it was first seen with no assigned job and with recalled jobs to discard."""
    leaving_since_us: int = 0
    """When it was first seen retiring and without a job."""
    owes_stop: bool = False
    """Whether a Stop is still to be sent, because its buffer was full."""
    is_broken: str | None = None
    """Why its channel can no longer be trusted; None: it can."""
    exit_status: ExitStatus | None = None
    spared: range | None = None
    """What `left` was when it was killed."""
    sender: JobSender = field(init=False)
    replies: ReplyReader = field(init=False)

    def __post_init__(self) -> None:
        self.sender = JobSender(self.launched.channel, self.launched.permits)
        self.replies = ReplyReader(self.launched.channel)

    @property
    def pid(self) -> int:
        return self.launched.process.pid

    @property
    def is_stale(self) -> bool:
        """Whether it gets no jobs until it has discarded those that were recalled."""
        return self.sender.is_stale

    @property
    def channel_fault(self) -> str | None:
        """Why nothing can be sent to it or read from it any more; None: it can."""
        return self.is_broken or self.sender.is_broken

    def signal(self, number: int) -> None:
        """Send a signal to the worker, unless it has ended. The pid is its own, as long as we have not reaped it."""
        if self.exit_status is None:
            self.launched.signal(number)

    # -- giving and taking jobs ---------------------------------------------------------------------

    def assign(self, jobs: Sequence[ClaimedJob], estimate_us: int, reference: str | None = None) -> None:
        """Assign jobs of one handler, each with this estimated run time. `flush` sends them."""
        self._unsent += [(job, reference) for job in jobs]
        self.hold(jobs, estimate_us)

    def flush(self) -> list[ClaimedJob]:
        """Send the newly assigned jobs. Gives those that could not be sent, because its buffer is full or it is gone."""
        unsent, self._unsent = self._unsent, []
        sent = self.sender.send(unsent)
        if self.sender.is_broken is not None:
            self.kill()  # Its messages so far are still read, and count.
        if sent == len(unsent):
            return []
        left = self.take_last(len(unsent) - sent)
        self.jobs_sent -= len(left)
        return left

    def send(self, frame: bytes) -> None:
        """Send a frame that is no job. A worker that cannot take it is killed."""
        try:
            if not self.launched.channel.send(frame, wait=False):
                self.kill()
        except ChannelBroken:
            self.kill()

    def recall(self) -> list[ClaimedJob]:
        """Take back the jobs that it has not begun, oldest first. Its running job goes on."""
        if not self.assigned:
            return []
        try:
            count = self.sender.recall(len(self.assigned))
        except ChannelBroken as error:
            self.is_broken = str(error)
            self.kill()
            return []
        # A worker records the start after it has taken the permit. So a recorded job has no permit, unless one was forged.
        if count > len(self.assigned) or (count and self.had_started(self.assigned[-count])):
            self.is_broken = f"it holds {count} permits or more for {len(self.assigned)} jobs"
            self.kill()
            return []
        return self.take_last(count)

    def discarded(self, count: int) -> None:
        """The worker has discarded this many recalled jobs."""
        try:
            self.sender.discarded(count)
        except ChannelBroken as error:
            self.is_broken = str(error)
        self.stale_since_us = 0

    def started_us(self, held: Assignment) -> int | None:
        """Boottime at which this job's handler was called; None: there is no sign that it was."""
        if held.started_us is None and self.record is not None:
            mark = self.record.last()
            if mark is not None and mark[:2] == (held.job.id, held.job.starts):
                held.started_us = mark.started_boot_us
        return held.started_us

    def had_started(self, held: Assignment) -> bool:
        """Whether the handler of this job was ever called. Without evidence the answer is yes."""
        return self.record is None or self.record.has(held.job.id, held.job.starts)

    # -- messages -------------------------------------------------------------------------------------

    def attach(self, record: WorkerRecord) -> None:
        """Set its record of the start journal. An Attach frame tells the worker."""
        self.record, self.replies.reply_ring = record, record.reply_ring()

    def send_attach(self, frame: Attach) -> None:
        """Tell the worker of its record, and how to behave."""
        self.leaves_children = not frame.kills_children
        self.send(encode(frame))

    def messages(self, *, in_channel: bool) -> list[FromWorker]:
        """All its unread messages, in order; without `in_channel` only those that can be read without a system call.

        Junk breaks the channel: `is_broken` is set, and nothing more is read.
        """
        found: list[FromWorker] = []
        if self.is_broken is not None:
            return found
        try:
            self.replies.read(found, in_channel=in_channel)
        except Exception as error:  # noqa: BLE001 - a handler may have written anything there
            self.is_broken = f"it sent junk ({error})"
        return found

    def last_words(self) -> list[FromWorker]:
        """As `messages`, after its end. Long messages count even if it could not write their notices."""
        return self.messages(in_channel=True) + self.replies.left_over()

    def has_unread(self) -> bool:
        """Whether it has unread messages."""
        return not self.replies.has_heard_all()

    # -- ending it ------------------------------------------------------------------------------------

    def interrupt(self, held: Assignment, kind: int) -> None:
        """Raise JobTimeout or JobCancelled in the handler, if that very job is still running."""
        if self.record is not None:
            self.record.ask(Control(held.job.id, held.job.starts, kind))
            self.signal(signal.SIGUSR1)

    def retire(self) -> None:
        """Let it end once it has done its assigned jobs."""
        if self.state is WorkerState.READY:
            self.state, self.owes_stop = WorkerState.RETIRING, True
            self.stop_if_owed()

    def stop_if_owed(self) -> None:
        """Send Stop as soon as its buffer has room. It is not killed for a full buffer, because it may run a job."""
        if self.owes_stop:
            try:
                self.owes_stop = not self.launched.channel.send(_STOP, wait=False)
            except ChannelBroken:
                self.kill()

    def kill(self) -> None:
        """Send SIGKILL to it and to all its descendants. Its pidfd shows its end, as any other."""
        kill_workers([self])

    def left(self) -> range:
        """The start times of the processes that its earlier jobs may leave running: after the app was imported, and before
        the job that it runs now began."""
        if self.spared is not None:
            return self.spared
        if not self.leaves_children or not self.has_booted:
            return NONE_LEFT
        starts = [at for held in self.assigned if (at := self.started_us(held)) is not None]
        return range(start_at(self.booted_boot_us), start_at(min(starts)) if starts else sys.maxsize)

    def reap(self) -> ExitStatus | None:
        """How it ended; None: it has not. `end_leftovers` kills what it left running."""
        if self.exit_status is None:
            self.exit_status = self.launched.reap()
        return self.exit_status

    def close(self) -> None:
        self.launched.close_channels()
        self.launched.close_pidfd()


def kill_workers(workers: Iterable[WorkerProcess]) -> None:
    """SIGKILL these workers and all their descendants. Lists the processes of this machine once for all."""
    doomed = [worker for worker in workers if worker.state is not WorkerState.KILLED]
    if not doomed:
        return
    for worker in doomed:
        worker.spared, worker.state = worker.left(), WorkerState.KILLED
    try:
        kill_trees([(worker.launched.process, worker.left()) for worker in doomed])
    except (OSError, ImportError):
        # There is no descriptor left to look for what they started: kill themselves, and their groups.
        for worker in doomed:
            if worker.exit_status is None and not worker.leaves_children:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(worker.pid, signal.SIGKILL)
            worker.signal(signal.SIGKILL)


def end_leftovers(workers: Sequence[WorkerProcess]) -> None:
    """Kill the processes that these ended workers left running, unless they may. Lists all processes once."""
    dead = [DeadWorker(worker.launched.process, f"{worker.tag}\0", worker.left()) for worker in workers]
    with contextlib.suppress(OSError):  # no descriptor left to look for them
        kill_session_leftovers(dead)


def wait_for_ends(workers: Sequence[WorkerProcess], timeout_s: float) -> list[WorkerProcess]:
    """Block until all have ended, at most this long (not on the loop); gives those that have not."""
    deadline = time.monotonic() + timeout_s
    while (alive := [worker for worker in workers if worker.reap() is None]) and time.monotonic() < deadline:
        sleep(0.002)
    end_leftovers([worker for worker in workers if worker not in alive])
    return alive
