"""Duty: take over the jobs of supervisors that died or lost their lease. Effects: signals, marks, store.

Leftover workers are killed *before* their jobs are requeued, so one job never runs twice at once on a host. The
kernel says who is dead: the lock of the mark file, the pid with its start time; the lease only where it cannot.

What its workers had answered counts, whether it had heard of it or not: the answer is decided as it would have done.
What was started and not answered is lost with it, what was not started goes back unspent.
"""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Iterable, Set
from pathlib import Path

from mpdispatch.clock import Clock
from mpdispatch.execution.rulebook import Rulebook
from mpdispatch.failpoints import failpoint
from mpdispatch.ids import boot_id, pid_namespace
from mpdispatch.model import (
    Cause,
    ClaimedJob,
    ErrorInfo,
    JobState,
    LeaseLost,
    Outcome,
    PeerSupervisor,
    Released,
    Run,
    Transition,
)
from mpdispatch.policy.decide import RetryRules, decide
from mpdispatch.policy.lease import PeerVerdict
from mpdispatch.pool.endings import of_answer
from mpdispatch.pool.evidence import Answered, Evidence, Start, read_evidence
from mpdispatch.pool.kill import is_running, kill_marked, kill_tree, sweep
from mpdispatch.pool.marks import MarkReader, marks_path
from mpdispatch.pool.peers import verdict_on
from mpdispatch.pool.repeated import Repeated
from mpdispatch.store.base import Ledger
from mpdispatch.supervisor.books import Books
from mpdispatch.supervisor.telling import Teller

__all__ = ["Rescuer"]

