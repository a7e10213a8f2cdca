"""Cron entries: what is declared, what a store keeps of them, and what is decided about their slots. Values only.

A *slot* is one instant of an entry's schedule. A slot *fires* (it makes one job) or is skipped for a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from mpdispatch.model.job import JobState, NewJob

CatchUp = Literal["skip", "latest", "all"]
"""What happens to slots that passed while no supervisor ran: none fires, the latest does, or all do."""
Overlap = Literal["allow", "skip", "queue", "replace"]
"""What happens to a slot while an earlier job of the entry has not ended: it fires all the same, is skipped, waits for
the job's end, or has the job cancelled and fires after its end."""
Origin = Literal["code", "file", "user"]
"""Who declared an entry: the app's code, a config file, or somebody by a call or a command."""


class CronSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A cron entry as it is declared, checked. Times are wall times in µs, durations in µs."""

    name: str
    schedule: str
    """An expression that `policy.cron` reads."""
    tz: str
    """An IANA name."""
    job: NewJob
    """What a firing enqueues; its `run_at_us` and `slot_us` are those of the firing. It has no idempotency key."""
    catch_up: CatchUp = "latest"
    catch_up_limit: int = 100
    """Most missed slots that fire, the latest ones; also most slots that wait under `overlap="queue"`."""
    overlap: Overlap = "allow"
    jitter_us: int = 0
    """A job is due up to this much after its slot, always the same for one slot."""
    starts_at_us: int | None = None
    """It has no earlier slots."""
    ends_at_us: int | None = None
    """It has no later slots."""
    late_after_us: int | None = None
    """An entry without a success for this long is late; None: see `policy.cron.late`."""


class DeclaredCrons(msgspec.Struct, frozen=True, kw_only=True):
    """All entries that an app or a file declares. What it declared before and no longer does becomes an orphan."""

    origin: Origin
    app: str = ""
    """The file, or the app; empty: the app of the supervisor that runs it."""
    specs: tuple[CronSpec, ...] = ()


class NewCron(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as handed to a store."""

    spec: CronSpec
    origin: Origin
    app: str = ""
    """The app or file that declares it. Only the same one can make the entry an orphan."""
    decided_until_us: int
    """When it is added: it has no slots up to this wall time."""
    next_slot_us: int | None


class OpenFiring(msgspec.Struct, frozen=True, kw_only=True):
    """A firing whose job had not ended when the entry was last decided about."""

    slot_us: int
    job_id: int
    state: JobState
    """Now. A job that is gone counts as cancelled."""
    completed_at_us: int | None


class CronEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as a store keeps it."""

    id: int
    spec: CronSpec
    origin: Origin
    app: str
    revision: int
    """Grows with every change of the entry; a decision holds only for the revision it was made for."""
    is_enabled: bool
    is_orphan: bool
    """Its app no longer declares it, so it fires no more."""
    created_at_us: int
    enabled_at_us: int
    """When it was last added, enabled, declared again or given another schedule: its slots begin after this."""
    decided_until_us: int
    """All slots up to this wall time have fired or were skipped."""
    next_slot_us: int | None
    """The first slot after that; None: there is none."""
    boot_id: str | None = None
    """The boot in which an `@reboot` entry last fired."""
    last_slot_us: int | None = None
    """The slot that fired last; by hand, that may be one of long ago."""
    last_fired_us: int | None = None
    """When that was."""
    last_job_id: int | None = None
    """The job of that slot."""
    last_success_us: int | None = None
    """When a job of it last completed, as far as decisions have seen it."""
    late_since_us: int | None = None
    open: tuple[OpenFiring, ...] = ()
    """Oldest slot first, at most 1000."""
    unreadable: str = ""
    """What of its row cannot be read, because another program wrote it. Then it is shown as far as it can be, as
    disabled; its app's next sync mends a spec, else remove it and add it anew."""

    @property
    def may_fire(self) -> bool:
        """Whether it is enabled and its app still declares it."""
        return self.is_enabled and not self.is_orphan

    @property
    def open_jobs(self) -> list[int]:
        """Its jobs that have not ended, the one of the oldest slot first."""
        return [each.job_id for each in self.open if not each.state.is_terminal]


class Firing(msgspec.Struct, frozen=True):
    """A slot that fires."""

    slot_us: int
    run_at_us: int
    """When its job is due."""


class SkippedSlots(msgspec.Struct, frozen=True):
    """All slots of an entry from `first_us` to `last_us` were skipped."""

    first_us: int
    last_us: int
    reason: str
    at_us: int
    """When that was decided."""


class CronDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What is to happen to an entry now; a store does all of it in one transaction, or nothing."""

    cron_id: int
    revision: int
    fires: Sequence[Firing] = ()
    skips: Sequence[SkippedSlots] = ()
    cancels: Sequence[int] = ()
    """Jobs to cancel (`overlap="replace"`)."""
    closes: Sequence[int] = ()
    """Slots of open firings whose jobs have ended."""
    decided_until_us: int
    next_slot_us: int | None
    boot_id: str | None = None
    """None: as it was."""
    last_success_us: int | None = None
    """None: as it was."""
    late_since_us: int | None = None
    """None: it is not late."""


class FiredSlot(msgspec.Struct, frozen=True):
    """A slot that fired."""

    slot_us: int
    fired_at_us: int
    job_id: int


class CronHistory(msgspec.Struct, frozen=True):
    """What became of an entry's last slots, the newest first."""

    fired: Sequence[FiredSlot]
    skipped: Sequence[SkippedSlots]


class CronSync(msgspec.Struct, frozen=True, kw_only=True):
    """What a sync of an app's declared entries has changed, by their names."""

    added: Sequence[str] = ()
    changed: Sequence[str] = ()
    orphaned: Sequence[str] = ()
    taken: Sequence[str] = ()
    """Not added: another origin has an entry of that name."""
