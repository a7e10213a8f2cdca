"""The pool of a supervisor on a dask cluster: which of its worker processes we use, and what comes of them.

Runs in the supervisor's loop. Each dask worker process is one worker: it imports the app when it is first wanted, and
then runs one job at a time.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from errno import EAGAIN

import msgspec

from mpdispatch.clock import SECOND_US, Clock
from mpdispatch.host.start_journal import Journal
from mpdispatch.model import Answer, Completed, Run
from mpdispatch.pool import frames
from mpdispatch.pool.assigned import Assignment, WorkerState
from mpdispatch.pool.dask import messages
from mpdispatch.pool.dask.cluster import Cluster
from mpdispatch.pool.dask.notices import Answered, Disconnected, Joined, Left, Notice, Reported, Revoked
from mpdispatch.pool.dask.worker import LEFT, DaskWorker
from mpdispatch.pool.events import BootFault, Enqueued, Event, Gone, Progressed, Ready, Returned, Settled
from mpdispatch.pool.outcomes import from_exit, from_reply
from mpdispatch.pool.protocol import Worker
from mpdispatch.pool.records import Records
from mpdispatch.pool.selector import Selected, Selector
from mpdispatch.version import __version__

_BUSY_US, _DEAF_US = SECOND_US, 10 * SECOND_US
"""How long a dask worker is not asked again that is busy, or could not import the app; and one that began no job."""
_LAST_S = 2.0


class DaskPool:
    """The workers of a cluster that this supervisor uses. One thread."""

    def __init__(
        self,
        cluster: Cluster,
        boot: frames.Boot,
        token: str,
        *,
        selector: Selector,
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        """`cluster` is connected. `token`: starts of this supervisor are told by it from those of others."""
        self._cluster, self._selector, self._clock, self._log = cluster, selector, clock, log
        self._boot, self._token = frames.encode(boot), token
        self._numbers = itertools.count(1)
        self._records = Records()
        self._addresses: dict[str, int] = {}
        """Of the dask workers that are there: from when each may be used (boottime µs)."""
        self._doomed: set[str] = set()
        """Addresses whose processes are asked to end."""
        self._is_warned = False
        self.workers: list[DaskWorker] = []
        self.helper_pids: set[int] = set()
        self.may_prefetch = False
        self.stale, self.may_answer_silently, self.has_app = 0, False, False
        selector.register(cluster, self, urgent=True)
        self._look()

    # -- starting -------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        now_us = self._clock.now().boot_us
        return sum(each not in self._doomed and from_us <= now_us for each, from_us in self._addresses.items())

    @property
    def is_warming(self) -> bool:
        if self.workers or self.capacity:
            return False
        if not (self._is_warned or self._addresses):
            self._is_warned = True
            self._log.warning("the dask cluster has no worker; waiting for one")
        return True

    def use(self, start_method: str) -> None:
        pass  # the cluster starts its processes

    def warm_up(self) -> None:
        pass

    def renew(self, token: str) -> None:
        self._token = token

    def open(self, journal: Journal, attach: Callable[[int], frames.Attach]) -> None:
        self._records.open(journal, attach)
        for worker in self.workers:
            self._records.give(worker)

    def spawn(self) -> DaskWorker:
        now_us = self._clock.now().boot_us
        taken = {worker.address for worker in self.workers} | self._doomed
        free = [each for each, from_us in self._addresses.items() if each not in taken and from_us <= now_us]
        if not free:
            raise OSError(EAGAIN, "the dask cluster has no free worker")
        worker = DaskWorker(
            cluster=self._cluster,
            clock=self._clock,
            address=free[0],
            number=next(self._numbers),
            token=self._token,
            boot_frame=self._boot,
            started_boot_us=now_us,
            on_kill=self._kill,
        )
        self.workers.append(worker)
        key = f"mpdispatch-{self._token}-boot-{worker.number}"
        self._cluster.boot(worker.number, worker.address, key, __version__, self._boot)
        self._records.give(worker)
        return worker

    @property
    def no_room(self) -> OSError | None:
        return self._records.no_room

    def replace_workers_of_old_journal(self) -> None:
        """After the start journal was made again: nothing but we writes into it. Take records of the new file."""
        for worker in list(self.workers):
            if not worker.assigned and self._records.is_outdated(worker):
                self._drop(worker)

    # -- looking --------------------------------------------------------------------------------------

    @property
    def ready(self) -> list[DaskWorker]:
        return [w for w in self.workers if w.state is WorkerState.READY and w.record is not None]

    @property
    def booting(self) -> int:
        return sum(w.state is WorkerState.BOOTING for w in self.workers)

    @property
    def child_pids(self) -> set[int]:
        return set(self.helper_pids)

    def assignments(self) -> Iterator[tuple[DaskWorker, Assignment]]:
        return ((worker, held) for worker in self.workers for held in worker.assigned)

    def _look(self) -> None:
        """Take the notices while no worker of ours can have any."""
        for notice in self._cluster.take():
            for _ in self._noticed(notice):
                pass

    # -- events ---------------------------------------------------------------------------------------

    def receive(self, events: Selected) -> Iterator[Event]:
        if any(key.data is self for key, _ in events):
            for notice in self._cluster.take():
                yield from self._noticed(notice)
        for worker in list(self.workers):
            if worker.state is WorkerState.RETIRING and not worker.assigned:
                self._end(worker)

    def _noticed(self, notice: Notice) -> Iterator[Event]:
        match notice:
            case Joined(address):
                self._addresses[address] = 0
                self._doomed.discard(address)
            case Left(address, why):
                self._addresses.pop(address, None)
                self._doomed.discard(address)
                yield from self._gone([each for each in self.workers if each.address == address], why)
            case Disconnected(why):
                self._log.error("the dask cluster is lost: %s; connecting again", why)
                self._addresses.clear()
                self._doomed.clear()
                yield from self._gone(list(self.workers), why)
            case Reported(frame):
                yield from self._reported(frame)
            case Answered() | Revoked():
                if (found := self._of_number(notice.number)) is not None:  # else it was given up
                    yield from self._heard(found, notice)

    def _gone(self, workers: list[DaskWorker], why: str) -> Iterator[Event]:
        for worker in workers:
            yield from self._ended(worker, why)

    def _heard(self, worker: DaskWorker, notice: Answered | Revoked) -> Iterator[Event]:
        if isinstance(notice, Revoked):
            yield from self._revoked(worker, is_certain=notice.is_certain)
        elif not worker.process:
            yield from self._booted(worker, notice)
        else:
            yield from self._answered(worker, notice)

    def _of_number(self, number: int) -> DaskWorker | None:
        return next((worker for worker in self.workers if worker.number == number), None)

    def _booted(self, worker: DaskWorker, notice: Answered) -> Iterator[Event]:
        if notice.fault:
            yield self._no_boot(worker, worker.killed_because or notice.fault)
            return
        process, message = messages.decode_booted(notice.answer)
        if isinstance(message, frames.WorkerReady):
            worker.process, worker.pid = process, message.pid
            if worker.state is WorkerState.BOOTING:
                worker.state = WorkerState.READY
            yield Ready(worker, message.app)
        elif isinstance(message, frames.BootFailed):
            yield self._no_boot(worker, message.reason, message.traceback)

    def _no_boot(self, worker: DaskWorker, reason: str, traceback: str = "") -> BootFault:
        self._drop(worker, pause_us=_BUSY_US)
        return BootFault(f"{reason} (on the dask worker {worker.address})", traceback)

    def _answered(self, worker: DaskWorker, notice: Answered) -> Iterator[Event]:
        if notice.fault:
            worker.channel_fault = notice.fault
            self._kill(worker)  # its task failed outside of the handler; what it has done, nobody knows
            return
        if notice.answer == messages.NOT_BEGUN:
            yield from self._unbegun(worker, pause_us=_BUSY_US)
            return
        try:
            found = messages.decode_lines(notice.answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            worker.channel_fault = f"it sent junk ({error})"
            self._kill(worker)
            return
        for message in found:
            yield from self._understood(worker, message)

    def _reported(self, frame: bytes) -> Iterator[Event]:
        try:
            found = messages.decode_lines(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # anybody on the cluster may publish there
        for message in found:
            if isinstance(message, frames.EnqueuedEvents):
                yield Enqueued(bytes(message.events), message.count)
            elif isinstance(message, messages.Began | frames.ProgressReport | frames.Wrote):
                for worker in self.workers:
                    if worker.find(message.id, message.starts) is not None:
                        yield from self._understood(worker, message)

    def _understood(self, worker: DaskWorker, message: messages.FromCluster) -> Iterator[Event]:
        match message:
            case messages.Began():
                worker.began(message.id, message.starts)
            case frames.Done():
                done = Completed(run=message.run, result=bytes(message.result))
                yield from self._settled(worker, message.id, message.starts, done)
            case frames.Ended():
                yield from self._settled(worker, message.id, message.starts, message.outcome)
            case frames.ProgressReport():
                yield Progressed(message.id, message.starts, bytes(message.data))
            case frames.Wrote():
                yield message
            case frames.NeedsReplacement():
                worker.retire()

    def _settled(self, worker: DaskWorker, job_id: int, starts: int, answer: Answer) -> Iterator[Event]:
        if (held := worker.answered(job_id, starts)) is not None:
            yield Settled(worker, held.job, from_reply(answer, held.stop_reason, held.job.timeout_us))

    # -- ending ---------------------------------------------------------------------------------------

    def dismiss(self, *, wait_s: float) -> None:
        pass  # its workers live on

    def kill(self, workers: Iterable[Worker]) -> None:
        for worker in workers:
            worker.kill()

    def _kill(self, worker: DaskWorker) -> None:
        """End it, unless its job has not begun: then keep that from beginning, which costs nobody else anything."""
        if worker.state is WorkerState.KILLED:
            return
        worker.state = WorkerState.KILLED
        head = worker.assigned[0] if worker.assigned else None
        if head is not None and head.started_us is None and worker.channel_fault is None:
            self._cluster.revoke(worker.number, worker.address, worker.token, head.job.id, head.job.starts)
        else:
            self._end(worker)

    def _end(self, worker: DaskWorker) -> None:
        worker.state = WorkerState.KILLED
        if worker.address not in self._doomed:
            self._doomed.add(worker.address)
            self._cluster.end(worker.address)

    def _revoked(self, worker: DaskWorker, *, is_certain: bool) -> Iterator[Event]:
        if is_certain:
            yield from self._unbegun(worker, pause_us=_DEAF_US)
        elif worker.assigned:
            self._end(worker)
        else:
            self._drop(worker)  # its answer came first

    def _unbegun(self, worker: DaskWorker, *, pause_us: int) -> Iterator[Event]:
        """Its job never began and never will: it goes to another worker, or ends as it was to end."""
        for held in list(worker.assigned):
            worker.drop(held)
            yield Returned([held.job])
        worker.state = WorkerState.RETIRING
        self._drop(worker, pause_us=pause_us)
        yield Gone(worker)

    def _ended(self, worker: DaskWorker, why: str) -> Iterator[Event]:
        worker.exit_status = LEFT
        now = self._clock.now()
        for held in list(worker.assigned):
            worker.take_out(held)
            lasted = None if held.started_us is None else max(0, now.boot_us - held.started_us)
            run = Run(started_us=now.wall_us - (lasted or 0), duration_us=lasted, worker_pid=worker.pid)
            fault = worker.channel_fault or (why if why != "left the cluster" else None)
            yield Settled(worker, held.job, from_exit(LEFT, run, held.stop_reason, held.job.timeout_us, fault))
        self._forget(worker)
        if worker.process:
            yield Gone(worker)
        else:
            reason = worker.killed_because or f"the dask worker {worker.address} {why} while importing the app"
            yield BootFault(reason, "")

    def _drop(self, worker: DaskWorker, *, pause_us: int = 0) -> None:
        """Use this dask worker no more, for a while; its process lives on."""
        if worker.address in self._addresses:
            self._addresses[worker.address] = self._clock.now().boot_us + pause_us
        self._forget(worker)

    def _forget(self, worker: DaskWorker) -> None:
        self.workers.remove(worker)
        if self._records.keep_of(worker):
            self.free_records()

    def free_records(self) -> None:
        if self._records.free():
            for worker in self.workers:
                self._records.give(worker)

    def detach(self) -> None:
        self._records.detach()

    def give_up_all(self) -> None:
        self.detach()
        for worker in self.workers:
            for held in worker.assigned:
                if held.started_us is None:
                    self._cluster.revoke(
                        worker.number, worker.address, worker.token, held.job.id, held.job.starts
                    )
                else:
                    self._end(worker)
            worker.drop_all()
            worker.record = None
        self.workers = []

    def kill_all(self) -> None:
        self.give_up_all()
        until_us = self._clock.now().boot_us + round(_LAST_S * SECOND_US)
        while self._doomed and (left_us := until_us - self._clock.now().boot_us) > 0:
            self._look()
            self._selector.select(min(0.05, left_us / SECOND_US))

    def close(self) -> None:
        self._selector.unregister(self._cluster)
        self._cluster.close()


def open_dask_pool(
    pool: str, boot: frames.Boot, token: str, *, selector: Selector, clock: Clock, log: logging.Logger
) -> DaskPool:
    """Connect to the cluster. Raises PoolUnavailable."""
    cluster = Cluster(pool, log)
    cluster.connect()
    return DaskPool(cluster, boot, token, selector=selector, clock=clock, log=log)
