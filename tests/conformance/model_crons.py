"""The rules of cron entries, over dicts: part of the specification that every store is compared with.

    add, sync ─▶ enabled ◀──▶ disabled        a slot ──decide──▶ fired (open ──decide──▶ closed) ──delete──▶ gone
                    │▲                               └─decide──▶ skipped
              sync  ▼│ sync
                   orphan

An entry's revision is a store's own: it only has to grow whenever the entry changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from mpdispatch.errors import CronExistsError, CronNotFoundError, UsageError
from mpdispatch.model import (
    CronDecision,
    CronEntry,
    CronHistory,
    CronSpec,
    CronSync,
    FiredSlot,
    Firing,
    Job,
    JobState,
    NewCron,
    OpenFiring,
    Origin,
    SkippedSlots,
)

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Crons"]


@dataclass(kw_only=True)
class Kept:
    """An entry and everything kept of it."""

    entry: CronEntry
    """Without its open firings."""
    fired: dict[int, FiredSlot] = field(default_factory=dict)
    """By slot."""
    open: set[int] = field(default_factory=set)
    """The slots whose jobs have not ended, as far as decisions have seen it."""
    skipped: list[SkippedSlots] = field(default_factory=list)

    def change(self, **changes: Any) -> None:
        revision = self.entry.revision + 1
        self.entry = msgspec.structs.replace(self.entry, revision=revision, **changes)


class Crons:
    """A `CronStore`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._kept: dict[str, Kept] = {}
        """By name."""
        self._last_id = 0

    # ------------------------------------------------------------------------------------ reading

    def entries(self) -> list[CronEntry]:
        return [self.entry(name) for name in sorted(self._kept)]

    def entry(self, name: str) -> CronEntry:
        kept = self._named(name)
        firings = tuple(self._open_firing(kept.fired[slot_us]) for slot_us in sorted(kept.open))
        return msgspec.structs.replace(kept.entry, open=firings)

    def history(self, name: str, limit: int) -> CronHistory:
        if limit < 1:
            raise UsageError(f"limit must be 1 or more, not {limit}")
        kept = self._named(name)
        fired = sorted(kept.fired.values(), key=lambda each: -each.slot_us)
        skipped = sorted(kept.skipped, key=_newest)
        return CronHistory(fired[:limit], skipped[:limit])

    def _named(self, name: str) -> Kept:
        if name not in self._kept:
            raise CronNotFoundError(name)
        return self._kept[name]

    def _open_firing(self, fired: FiredSlot) -> OpenFiring:
        # A job that was pruned is not told from one that was cancelled.
        row = self._model._rows.get(fired.job_id)
        state, completed_at_us = (JobState.CANCELLED, None) if row is None else (row.state, row.completed_at_us)
        return OpenFiring(
            slot_us=fired.slot_us, job_id=fired.job_id, state=state, completed_at_us=completed_at_us
        )

    # ------------------------------------------------------------------------------------ what people and apps do

    def add(self, *new: NewCron) -> list[CronEntry]:
        origins = {name: kept.entry.origin for name, kept in self._kept.items()}
        for each in new:
            if each.spec.name in origins:
                raise CronExistsError(each.spec.name, origins[each.spec.name])
            origins[each.spec.name] = each.origin
        return [self._add(each) for each in new]

    def _add(self, new: NewCron) -> CronEntry:
        name = new.spec.name
        # An id is never used again: a decision made for a deleted entry must not hit the next one of its name.
        self._last_id += 1
        self._kept[name] = Kept(
            entry=CronEntry(
                id=self._last_id,
                spec=new.spec,
                origin=new.origin,
                app=new.app,
                revision=1,
                is_enabled=True,
                is_orphan=False,
                created_at_us=self._model._clock.now().wall_us,
                enabled_at_us=new.decided_until_us,
                decided_until_us=new.decided_until_us,
                next_slot_us=new.next_slot_us,
            )
        )
        return self.entry(name)

    def sync(self, origin: Origin, app: str, declared: Sequence[NewCron]) -> CronSync:
        added, changed, taken = list[str](), list[str](), list[str]()
        for new in declared:
            name, kept = new.spec.name, self._kept.get(new.spec.name)
            if kept is None:
                self._add(msgspec.structs.replace(new, origin=origin, app=app))
                added.append(name)
            elif kept.entry.origin != origin:
                taken.append(name)
            elif kept.entry.is_orphan or (kept.entry.app, kept.entry.spec) != (app, new.spec):
                # It keeps its place if it keeps its slots: a slot that was missed is caught up, whatever else is new.
                keeps_place = not kept.entry.is_orphan and _slots(kept.entry.spec) == _slots(new.spec)
                kept.change(spec=new.spec, app=app, is_orphan=False)
                if not keeps_place:
                    self._begin_anew(kept, new.decided_until_us, new.next_slot_us)
                changed.append(name)
        names = {new.spec.name for new in declared}
        orphaned = [
            name
            for name, kept in sorted(self._kept.items())
            if (kept.entry.origin, kept.entry.app) == (origin, app)
            and not kept.entry.is_orphan
            and name not in names
        ]
        for name in orphaned:
            self._kept[name].change(is_orphan=True, next_slot_us=None, late_since_us=None)
        return CronSync(added=added, changed=changed, orphaned=orphaned, taken=taken)

    def set_enabled(
        self, name: str, is_enabled: bool, *, decided_until_us: int, next_slot_us: int | None
    ) -> CronEntry:
        kept = self._named(name)
        if is_enabled and not kept.entry.is_enabled:
            kept.change(is_enabled=True)
            self._begin_anew(kept, decided_until_us, next_slot_us)
        elif kept.entry.is_enabled and not is_enabled:
            kept.change(is_enabled=False, next_slot_us=None, late_since_us=None)
        return self.entry(name)

    def _begin_anew(self, kept: Kept, decided_until_us: int, next_slot_us: int | None) -> None:
        fires = kept.entry.is_enabled and not kept.entry.is_orphan
        kept.change(
            enabled_at_us=decided_until_us,
            decided_until_us=decided_until_us,
            next_slot_us=next_slot_us if fires else None,
            late_since_us=None,
        )

    def delete(self, name: str) -> None:
        # Its jobs stay. They are as any other job then.
        self._named(name)
        del self._kept[name]

    # ------------------------------------------------------------------------------------ firing

    def decide(self, decision: CronDecision) -> list[Job] | None:
        decided_for = (decision.cron_id, decision.revision)
        found = [each for each in self._kept.values() if (each.entry.id, each.entry.revision) == decided_for]
        if not found:
            return None
        (kept,) = found
        kept.open.difference_update(decision.closes)
        for job_id in decision.cancels:
            row = self._model._rows.get(job_id)
            if row is not None and not row.state.is_terminal:
                self._model.cancel(job_id)
        for skipped in decision.skips:
            self._skip(kept, skipped)
        made = self._fire(kept, decision.fires)
        kept.change(
            decided_until_us=decision.decided_until_us,
            next_slot_us=decision.next_slot_us,
            boot_id=decision.boot_id or kept.entry.boot_id,
            last_success_us=decision.last_success_us or kept.entry.last_success_us,
            late_since_us=decision.late_since_us,
        )
        return made

    def fire(self, name: str, slots: Sequence[Firing]) -> list[Job]:
        return self._fire(self._named(name), slots)

    def _fire(self, kept: Kept, firings: Iterable[Firing]) -> list[Job]:
        made, now_us = list[Job](), self._model._clock.now().wall_us
        for slot_us, run_at_us in map(msgspec.structs.astuple, firings):
            if slot_us in kept.fired:
                continue  # whatever the clock did meanwhile
            job = self._model.enqueue(
                msgspec.structs.replace(
                    kept.entry.spec.job,
                    run_at_us=run_at_us,
                    delay_us=0,
                    slot_us=slot_us,
                    idempotency_key=None,
                )
            )
            made.append(job)
            kept.fired[slot_us] = FiredSlot(slot_us, now_us, job.id)
            kept.open.add(slot_us)
            kept.change(last_slot_us=slot_us, last_fired_us=now_us, last_job_id=job.id)
        return made

    def _skip(self, kept: Kept, skipped: SkippedSlots) -> None:
        before = min(kept.skipped, key=_newest, default=None)
        if (
            before is not None
            and before.reason == skipped.reason
            and before.last_us < skipped.first_us
            # Slots before that were none of its, so those between are not skipped for this reason.
            and before.at_us >= kept.entry.enabled_at_us
            and all(slot_us <= before.last_us for slot_us in kept.fired)
        ):
            kept.skipped.remove(before)
            skipped = msgspec.structs.replace(skipped, first_us=before.first_us)
        place = (skipped.first_us, skipped.at_us)
        kept.skipped = [each for each in kept.skipped if (each.first_us, each.at_us) != place]
        kept.skipped.append(skipped)

    # ------------------------------------------------------------------------------------ their jobs

    def retried(self, old_id: int, new_id: int) -> None:
        """The new job takes the place of the old one: the slot is open again."""
        for kept in self._kept.values():
            for slot_us, fired in kept.fired.items():
                if fired.job_id == old_id:
                    kept.fired[slot_us] = msgspec.structs.replace(fired, job_id=new_id)
                    kept.open.add(slot_us)
                    is_last = kept.entry.last_job_id == old_id
                    kept.change(last_job_id=new_id if is_last else kept.entry.last_job_id)

    def keeps(self, job_id: int) -> bool:
        """Whether a decision has yet to see how this job ended."""
        return any(
            kept.fired[slot_us].job_id == job_id
            for kept in self._kept.values()
            if kept.entry.is_enabled and not kept.entry.is_orphan
            for slot_us in kept.open
        )

    def job_ids(self) -> list[int]:
        """The jobs of all slots."""
        return [fired.job_id for fired in chain(*(kept.fired.values() for kept in self._kept.values()))]


def _slots(spec: CronSpec) -> tuple[object, ...]:
    """What decides which slots there are."""
    return spec.schedule, spec.tz, spec.starts_at_us, spec.ends_at_us


def _newest(skipped: SkippedSlots) -> tuple[int, int]:
    return -skipped.first_us, -skipped.at_us
