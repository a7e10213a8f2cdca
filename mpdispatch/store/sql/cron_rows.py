"""Converts rows of cron entries to values and back. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, get_args

import msgspec

from mpdispatch.clock import EARLIEST_US, LATEST_US
from mpdispatch.model import (
    CronEntry,
    CronHistory,
    CronSpec,
    FiredSlot,
    Firing,
    JobState,
    NewCron,
    NewJob,
    OpenFiring,
    Origin,
    SkippedSlots,
)
from mpdispatch.store.sql.columns import CRON_COLUMNS, NEW_COLUMNS
from mpdispatch.store.sql.mending import Column, faults_of, mended
from mpdispatch.store.sql.rows import Row, stored_json

_WIDTH = len(CRON_COLUMNS)
_FIELDS = tuple(column.name for column in CRON_COLUMNS)
_ORIGIN = _FIELDS.index("origin")
_ORIGINS = frozenset(get_args(Origin))
_SPEC_COLUMNS = (
    Column("catch_up_limit", "integer", least=0),
    Column("jitter_us", "duration", least=0, most=LATEST_US),
    Column("starts_at_us", "time"),
    Column("ends_at_us", "time"),
    Column("late_after_us", "duration", least=0, most=LATEST_US),
)
_FIRED_COLUMNS = (Column("slot_us", "time"), Column("fired_at_us", "time"), Column("job_id", "integer"))
_SKIPPED_COLUMNS = (
    Column("first_us", "time"),
    Column("last_us", "time"),
    Column("at_us", "time"),
    Column("reason", "text"),
)
_NO_SPEC = CronSpec(name="", schedule="", tz="", job=NewJob(name="", payload=b""))
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CronSpec).decode
_open_firings = msgspec.json.Decoder(list[tuple[int, int, JobState, int | None]]).decode


def new_cron_row(new: NewCron, now_us: int) -> tuple[Any, ...]:
    """Parameters of `insert_cron`."""
    spec, payload = spec_row(new.spec)
    until_us = new.decided_until_us
    return new.spec.name, spec, payload, new.origin, new.app, now_us, until_us, until_us, new.next_slot_us


def spec_row(spec: CronSpec) -> tuple[str, str | bytes]:
    """The columns `spec` and `payload`. A payload may be large, and stands apart so that people can read the rest."""
    bare = msgspec.structs.replace(spec, job=msgspec.structs.replace(spec.job, payload=b""))
    return _encode(bare).decode(), stored_json(spec.job.payload)


def entry_of(row: Row) -> CronEntry:
    """The entry of a row of the query `crons`. An unreadable row gives its readable part, disabled."""
    *_, spec_text, payload, opened = row
    faults = faults_of(CRON_COLUMNS, row)
    if row[_ORIGIN] not in _ORIGINS:
        faults.append(f"column origin holds {row[_ORIGIN][:40]!r}, which is no origin")
    spec, fault = _spec_of(spec_text)
    if fault:
        faults.append(fault)
    fields = dict(zip(_FIELDS, mended(CRON_COLUMNS, row[:_WIDTH]) if faults else row, strict=False))
    if fields["origin"] not in _ORIGINS:
        fields["origin"] = "user"
    spec = msgspec.structs.replace(
        spec, name=fields.pop("name"), job=msgspec.structs.replace(spec.job, payload=payload)
    )
    fields["is_enabled"] = bool(fields["is_enabled"]) and not faults
    fields["is_orphan"] = bool(fields["is_orphan"])
    firings = () if opened == "[]" else tuple(_firing(*each) for each in _open_firings(opened))
    return CronEntry(**fields, spec=spec, open=firings, unreadable="; ".join(faults))


def _firing(slot_us: int, job_id: int, state: JobState, completed_at_us: int | None) -> OpenFiring:
    if completed_at_us is not None:
        completed_at_us = min(max(completed_at_us, EARLIEST_US), LATEST_US)
    return OpenFiring(slot_us=slot_us, job_id=job_id, state=state, completed_at_us=completed_at_us)


# Supervisors read all entries again and again, and specs hardly ever change.
@lru_cache(maxsize=1024)
def _spec_of(stored: bytes) -> tuple[CronSpec, str]:
    """The spec in this column, and what is wrong with it."""
    try:
        spec = _decode(stored)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return _NO_SPEC, f"column spec holds what is no spec ({error})"
    faults = [
        *faults_of(_SPEC_COLUMNS, [getattr(spec, column.name) for column in _SPEC_COLUMNS]),
        *faults_of(NEW_COLUMNS, [getattr(spec.job, column.name) for column in NEW_COLUMNS]),
    ]
    return spec, f"column spec: {'; '.join(faults)}" if faults else ""


def job_for(entry: CronEntry, firing: Firing) -> NewJob:
    """What this firing enqueues."""
    return msgspec.structs.replace(
        entry.spec.job,
        run_at_us=firing.run_at_us,
        delay_us=0,
        slot_us=firing.slot_us,
        # The slot is what it is known by: a key would allow a single firing.
        idempotency_key=None,
        retried_from=None,
    )


def history_of(rows: Iterable[Row]) -> CronHistory:
    """From the rows of the query `slots_and_skips`. Unreadable values are shown mended."""
    fired, skipped = list[FiredSlot](), list[SkippedSlots]()
    for kind, *values in rows:
        if kind == "fired":
            fired.append(FiredSlot(*mended(_FIRED_COLUMNS, values[:3])))
        elif kind == "skipped":
            first_us, last_us, at_us, reason = mended(_SKIPPED_COLUMNS, values)
            skipped.append(SkippedSlots(first_us, last_us, reason, at_us))
    return CronHistory(fired, skipped)