_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""There may be evidence, but this process has nothing left to open it with."""
_PATIENCE_S = 1.0
"""How long to wait for a killed leftover to be gone; past that the take-over waits for the next look."""


class Rescuer:
    """Looks at peers and takes over what they left."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        rulebook: Rulebook,
        books: Books,
        log: logging.Logger,
        teller: Teller | None = None,
        repeats: Repeated | None = None,
    ) -> None:
        self._ledger, self._clock, self._rulebook, self._log = ledger, clock, rulebook, log
        self._repeats = repeats or Repeated(log, clock)
        self._books, self._teller = books, teller

    def look(self, owner: int, given_up: Set[int]) -> tuple[list[PeerSupervisor], bool]:
        """Take over every dead peer; gives those that live, and whether any was taken over. Raises StoreError.

        `given_up`: registrations of our own that we left, with all their workers killed. Peers that cannot be seen for
        want of a descriptor are in neither.
        """
        living, took_over = list[PeerSupervisor](), False
        for peer in self._ledger.peers(owner):
            try:
                verdict = (
                    PeerVerdict.EXPIRED
                    if peer.id in given_up
                    else verdict_on(peer, self._ledger.side_dir, self._clock.now())
                )
                if verdict is PeerVerdict.ALIVE:
                    living.append(peer)
                else:
                    took_over |= self.take_over(peer, verdict)
            except OSError as error:
                # Nothing is concluded from what could not be seen: no descriptor left, mostly.
                self._repeats.say(
                    ("unseen", peer.id, error.errno),
                    logging.WARNING,
                    "cannot see whether supervisor %d lives: %s",
                    peer.id,
                    error,
                )
        return living, took_over

    def take_over(self, peer: PeerSupervisor, verdict: PeerVerdict) -> bool:
        """Kill what it left running, decide about its jobs, strike it off. False: not now, or not ours to do."""
        path = marks_path(self._ledger.side_dir, peer.id)
        evidence: Evidence | None = None
        try:
            reader = MarkReader(path)
        except OSError as error:
            if error.errno in _SHORT:
                raise
            reader = None  # No evidence: every job counts as started.
        if reader is not None:
            try:
                if reader.is_evidence and peer.boot_id == boot_id():
                    if not self._kill_leftovers(peer, reader):
                        self._repeats.say(
                            ("leftover", peer.id),
                            logging.WARNING,
                            "a leftover worker does not die; its jobs wait",
                            extra={"owner": peer.id},
                        )
                        return False
                    # Read again once its workers are gone: one may have begun or answered a job while we looked.
                    evidence = self._read(path)
            except FileNotFoundError:
                return False  # Another rescuer was quicker: it removes the file once it has taken all over.
            finally:
                reader.close()
        failpoint("rescue.before_take_over")
        jobs = self._ledger.jobs_of(peer.id)
        cancelled = set(self._ledger.cancel_requests(peer.id))
        loss = _loss(peer, verdict)
        transitions = [self._decided(job, evidence, cancelled, loss) for job in jobs]
        if not self._ledger.take_over(peer, transitions, now=self._clock.now()):
            return False
        _remove(path, self._log)
        if self._teller is not None:
            self._report(self._teller, zip(jobs, transitions, strict=True), cancelled)
        self._books.completed += sum(t.state is JobState.COMPLETED for t in transitions)
        self._books.failed += sum(t.state is JobState.FAILED for t in transitions)
        self._log.warning(
            "took over %d jobs of supervisor %d (pid %d, %s), %d of them started, %d of these lost",
            len(jobs),
            peer.id,
            peer.pid,
            verdict.value,
            sum(t.run is not None for t in transitions),
            sum(t.cause is Cause.LEASE_LOST for t in transitions),
        )
        return True

    def _report(
        self,
        teller: Teller,
        written: Iterable[tuple[ClaimedJob, Transition]],
        cancelled: set[tuple[int, int]],
    ) -> None:
        for job, transition in written:
            # One that was to run again is cancelled, if somebody had asked for that.
            if transition.state.is_terminal or (job.id, job.starts) not in cancelled:
                teller.rescued(job, transition)
        teller.flush()

    def _kill_leftovers(self, peer: PeerSupervisor, reader: MarkReader) -> bool:
        """SIGKILL every worker it left, and what those started; True when all are gone."""
        if peer.pid_namespace != pid_namespace():
            return True  # Not ours to see; the kernel killed them with their supervisor.
        workers = reader.workers()
        for worker in workers:
            kill_tree(worker)
        deadline = time.monotonic() + _PATIENCE_S
        # Until a look finds none: a worker that has not signed yet may be about to begin a job.
        while self._kill_unsigned(peer, reader.token) or any(map(is_running, workers)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        for worker in workers:
            sweep(worker, "")
        return True

    def _kill_unsigned(self, peer: PeerSupervisor, token: str) -> int:
        """Kill what carries its mark; gives how many there still were."""
        return kill_marked(f"{token}.", since=peer.pid_start) if token else 0

    def _read(self, path: Path) -> Evidence:
        evidence = read_evidence(path)
        if evidence.junk:
            self._repeats.say(
                ("junk", str(path)),
                logging.WARNING,
                "the workers of a dead supervisor have left junk",
                extra={"path": str(path), "lines": evidence.junk},
            )
        return evidence

    def _decided(
        self, job: ClaimedJob, evidence: Evidence | None, cancelled: Set[Start], loss: ErrorInfo
    ) -> Transition:
        now, start = self._clock.now(), (job.id, job.starts)
        outcome: Outcome
        if evidence is None:
            outcome = LeaseLost(run=Run(started_us=now.wall_us), error=loss)
        elif (answered := evidence.answered.get(start)) is not None:
            outcome = self._said(job, answered, cancel_requested=start in cancelled)
        elif (started := evidence.started.get(start)) is not None:
            lasted = max(0, now.boot_us - started)
            outcome = LeaseLost(run=Run(started_us=now.wall_us - lasted), error=loss)
        else:
            outcome = Released()
        rules = RetryRules(backoff=self._rulebook.backoff_for(job.name))
        return decide(job, outcome, rules, now_us=now.wall_us, jitter=random.random())

    def _said(self, job: ClaimedJob, answered: Answered, *, cancel_requested: bool) -> Outcome:
        """What its supervisor would have made of this answer."""
        doom = answered.doom(cancel_requested=cancel_requested)
        return of_answer(answered.answer, doom, job.timeout_us or self._rulebook.timeout_us_for(job.name))


def _loss(peer: PeerSupervisor, verdict: PeerVerdict) -> ErrorInfo:
    is_dead = verdict is PeerVerdict.DEAD
    what = "died" if is_dead else "lost its lease"
    return ErrorInfo(
        type="SupervisorDied" if is_dead else "LeaseLost",
        message=f"supervisor {peer.id} (pid {peer.pid} on {peer.host}) {what} while the job was running",
    )


def _remove(path: Path, log: logging.Logger) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot remove the mark file of a dead supervisor", extra={"error": str(error)})
