"""Takes over the jobs of supervisors that died or lost their lease. Effects: signals, start journals, store.

Leftover workers are killed *before* their jobs are requeued, so one job never runs twice at once on a host. The
kernel shows who is dead, by the lock of the start journal and the pid with its start time; the lease decides
only where the kernel cannot. Leftovers are found by the token in the supervisor's row, even if its start
journal is lost; then it is unknown what they ran.

A worker's answer counts even if the dead supervisor had not read it, and is decided as that supervisor would have.
A job that started without an answer is lost with it; a job that did not start is released, its attempt refunded.

A running job whose owner is not registered is taken over in the same way: its supervisor's row was removed.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable, Set
from pathlib import Path

from mpdispatch.clock import Clock
from mpdispatch.execution.catalog import Catalog
from mpdispatch.failpoints import failpoint
from mpdispatch.host.leftovers import kill_leftovers
from mpdispatch.host.liveness import verdict_on
from mpdispatch.host.processes import pid_namespace
from mpdispatch.host.start_journal import journal_path
from mpdispatch.host.wake import remove_listener
from mpdispatch.ids import boot_id
from mpdispatch.model import (
    Cause,
    ClaimedJob,
    ErrorInfo,
    LeaseLost,
    Outcome,
    PeerSupervisor,
    Released,
    Run,
    Transition,
)
from mpdispatch.policy.decide import RetryRules, decide
from mpdispatch.policy.lease import PeerVerdict
from mpdispatch.pool.outcomes import from_reply
from mpdispatch.pool.recovered import Answered, Recovered, Start, recover
from mpdispatch.repeated import Repeated
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.supervisor.dead_peer import leads, loss_of, own_journal, remove_journal, stand_in
from mpdispatch.supervisor.event_publisher import EventPublisher
from mpdispatch.supervisor.in_flight import InFlight

_PATIENCE_S = 1.0
"""How long to check every few ms for a killed leftover; after that, with each look at the peers."""
_AGAIN_S = 0.004


class Rescuer:
    """Looks at peers and takes over their jobs, one step per look; no look waits for a process to end."""

    def __init__(
        self,
        store: SupervisorStore,
        folder: Path,
        clock: Clock,
        catalog: Catalog,
        in_flight: InFlight,
        log: logging.Logger,
        publisher: EventPublisher | None,
        repeats: Repeated,
    ) -> None:
        """`folder`: the store's runtime folder, where peers of this machine leave their start journals."""
        self._store, self._folder, self._clock, self._catalog = store, folder, clock, catalog
        self._in_flight, self._log, self._publisher, self._repeats = in_flight, log, publisher, repeats
        self._looked: dict[int, float] = {}
        """Dead owner → when we last looked for its leftovers (monotonic)."""
        self._dying: dict[int, float] = {}
        """Dead owner → when we first killed some of its leftovers (monotonic)."""
        self.again_s: float | None = None
        """Seconds until the next step is due; None: with the next regular look. Written only here."""

    def look(self, owner: int, given_up: Set[int], *, token: str = "") -> tuple[list[PeerSupervisor], bool]:
        """Find the dead peers and do one step for one of them; returns the living, and whether one was taken over.

        `owner`, `token`: our own registration. `given_up`: our old registrations, with all their workers
        killed. A peer that cannot be checked for want of a descriptor counts as neither. `again_s` says when
        the next step is due.

        Raises StoreError.
        """
        self.again_s = None
        living, dead = list[PeerSupervisor](), list[tuple[PeerSupervisor, PeerVerdict | None]]()
        others = self._store.peers(owner)
        for peer in others.registered:
            try:
                verdict = PeerVerdict.EXPIRED if peer.id in given_up else verdict_on(peer, self._folder)
            except OSError as error:
                self._log_unseen("cannot see whether supervisor %d lives: %s", peer.id, error)
                continue
            if verdict is PeerVerdict.ALIVE:
                living.append(peer)
            else:
                dead.append((peer, verdict))
        dead += [(stand_in(each), None) for each in others.unregistered]
        return living, self._step(dead, token)

    def _step(self, dead: list[tuple[PeerSupervisor, PeerVerdict | None]], token: str) -> bool:
        """Do one step for the dead peer not checked for longest: look for its leftovers, or take it over."""
        waiting = {peer.id for peer, _ in dead}
        self._looked = {owner: at for owner, at in self._looked.items() if owner in waiting}
        self._dying = {owner: at for owner, at in self._dying.items() if owner in waiting}
        if not dead:
            return False
        peer, verdict = min(dead, key=lambda each: self._looked.get(each[0].id, 0.0))
        is_first_round = len(self._looked) < len(dead)
        self._looked[peer.id] = time.monotonic()
        try:
            took_over = self.take_over(peer, verdict, our_token=token)
        except OSError as error:
            # Conclude nothing from a failed look; the usual cause is a lack of descriptors.
            self._log_unseen("cannot see what supervisor %d left: %s", peer.id, error)
            took_over = False
        if took_over:
            self._looked.pop(peer.id)
        if len(dead) > 1 and (took_over or is_first_round):
            self.again_s = 0.0
        return took_over

    def _log_unseen(self, message: str, owner: int, error: OSError) -> None:
        self._repeats.log(("unseen", owner, error.errno), logging.WARNING, message, owner, error)

    def take_over(self, peer: PeerSupervisor, verdict: PeerVerdict | None, *, our_token: str = "") -> bool:
        """Kill its leftovers, decide about its jobs, remove its row. False: not yet, or another supervisor did it.

        `verdict=None`: it is not registered. `our_token`: processes that carry it are spared.
        """
        path = journal_path(self._folder, peer.id)
        if peer.boot_id == boot_id() and not self._are_leftovers_gone(peer, path, our_token):
            return False
        failpoint("rescue.before_take_over")
        jobs = self._store.jobs_of(peer.id)
        # Only now that its workers are gone: one may have started or answered a job while we looked.
        recovered = self._recover(peer, path, {(job.id, job.starts) for job in jobs})
        cancelled = set(self._store.cancel_requests(peer.id))
        loss = loss_of(peer, verdict)
        transitions = [self._decided(job, recovered, cancelled, loss) for job in jobs]
        dead = peer if verdict is not None else peer.id
        if not self._store.take_over(dead, transitions):
            return False
        remove_journal(path, self._log)
        remove_listener(self._folder, peer.id)
        if self._publisher is not None:
            self._report(self._publisher, zip(jobs, transitions, strict=True), cancelled)
        for transition in transitions:
            self._in_flight.recorded(transition.state)
        self._log.warning(
            "took over %d jobs of supervisor %d (pid %d, %s), %d of them started, %d of these lost",
            len(jobs),
            peer.id,
            peer.pid,
            "not registered" if verdict is None else verdict.value,
            sum(t.run is not None for t in transitions),
            sum(t.cause is Cause.LEASE_LOST for t in transitions),
        )
        return True

    def _report(
        self,
        publisher: EventPublisher,
        written: Iterable[tuple[ClaimedJob, Transition]],
        cancelled: set[tuple[int, int]],
    ) -> None:
        for job, transition in written:
            # A job that was to run again is cancelled if there is a cancel request.
            if transition.state.is_terminal or (job.id, job.starts) not in cancelled:
                publisher.rescued(job, transition)
        publisher.flush()

    def _are_leftovers_gone(self, peer: PeerSupervisor, path: Path, our_token: str) -> bool:
        """SIGKILL its leftover workers and their processes. True: none was found any more.

        Only a look that finds none counts: a worker not yet in the journal may be about to start a job. The
        next look is some ms later; the loop goes on meanwhile. Raises OSError: cannot look.
        """
        token, journal = leads(peer, path)
        if token and token == our_token:
            return True  # An old registration of ours without workers: it was given up before it had a journal.
        since = peer.pid_start if peer.pid_namespace == pid_namespace() else 0
        if not kill_leftovers(token, since=since, journal=journal):
            return True
        now_s = time.monotonic()
        if now_s - self._dying.setdefault(peer.id, now_s) < _PATIENCE_S:
            self.again_s = _AGAIN_S
        else:
            self._repeats.log(
                ("leftover", peer.id),
                logging.WARNING,
                "a leftover worker does not die; its jobs wait",
                extra={"owner": peer.id},
            )
        return False

    def _recover(self, peer: PeerSupervisor, path: Path, starts: Set[Start]) -> Recovered | None:
        """What its start journal proves about these starts; None: nothing, so each counts as started."""
        if peer.boot_id != boot_id():
            return None
        with own_journal(peer, path) as reader:
            recovered = None if reader is None else recover(reader, starts)
        if recovered is not None and recovered.junk:
            self._repeats.log(
                ("junk", str(path)),
                logging.WARNING,
                "the workers of a dead supervisor have left junk",
                extra={"path": str(path), "lines": recovered.junk},
            )
        return recovered

    def _decided(
        self, job: ClaimedJob, recovered: Recovered | None, cancelled: Set[Start], loss: ErrorInfo
    ) -> Transition:
        now, start = self._clock.now(), (job.id, job.starts)
        outcome: Outcome
        if recovered is None:
            outcome = LeaseLost(run=Run(started_us=now.wall_us), error=loss)
        elif (answered := recovered.answered.get(start)) is not None:
            outcome = self._outcome_of(job, answered, cancel_requested=start in cancelled)
        elif (started := recovered.started.get(start)) is not None:
            lasted = max(0, now.boot_us - started)
            outcome = LeaseLost(run=Run(started_us=now.wall_us - lasted), error=loss)
        else:
            outcome = Released()
        rules = RetryRules(backoff=self._catalog.backoff_for(job.name))
        return decide(job, outcome, rules, now_us=now.wall_us, jitter=random.random())

    def _outcome_of(self, job: ClaimedJob, answered: Answered, *, cancel_requested: bool) -> Outcome:
        """The outcome its supervisor would have derived from this answer."""
        stop_reason = answered.stop_reason(cancel_requested=cancel_requested)
        return from_reply(
            answered.answer, stop_reason, job.timeout_us or self._catalog.timeout_us_for(job.name)
        )
