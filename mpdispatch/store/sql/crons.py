"""Cron entries of an SQL store: what `store.crons.CronStore` promises, for clients and for supervisors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from mpdispatch.clock import Clock, Instant
from mpdispatch.errors import CronExistsError, CronNotFoundError, CronUnreadableError, UsageError
from mpdispatch.failpoints import failpoint
from mpdispatch.model import (
    CronDecision,
    CronEntry,
    CronHistory,
    CronSpec,
    CronSync,
    Firing,
    Job,
    NewCron,
    Origin,
)
from mpdispatch.store.sql import changes, cron_slots, inserts
from mpdispatch.store.sql.changes import RequestCancel
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.cron_rows import entry_of, history_of, job_for, new_cron_row, spec_row
from mpdispatch.store.sql.queries import QUERIES
from mpdispatch.store.sql.sessions import Flush, Read, Write
from mpdispatch.store.sql.wakes import Wakes

T = TypeVar("T")

_ALL = QUERIES["crons"] + "\nORDER BY c.name"
_BY_NAME = QUERIES["crons"] + "\nWHERE c.name = ?"
_BY_ID = QUERIES["crons"] + "\nWHERE c.id = ?"


class SQLCrons:
    """A `CronStore` on the sessions of either face of the store."""

    def __init__(
        self,
        read: Read,
        write: Write,
        clock: Clock,
        wakes: Wakes,
        *,
        create: Write | None = None,
        request_cancel: RequestCancel = changes.request_cancel,
    ) -> None:
        """`create`: as `write`, but creates a store that is not there."""
        self._read, self._write, self._create = read, write, create or write
        self._clock, self._wakes, self._request_cancel = clock, wakes, request_cancel

    # -- reading --------------------------------------------------------------------------------

    def entries(self) -> list[CronEntry]:
        return self._read(entries)

    def entry(self, name: str) -> CronEntry:
        return self._read(lambda c: _named(c, name))

    def history(self, name: str, limit: int) -> CronHistory:
        if limit < 1:
            raise UsageError(f"limit must be 1 or more, not {limit}")
        values = {"name": name, "limit": limit}
        rows = self._read(lambda c: c.execute(QUERIES["slots_and_skips"], values).fetchall())
        if not rows:
            raise CronNotFoundError(name)
        return history_of(rows)

    # -- declaring ------------------------------------------------------------------------------

    def add(self, *new: NewCron) -> list[CronEntry]:
        return self._changed(self._create(lambda c: _add(c, new, self._clock.now()), "cron_add"))

    def sync(self, origin: Origin, app: str, declared: Sequence[NewCron]) -> CronSync:
        done = self._create(lambda c: _sync(c, origin, app, declared, self._clock.now()), "cron_sync")
        return self._changed(done)

    def set_enabled(
        self, name: str, is_enabled: bool, *, decided_until_us: int, next_slot_us: int | None
    ) -> CronEntry:
        def work(connection: Connection) -> CronEntry:
            cron_id = _named(connection, name).id
            if is_enabled:
                values = (decided_until_us, decided_until_us, next_slot_us, cron_id)
                connection.execute(QUERIES["enable_cron"], values)
            else:
                connection.execute(QUERIES["disable_cron"], (cron_id,))
            return _named(connection, name)

        return self._changed(self._write(work, "cron_enable"))

    def delete(self, name: str) -> None:
        """In one transaction for all that can be seen; the rest of a long history goes in further ones."""

        def work(connection: Connection) -> int:
            cron_id = _named(connection, name).id
            connection.execute(QUERIES["delete_cron"], (cron_id,))
            return cron_id

        cron_id = self._write(work, "cron_delete")
        while self._write(lambda c: cron_slots.delete(c, cron_id), "cron_delete_slots"):
            continue

    def _changed(self, result: T) -> T:
        # A slot may be due sooner than a supervisor would look.
        self._wakes.supervisors()
        return result

    # -- firing ---------------------------------------------------------------------------------

    def decide(self, decision: CronDecision) -> list[Job] | None:
        # What a power cut takes of a decision that fires nothing is only decided again.
        is_lasting = bool(decision.fires or decision.cancels)
        made = self._write(
            lambda c: _decide(c, decision, self._clock.now(), self._request_cancel),
            "cron_decide",
            flush=Flush.IN_COMMIT if is_lasting else Flush.LATER,
        )
        if made or (made is not None and decision.cancels):
            self._wakes.supervisors()
        if made is not None and decision.cancels:
            self._wakes.waiting_clients()
        return made

    def fire(self, name: str, slots: Sequence[Firing]) -> list[Job]:
        def work(connection: Connection) -> list[Job]:
            entry = _named(connection, name)
            if entry.unreadable:
                raise CronUnreadableError(name, entry.unreadable)
            return _fire(connection, entry, slots, self._clock.now())

        return self._changed(self._write(work, "cron_fire"))


def entries(connection: Connection) -> list[CronEntry]:
    return [entry_of(row) for row in connection.execute(_ALL)]


def _found(connection: Connection, name: str) -> CronEntry | None:
    row = connection.execute(_BY_NAME, (name,)).fetchone()
    return None if row is None else entry_of(row)


def _named(connection: Connection, name: str) -> CronEntry:
    found = _found(connection, name)
    if found is None:
        raise CronNotFoundError(name)
    return found


# ---------------------------------------------------------------- declaring


def _add(connection: Connection, added: Iterable[NewCron], now: Instant) -> list[CronEntry]:
    for new in added:
        if (there := _found(connection, new.spec.name)) is not None:
            raise CronExistsError(new.spec.name, there.origin)
        connection.execute(QUERIES["insert_cron"], new_cron_row(new, now.wall_us))
    return [_named(connection, new.spec.name) for new in added]


def _sync(
    connection: Connection, origin: Origin, app: str, declared: Iterable[NewCron], now: Instant
) -> CronSync:
    there = {entry.spec.name: entry for entry in entries(connection)}
    gone = {
        name for name, each in there.items() if (each.origin, each.app) == (origin, app) and not each.is_orphan
    }
    added, changed, taken = list[str](), list[str](), list[str]()
    for each in declared:
        new = msgspec.structs.replace(each, origin=origin, app=app)
        name = new.spec.name
        gone.discard(name)
        entry = there.get(name)
        if entry is None:
            connection.execute(QUERIES["insert_cron"], new_cron_row(new, now.wall_us))
            added.append(name)
        elif entry.origin != origin:
            taken.append(name)
        elif entry.is_orphan or entry.unreadable or (entry.app, entry.spec) != (app, new.spec):
            _declare_again(connection, entry, new)
            changed.append(name)
    for name in gone:
        connection.execute(QUERIES["orphan_cron"], (there[name].id,))
    return CronSync(added=added, changed=changed, orphaned=sorted(gone), taken=taken)


def _declare_again(connection: Connection, entry: CronEntry, new: NewCron) -> None:
    keeps_place = not entry.is_orphan and not entry.unreadable and _slots(entry.spec) == _slots(new.spec)
    if keeps_place:
        place = entry.enabled_at_us, entry.decided_until_us, entry.next_slot_us, entry.late_since_us
    else:
        until_us, next_us = new.decided_until_us, new.next_slot_us if entry.is_enabled else None
        place = until_us, until_us, next_us, None
    connection.execute(QUERIES["declare_cron"], (*spec_row(new.spec), new.app, *place, entry.id))


def _slots(spec: CronSpec) -> tuple[object, ...]:
    """What decides which slots there are."""
    return spec.schedule, spec.tz, spec.starts_at_us, spec.ends_at_us


# ---------------------------------------------------------------- decisions


def _decide(
    connection: Connection, decision: CronDecision, now: Instant, request_cancel: RequestCancel
) -> list[Job] | None:
    row = connection.execute(_BY_ID, (decision.cron_id,)).fetchone()
    entry = None if row is None else entry_of(row)
    if entry is None or entry.revision != decision.revision or entry.unreadable:
        return None
    cron_slots.close(connection, entry.id, decision.closes)
    for job_id in decision.cancels:
        request_cancel(connection, job_id, now)
    for skipped in decision.skips:
        cron_slots.skip(connection, entry, skipped)
    made = _fire(connection, entry, decision.fires, now)
    failpoint("cron_decide.after_fire")
    values = (
        decision.decided_until_us,
        decision.next_slot_us,
        decision.boot_id,
        decision.last_success_us,
        decision.late_since_us,
        entry.id,
    )
    connection.execute(QUERIES["move_cron"], values)
    return made


def _fire(connection: Connection, entry: CronEntry, firings: Iterable[Firing], now: Instant) -> list[Job]:
    made = list[Job]()
    for firing in firings:
        if cron_slots.has_fired(connection, entry.id, firing.slot_us):
            continue
        made.append(inserts.insert(connection, job_for(entry, firing), now))
        last = (firing.slot_us, now.wall_us, made[-1].id)
        connection.execute(QUERIES["insert_slot"], (entry.id, *last))
    if made:
        connection.execute(QUERIES["fired_cron"], (*last, entry.id))
    return made
