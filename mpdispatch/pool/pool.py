"""The workers of one supervisor: starts them, reads their messages, notices their end. Runs in the supervisor.

Nothing here blocks or decides about a job: `receive` gives events, and the supervisor decides.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Set

import msgspec

from mpdispatch.clock import Clock
from mpdispatch.host.linux import have_recall
from mpdispatch.host.start_journal import Journal
from mpdispatch.model import ClaimedJob, Completed, Run
from mpdispatch.pool import frames
from mpdispatch.pool.assigned import Assignment, WorkerState
from mpdispatch.pool.events import BootFault, Enqueued, Event, Gone, Progressed, Ready, Returned, Settled
from mpdispatch.pool.exec import ExitStatus
from mpdispatch.pool.outcomes import from_exit, from_reply
from mpdispatch.pool.process import (
    WorkerProcess,
    end_leftovers,
    kill_workers,
    wait_for_ends,
)
from mpdispatch.pool.protocol import Worker
from mpdispatch.pool.records import Records
from mpdispatch.pool.selector import Selected, Selector
from mpdispatch.pool.spawner import Spawner


class Touch(msgspec.Struct, frozen=True):
    """The data of a selector key: a worker's channel, or its end."""

    worker: WorkerProcess
    is_end: bool


class ProcessPool:
    """The pool of a supervisor on this machine: its workers are child processes. One thread."""

    def __init__(self, boot: frames.Boot, *, spawner: Spawner, selector: Selector, clock: Clock) -> None:
        self._app = boot.app
        self._boot = frames.encode(boot)
        self._selector = selector
        self._clock = clock
        self._records = Records()
        self.spawner = spawner
        self._boot_errors: dict[int, frames.BootFailed] = {}
        self._given_up: list[WorkerProcess] = []
        """Killed, forgotten, and not seen to have ended."""
        self.workers: list[WorkerProcess] = []
        self.capacity = sys.maxsize
        """Most workers that it could have now."""
        self.may_prefetch = have_recall
        """Whether a worker may hold more than the job that it runs."""
        self.helper_pids: set[int] = set()
        """Pids of our other child processes."""

    # -- starting -------------------------------------------------------------------------------------

    def open(self, journal: Journal, attach: Callable[[int], frames.Attach]) -> None:
        """Call this when the store is open: workers get records and may get jobs. `attach` makes the frame of a record."""
        self._records.open(journal, attach)
        for worker in self.workers:
            self._records.give(worker)

    def use(self, start_method: str) -> None:
        """Start workers in this way from now on, see `Config.start_method`."""
        self.spawner.use(start_method)

    def warm_up(self) -> None:
        """Prepare for the first `spawn`, without a wait."""
        self.spawner.warm_up()

    @property
    def is_warming(self) -> bool:
        """Whether a worker started in a moment would be ready sooner than one started now."""
        return self.spawner.is_warming

    @property
    def has_app(self) -> bool:
        """Whether a worker started now shares the memory of an imported app."""
        return self.spawner.has_app

    def renew(self, token: str) -> None:
        """Mark processes that are started from now on with this token."""
        self.spawner.renew(token)

    def spawn(self) -> WorkerProcess:
        """Start one worker. Raises OSError if the system has no free process or descriptor."""
        shares_app = self.spawner.has_app
        launched, tag = self.spawner.spawn()
        worker = WorkerProcess(
            launched=launched,
            tag=tag,
            started_boot_us=self._clock.now().boot_us,
            shares_app=shares_app and self.spawner.has_app,  # False if the fork failed and exec was used
        )
        self.workers.append(worker)
        self._selector.register(worker.launched.channel, Touch(worker, False), urgent=False)
        if worker.launched.pidfd is not None:
            self._selector.register(worker.launched.pidfd, Touch(worker, True), urgent=True)
        worker.send(self._boot)
        self._records.give(worker)
        return worker

    @property
    def no_room(self) -> OSError | None:
        """The error of the last attempt to get a record, if the disk was full."""
        return self._records.no_room

    def replace_workers_of_old_journal(self) -> None:
        """After the start journal was made again: let workers that write into the old file end after their jobs.

        A worker that runs nothing and has opened neither file yet would open the new one. It is killed.
        """
        for worker in self.workers:
            if (record := worker.record) is None or not self._records.is_outdated(worker):
                continue
            if worker.state is WorkerState.READY and (worker.assigned or record.is_signed()):
                worker.retire()
            elif worker.state in (WorkerState.READY, WorkerState.BOOTING):
                worker.kill()

    # -- looking --------------------------------------------------------------------------------------

    @property
    def ready(self) -> list[WorkerProcess]:
        """Workers that may get jobs."""
        return [
            w
            for w in self.workers
            if w.state is WorkerState.READY and w.record is not None and not w.sender.is_stale
        ]

    @property
    def stale(self) -> int:
        """How many workers get no jobs until they have discarded those that were recalled."""
        return sum(w.state is WorkerState.READY and w.sender.is_stale for w in self.workers)

    @property
    def child_pids(self) -> set[int]:
        """Pids of all processes this pool has started and not seen end."""
        pids = {worker.pid for worker in (*self.workers, *self._given_up)} | self.helper_pids
        if self.spawner.zygote_pid is not None:
            pids.add(self.spawner.zygote_pid)
        return pids

    @property
    def booting(self) -> int:
        return sum(w.state is WorkerState.BOOTING for w in self.workers)

    @property
    def may_answer_silently(self) -> bool:
        """Whether a worker may answer without a wake-up. It sends one only when it has no more jobs."""
        return any(len(worker.assigned) > 1 for worker in self.workers)

    def assignments(self) -> Iterator[tuple[WorkerProcess, Assignment]]:
        return ((worker, held) for worker in self.workers for held in worker.assigned)

    # -- events ---------------------------------------------------------------------------------------

    def receive(self, events: Selected) -> Iterator[Event]:
        """Events from the messages of workers, then from the ends of workers: answers come before ends.

        The replies of busy workers are read even if nothing woke us, because that costs no system call.
        """
        messaged, ended = set[WorkerProcess](), set[WorkerProcess]()
        for key, _ in events:
            if isinstance(key.data, Touch):
                (ended if key.data.is_end else messaged).add(key.data.worker)
            elif key.data is self.spawner:
                self.spawner.read()
        for worker in list(self.workers):
            if worker in messaged:
                yield from self._events_of(worker, worker.messages(in_channel=True))
            elif worker.assigned:
                yield from self._events_of(worker, worker.messages(in_channel=False))
            if worker.owes_stop:
                worker.stop_if_owed()
        yield from self._reaped(ended)
        if self._given_up:
            self._bury()

    def _reaped(self, ended: Set[WorkerProcess]) -> Iterator[Event]:
        # Without pidfds, only a wait call shows an end.
        gone = [w for w in self.workers if (w in ended or w.launched.pidfd is None) and w.reap() is not None]
        if gone:
            end_leftovers(gone)
            for worker in gone:
                yield from self._ended(worker)

    def _events_of(self, worker: WorkerProcess, messages: Iterable[frames.FromWorker]) -> Iterator[Event]:
        was_broken = worker.is_broken
        for message in messages:
            # The first and shortest path, because nearly all messages are of this kind.
            if (
                type(message) is frames.Done
                and (held := worker.answered(message.id, message.starts)) is not None
            ):
                answer = Completed(run=message.run, result=bytes(message.result))
                if held.stop_reason is None:
                    yield Settled(worker, held.job, answer)
                else:
                    yield Settled(worker, held.job, from_reply(answer, held.stop_reason, held.job.timeout_us))
                continue
            yield from self._understood(worker, message)
            # Messages before the broken one count.
            if worker.is_broken is not was_broken:
                break
        if worker.is_broken is not None and worker.exit_status is None:
            worker.kill()

    def _understood(self, worker: WorkerProcess, message: frames.FromWorker) -> Iterator[Event]:
        match message:
            case frames.Done() | frames.Spill():
                # A Done of an assigned job does not come here, and neither does a Spill with its frame.
                worker.is_broken = f"it sent {message}, which it must not send now"
            case frames.Ended():
                held = worker.answered(message.id, message.starts)
                if held is None:
                    worker.is_broken = f"it answered for job {message.id}, which it does not hold"
                    return
                yield Settled(
                    worker, held.job, from_reply(message.outcome, held.stop_reason, held.job.timeout_us)
                )
            case frames.ProgressReport() | frames.Wrote():
                yield from self._reported(worker, message)
            case frames.EnqueuedEvents():
                yield Enqueued(bytes(message.events), message.count)
            case frames.WorkerReady():
                worker.has_booted, worker.booted_boot_us = True, self._clock.now().boot_us
                if worker.state is WorkerState.BOOTING:
                    worker.state = WorkerState.READY
                if worker.shares_app:
                    self.spawner.fork_worked()
                self.spawner.preload(self._app, message.hazards)
                yield Ready(worker, message.app)
            case frames.BootFailed():
                self._boot_errors[worker.pid] = message
            case frames.Discarded():
                worker.discarded(message.count)
            case frames.NeedsReplacement():
                yield Returned(worker.recall())
                worker.retire()

    def _reported(
        self, worker: WorkerProcess, message: frames.ProgressReport | frames.Wrote
    ) -> Iterator[Event]:
        if worker.find(message.id, message.starts) is None:
            return  # the job has ended: its outcome came first
        if isinstance(message, frames.Wrote):
            yield message
        else:
            yield Progressed(message.id, message.starts, bytes(message.data))

    def _ended(self, worker: WorkerProcess) -> Iterator[Event]:
        status = worker.exit_status
        assert status is not None
        # Its last messages still count. Jobs that it never read were never started.
        yield from self._events_of(worker, worker.last_words())
        recalled, unread = worker.recall(), list[ClaimedJob]()
        has_begun = False
        for held in list(worker.assigned):
            if worker.had_started(held):
                worker.take_out(held)
                has_begun = True
                run = self._run_of(worker, held)
                yield Settled(
                    worker,
                    held.job,
                    from_exit(status, run, held.stop_reason, held.job.timeout_us, worker.is_broken),
                )
            else:
                worker.drop(held)
                unread.append(held.job)
        if unread or recalled:
            yield Returned(unread + recalled)  # in the order sent
        has_read = worker.record is not None and worker.record.is_signed()
        self._forget(worker)
        fault = self._boot_fault_of(worker, status)
        yield fault or Gone(worker, () if has_begun else (*unread, *recalled), has_read)

    def _boot_fault_of(self, worker: WorkerProcess, status: ExitStatus) -> BootFault | None:
        """Why it never became ready; None: it did."""
        if (failed := self._boot_errors.pop(worker.pid, None)) is None and worker.has_booted:
            return None
        if worker.shares_app and not worker.has_booted:
            self.spawner.fork_failed()
        if failed is not None:
            return BootFault(failed.reason, failed.traceback)
        return BootFault(worker.killed_because or f"its process {status} while importing the app", "")

    def _run_of(self, worker: WorkerProcess, held: Assignment) -> Run:
        now = self._clock.now()
        started = worker.started_us(held)
        lasted = None if started is None else max(0, now.boot_us - started)
        return Run(started_us=now.wall_us - (lasted or 0), duration_us=lasted, worker_pid=worker.pid)

    def _forget(self, worker: WorkerProcess) -> None:
        self._selector.unregister(worker.launched.channel)
        if worker.launched.pidfd is not None:
            self._selector.unregister(worker.launched.pidfd)
        worker.close()
        self.workers.remove(worker)
        if self._records.keep_of(worker):
            self.free_records()

    def free_records(self) -> None:
        """Free the records of dead workers whose last outcomes are on disk, for workers that wait for one."""
        if self._records.free():
            for worker in self.workers:
                self._records.give(worker)

    def detach(self) -> None:
        """The start journal is closed: no worker may use a record of it any more. After `give_up_all`."""
        self._records.detach()

    # -- ending ---------------------------------------------------------------------------------------

    def dismiss(self, *, wait_s: float) -> None:
        """Let idle workers end by themselves, so that they can flush what they hold back. Blocks at most `wait_s`."""
        idle = [worker for worker in self.workers if worker.state is WorkerState.READY and not worker.assigned]
        for worker in idle:
            worker.retire()
        wait_for_ends(idle, wait_s)

    def kill(self, workers: Iterable[Worker]) -> None:
        """SIGKILL these and all they started. Their ends are events as any other."""
        kill_workers(worker for worker in workers if isinstance(worker, WorkerProcess))

    def give_up_all(self) -> None:
        """SIGKILL every worker and forget it with its jobs, which a rescuer decides about. Waits for none of them.

        No record is handed out again until `open`, because the rescuer needs the records as these workers left them.
        """
        self.detach()
        kill_workers(self.workers)
        for worker in self.workers:
            worker.drop_all()
            self._selector.unregister(worker.launched.channel)
            worker.launched.close_channels()
        self._given_up += self.workers
        self.workers = []
        self._bury()

    def _bury(self) -> None:
        """Reap the given-up workers that have ended."""
        ended = [worker for worker in self._given_up if worker.reap() is not None]
        end_leftovers(ended)
        for worker in ended:
            self._let_go_of(worker)

    def _let_go_of(self, worker: WorkerProcess) -> None:
        self._given_up.remove(worker)
        if worker.launched.pidfd is not None:
            self._selector.unregister(worker.launched.pidfd)
        worker.launched.close_pidfd()

    def kill_all(self) -> None:
        """As `give_up_all`, at the end of the supervisor: waits for their ends, at most 2 s for all."""
        self.give_up_all()
        wait_for_ends(self._given_up, 2.0)
        self._bury()
        for worker in list(self._given_up):
            self._let_go_of(worker)

    def close(self) -> None:
        """After `kill_all`: end what else it has started."""
        self.spawner.close()
