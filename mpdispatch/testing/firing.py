"""Fires the cron entries of an engine in a test, by the rules of a supervisor that starts now."""

from __future__ import annotations

from mpdispatch.clock import Clock, Instant
from mpdispatch.engine.engine import Engine
from mpdispatch.handlers.crons import new_cron
from mpdispatch.ids import boot_id
from mpdispatch.model import CronEntry
from mpdispatch.policy.cron.due import Look
from mpdispatch.policy.cron.plan import next_look_us, plan
from mpdispatch.store.crons import CronDecisions
from mpdispatch.supervisor.event_publisher import EventPublisher

_APP = "mpdispatch.testing"


def bring_declared(engine: Engine, now: Instant) -> None:
    """Bring the entries that the app declares into its present store. Their slots begin now. Raises ConfigError."""
    for each in engine.declared_crons():
        app = each.app or _APP
        entries = [new_cron(spec, each.origin, app, now.wall_us - 1) for spec in each.specs]
        if entries:
            engine.store.crons.sync(each.origin, app, entries)


class Firing:
    """One supervisor's time: the slots from its making on are those at which it was there. For one thread."""

    def __init__(self, engine: Engine, clock: Clock, publisher: EventPublisher | None) -> None:
        """Brings the entries that the app declares into the store. Raises ConfigError."""
        self._store: CronDecisions = engine.store.crons
        self._clock, self._publisher = clock, publisher
        self._began = clock.now()
        self._started: set[int] = set()
        bring_declared(engine, self._began)

    def fire(self) -> tuple[bool, int | None]:
        """Decide about all entries. Gives whether slots were decided, and in how many µs the next is due (None: none)."""
        is_decided, next_us = False, list[int]()
        for entry in self._store.entries():
            if self._decide(entry):
                is_decided = True
            elif (at_us := next_look_us(entry, now_us := self._clock.now().wall_us)) is not None:
                next_us.append(at_us - now_us)
        # A slot that is due and undecided waits for the end of a job.
        return is_decided, min((each for each in next_us if each > 0), default=None)

    def _decide(self, entry: CronEntry) -> bool:
        now = self._clock.now()
        look = Look(
            now_us=now.wall_us,
            present_since_us=self._began.wall_us,
            starts_us=None if entry.id in self._started else self._began.wall_us,
            boot_id=boot_id(),
            booted_us=now.wall_us - now.boot_us,
        )
        decision = plan(entry, look)
        if decision is None:
            return False
        made = self._store.decide(decision)
        if made and self._publisher is not None:
            self._publisher.fired(entry.spec.name, made)
            self._publisher.flush()
        if decision.fires or decision.skips:
            self._started.add(entry.id)
        return True
