"""What people get of cron entries. Values, made of those of a store. Times are aware UTC datetimes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from mpdispatch.clock import SECOND_US
from mpdispatch.errors import UsageError
from mpdispatch.model import CatchUp, CronEntry, CronHistory, Origin, Overlap
from mpdispatch.model.json import moment_of
from mpdispatch.policy.cron.late import late_since_us
from mpdispatch.policy.cron.plan import run_at_us


class Cron(msgspec.Struct, frozen=True, kw_only=True):
    """A cron entry as it is now."""

    id: int
    name: str
    schedule: str
    tz: str
    job_name: str
    queue: str
    payload: Any
    """The arguments of its jobs."""
    enabled: bool
    last_run_at: datetime | None
    """When it last fired."""
    last_job_id: int | None
    next_run_at: datetime | None
    """When the job of its next slot is due; None: it fires no more, or is disabled."""
    is_late: bool
    """Whether it has had no success within its time."""
    catch_up: CatchUp
    overlap: Overlap
    catch_up_limit: int
    jitter: float
    """Seconds, as all durations."""
    starts_at: datetime | None
    ends_at: datetime | None
    late_after: float | None
    late_since: datetime | None
    last_slot_at: datetime | None
    """The last slot that fired."""
    last_success_at: datetime | None
    """When a job of it last completed, as far as a supervisor has seen it."""
    open_jobs: Sequence[int]
    """Its jobs that have not ended."""
    priority: int
    max_retries: int
    timeout: float | None
    expires: float | None
    """Seconds after a job is due in which it may start; then it is cancelled."""
    origin: Origin
    """Who declared it: the app's code, a file, or somebody (user)."""
    app: str
    """The app or file that declares it."""
    is_orphan: bool
    """Its app or file no longer declares it: it fires no more."""
    unreadable: str
    """What of it cannot be read: another program wrote its row, or its zone is gone. Mostly empty; else nothing fires."""
    created_at: datetime
    enabled_at: datetime
    """When it was last added, enabled or declared again."""


class PreviewedSlot(msgspec.Struct, frozen=True):
    """A slot, and what happens to it."""

    slot: datetime
    run_at: datetime
    """When its job is due."""
    note: str
    """What a change of clocks or a downtime does to it. Mostly it is ""."""


class PastSlot(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a slot, or of several in a row: it fired, or they were skipped."""

    slot: datetime
    """The first of them."""
    until: datetime
    """The last of them."""
    at: datetime
    """When it fired, or that was decided."""
    job_id: int | None
    """None: skipped."""
    reason: str
    """Why they were skipped."""


def cron_of(entry: CronEntry, now_us: int) -> Cron:
    """The entry for people. Whether it is late is looked at now, as no supervisor may have done so."""
    spec, job, unreadable = entry.spec, entry.spec.job, entry.unreadable
    try:
        late_us = None if unreadable else late_since_us(entry, now_us)
    except UsageError as error:  # also a zone may be gone, with an update of the machine
        late_us, unreadable = None, str(error)
    can_fire = entry.may_fire and entry.next_slot_us is not None and not unreadable
    return Cron(
        id=entry.id,
        name=spec.name,
        schedule=spec.schedule,
        tz=spec.tz,
        job_name=job.name,
        queue=job.queue,
        payload=_payload(job.payload),
        enabled=entry.is_enabled,
        last_run_at=_moment(entry.last_fired_us),
        last_job_id=entry.last_job_id,
        next_run_at=_moment(run_at_us(spec, entry.next_slot_us or 0)) if can_fire else None,
        is_late=late_us is not None,
        catch_up=spec.catch_up,
        overlap=spec.overlap,
        catch_up_limit=spec.catch_up_limit,
        jitter=spec.jitter_us / SECOND_US,
        starts_at=_moment(spec.starts_at_us),
        ends_at=_moment(spec.ends_at_us),
        late_after=_seconds(spec.late_after_us),
        late_since=_moment(late_us),
        last_slot_at=_moment(entry.last_slot_us),
        last_success_at=_moment(entry.last_success_us),
        open_jobs=entry.open_jobs,
        priority=job.priority,
        max_retries=job.max_retries,
        timeout=_seconds(job.timeout_us),
        expires=_seconds(job.expires_us),
        origin=entry.origin,
        app=entry.app,
        is_orphan=entry.is_orphan,
        unreadable=unreadable,
        created_at=moment_of(entry.created_at_us),
        enabled_at=moment_of(entry.enabled_at_us),
    )


def history_of(found: CronHistory, limit: int) -> list[PastSlot]:
    """The last slots, the newest first."""
    fired = [
        PastSlot(
            slot=moment_of(each.slot_us),
            until=moment_of(each.slot_us),
            at=moment_of(each.fired_at_us),
            job_id=each.job_id,
            reason="",
        )
        for each in found.fired
    ]
    skipped = [
        PastSlot(
            slot=moment_of(each.first_us),
            until=moment_of(each.last_us),
            at=moment_of(each.at_us),
            job_id=None,
            reason=each.reason,
        )
        for each in found.skipped
    ]
    return sorted([*fired, *skipped], key=lambda each: (each.until, each.at), reverse=True)[:limit]


def _payload(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:  # another program wrote it: the entry is unreadable
        return {}


def _moment(us: int | None) -> datetime | None:
    return None if us is None else moment_of(us)


def _seconds(us: int | None) -> float | None:
    return None if us is None else us / SECOND_US
