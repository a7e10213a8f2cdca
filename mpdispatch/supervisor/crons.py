"""Duty: fire the slots of cron entries that are due. Effects: the store.

    declared entries ─▶ cron_syncer ─▶ the store
    entries of the store ─▶ policy.cron.plan ─▶ decide: one transaction, guarded by the entry's revision ─▶ jobs, events

Every supervisor does this for every entry, and the guard lets one of them win; there is no leader. While there are no
entries, a look is one read: at each poll, and at most ten times a second after wake-ups.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.errors import UsageError
from mpdispatch.ids import boot_id
from mpdispatch.model import CronDecision, CronEntry, Job
from mpdispatch.model.json import moment_of, time_to_json
from mpdispatch.policy.cron.due import PRESENCE_GAP_US, Look
from mpdispatch.policy.cron.plan import next_look_us, plan
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.supervisor.claimer import Claimer
from mpdispatch.supervisor.cron_syncer import CronSyncer
from mpdispatch.supervisor.event_publisher import EventPublisher
from mpdispatch.supervisor.in_flight import InFlight
from mpdispatch.supervisor.peers import Peers
from mpdispatch.supervisor.runtime import Runtime
from mpdispatch.supervisor.shutdown import Shutdown

_INTERVAL_US = 5 * SECOND_US
"""The longest between two looks, whatever the poll interval is: a longer one could be taken for an absence."""
_PATIENCE_US = SECOND_US
"""How long after its start a supervisor leaves the entries to its peers, which were present at earlier slots."""
_WAKE_UP_US = 100_000
"""The shortest between two looks after wake-ups: each enqueue is one."""
_SHARE = 20
"""Looks after wake-ups take at most one part in this many of the time, however many entries there are."""
_MOST_US = 10_000
"""How long one run goes on with deciding. Then the loop serves jobs, and the next run does the rest."""
_AGAIN_US = 5_000
"""How soon to look again at an entry that was changed, by us or by somebody else."""


class Crons:
    """Due at the next slot, at each poll, after wake-ups, and when a job has ended for which a slot waits.

    Times are boottime µs unless noted.
    """

    def __init__(
        self,
        runtime: Runtime,
        store: SupervisorStore,
        syncer: CronSyncer,
        in_flight: InFlight,
        claimer: Claimer,
        peers: Peers,
        shutdown: Shutdown,
        publisher: EventPublisher | None,
        *,
        poll_us: int,
    ) -> None:
        self._clock, self._log, self._repeats = runtime.clock, runtime.log, runtime.repeats
        self._store, self._syncer, self._in_flight, self._claimer = store, syncer, in_flight, claimer
        self._peers, self._shutdown, self._publisher = peers, shutdown, publisher
        self._interval_us = min(poll_us, _INTERVAL_US)
        self._at_us: int | None = None
        self._looked_us, self._gap_us = 0, _WAKE_UP_US
        self._began = Instant(0, 0)
        self._present_since_us = self._looked_wall_us = 0
        """Wall times: since when we look without a long gap, and when we last did."""
        self._started: set[int] = set()
        """The entries for which the slot of our start is decided."""
        self._rest: list[CronEntry] = []
        """The entries that this look has not come to yet. A decision fails if they have changed meanwhile."""
        self._next_us = 0
        """When to look again, as far as this look has come."""
        self._is_outdated = False
        """Whether an entry may have changed since they were read."""
        self._is_waiting = False
        """Whether a slot waits for the end of a job."""
        self._written = 0

    def begin(self) -> None:
        """The app is known, so jobs can run. Before, nothing fires."""
        self._began = self._clock.now()
        self._present_since_us = self._looked_wall_us = self._began.wall_us
        self._at_us = 0

    def woken(self) -> None:
        """An entry may have been changed."""
        self._is_outdated = True
        if self._at_us is not None:
            self._at_us = min(self._at_us, self._looked_us + self._gap_us)

    def next_due(self) -> int | None:
        if self._at_us is None or self._shutdown.is_on:
            return None
        if self._is_waiting and self._in_flight.written_count != self._written:
            return 0
        return self._at_us

    def run(self, now: Instant) -> None:
        """Bring what is declared up to date, then decide about every entry. Raises StoreError."""
        self._syncer.run(self._began.wall_us)
        patience_us = self._began.boot_us + _PATIENCE_US - now.boot_us
        if patience_us > 0 and self._peers.living:
            self._at_us = now.boot_us + patience_us
            return
        if self._looked_us == 0 and self._peers.has_met:
            # It was present, and what it did not come to because it was killed is late, not missed.
            self._present_since_us = self._began.wall_us - PRESENCE_GAP_US
        self._note_presence(now)
        self._written = self._in_flight.written_count
        if not self._rest:
            self._rest, self._is_outdated = self._store.crons.entries(), False
            self._next_us, self._is_waiting = now.boot_us + self._interval_us, False
        self._decide_all(now)
        ended_us = self._clock.now().boot_us
        self._looked_us = now.boot_us
        self._gap_us = max(_WAKE_UP_US, _SHARE * (ended_us - now.boot_us))
        next_us = 0 if self._rest else self._next_us
        if self._is_outdated:
            next_us = min(next_us, self._looked_us + self._gap_us)
        self._at_us = max(next_us, now.boot_us + 1)

    def _note_presence(self, now: Instant) -> None:
        # The wall clock counts, because the slots are its: after it was set forth, the slots between are missed.
        if not 0 <= now.wall_us - self._looked_wall_us <= PRESENCE_GAP_US:
            self._present_since_us = now.wall_us
        self._looked_wall_us = now.wall_us

    # -- deciding -----------------------------------------------------------------------------------------

    def _decide_all(self, now: Instant) -> None:
        """Decide about the rest of the entries, as far as time allows."""
        rest, self._rest = self._rest, []  # if the store refuses, the next run begins a new look
        for number, entry in enumerate(rest, 1):
            try:
                self._next_us = min(self._next_us, self._decide(entry, now))
            except UsageError as error:
                # Somebody else has written it, or a zone is gone with an update of the system.
                self._repeats.log(
                    ("cron", entry.id),
                    logging.ERROR,
                    "a cron entry cannot be read, so it does not fire",
                    extra={"entry": entry.spec.name, "error": str(error)},
                )
            if self._clock.now().boot_us - now.boot_us > _MOST_US:
                self._rest = rest[number:]
                return

    def _decide(self, entry: CronEntry, now: Instant) -> int:
        """Decide about one entry; gives when to look at it again."""
        look = Look(
            now_us=now.wall_us,
            present_since_us=self._present_since(entry),
            # Also if the clock is set back later, our start is one slot.
            starts_us=None if entry.id in self._started else self._began.wall_us,
            boot_id=boot_id(),
            booted_us=now.wall_us - now.boot_us,
        )
        decision = plan(entry, look)
        if decision is None:
            return self._look_again_us(entry, now)
        made = self._store.crons.decide(decision)
        if made is not None:
            self._report(entry, decision, made)
        return now.boot_us + _AGAIN_US

    def _present_since(self, entry: CronEntry) -> int:
        """Since when this supervisor, or a peer that was there before it, has looked at the entry's slots.

        Under `queue` a slot may wait for so long that a newcomer would take it for a missed one.
        """
        if not self._peers.has_met or entry.spec.overlap != "queue":
            return self._present_since_us
        waits_for = (each.slot_us for each in entry.open if not each.state.is_terminal)
        return min([self._present_since_us, *waits_for])

    def _look_again_us(self, entry: CronEntry, now: Instant) -> int:
        look_us = next_look_us(entry, now.wall_us)
        if look_us is not None and look_us > now.wall_us:
            return now.boot_us + look_us - now.wall_us
        if look_us is not None:  # a slot is due and waits for the end of a job
            self._is_waiting = True
        return now.boot_us + self._interval_us

    def _report(self, entry: CronEntry, decision: CronDecision, made: Sequence[Job]) -> None:
        """The decision is on disk: claim what it made, and tell the log and the hooks."""
        name, late_us = entry.spec.name, decision.late_since_us
        if decision.fires or decision.skips:
            self._started.add(entry.id)
        if made:
            self._claimer.try_now()
        for skip in decision.skips:
            self._log.info(
                "slots of cron entry %s are skipped: %s",
                name,
                skip.reason,
                extra={"first": _text(skip.first_us), "last": _text(skip.last_us)},
            )
        was_late = entry.late_since_us is not None
        if late_us is not None and not was_late:
            success = _text(entry.last_success_us or entry.enabled_at_us)
            self._log.warning("cron entry %s is late: it has had no success since %s", name, success)
        if self._publisher is not None:
            self._publisher.fired(name, made)
            if late_us is not None and not was_late:
                self._publisher.late(entry, late_us)
            self._publisher.flush()


def _text(us: int) -> str | None:
    return time_to_json(moment_of(us))
