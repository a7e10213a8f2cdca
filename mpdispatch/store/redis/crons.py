"""Cron entries of the Redis store: what `store.crons.CronStore` promises, for clients and for supervisors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import msgspec

from mpdispatch.errors import UsageError
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
from mpdispatch.store.redis import arguments
from mpdispatch.store.redis.link import Reply
from mpdispatch.store.redis.records import job_of
from mpdispatch.store.redis.replies import as_enqueued

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_spec_of = lru_cache(maxsize=1024)(msgspec.json.Decoder(CronSpec).decode)


class Read(Protocol):
    def __call__(self, name: str, /, **values: Any) -> Reply: ...


class Write(Protocol):
    def __call__(self, name: str, /, *, create: bool = False, **values: Any) -> Reply: ...


class RedisCrons:
    """A `CronStore` for either face of the store."""

    def __init__(self, read: Read, write: Write, tell: Callable[..., None]) -> None:
        self._read, self._write, self._tell = read, write, tell

    # -- reading --------------------------------------------------------------------------------

    def entries(self) -> list[CronEntry]:
        return [_entry(each) for each in self._read("crons").said["crons"]]

    def entry(self, name: str) -> CronEntry:
        return _entry(self._read("cron", name=name).said["crons"][0])

    def history(self, name: str, limit: int) -> CronHistory:
        if limit < 1:
            raise UsageError(f"limit must be 1 or more, not {limit}")
        said = self._read("cron_history", name=name, limit=limit).said
        return CronHistory(
            [FiredSlot(*each) for each in said["fired"]], [SkippedSlots(*each) for each in said["skipped"]]
        )

    # -- declaring ------------------------------------------------------------------------------

    def add(self, *new: NewCron) -> list[CronEntry]:
        reply = self._write("cron_add", create=True, crons=[_declared(each) for each in new])
        return self._changed([_entry(each) for each in reply.said["crons"]])

    def sync(self, origin: Origin, app: str, declared: Sequence[NewCron]) -> CronSync:
        values: dict[str, Any] = {"origin": origin, "app": app, "crons": [_declared(each) for each in declared]}
        return self._changed(msgspec.convert(_said(self._write("cron_sync", create=True, **values)), CronSync))

    def set_enabled(
        self, name: str, is_enabled: bool, *, decided_until_us: int, next_slot_us: int | None
    ) -> CronEntry:
        reply = self._write(
            "cron_enable", name=name, is_enabled=is_enabled, decided=decided_until_us, next_slot=next_slot_us
        )
        return self._changed(_entry(reply.said["crons"][0]))

    def delete(self, name: str) -> None:
        self._write("cron_delete", name=name)

    def _changed(self, result: T) -> T:
        # A slot may be due sooner than a supervisor would look.
        self._tell(work=True)
        return result

    # -- firing ---------------------------------------------------------------------------------

    def decide(self, decision: CronDecision) -> list[Job] | None:
        values: dict[str, Any] = {
            "id": decision.cron_id,
            "revision": decision.revision,
            "fires": [(each.slot_us, each.run_at_us) for each in decision.fires],
            "skips": [
                {"first": each.first_us, "last": each.last_us, "reason": each.reason, "at": each.at_us}
                for each in decision.skips
            ],
            "cancels": [*decision.cancels],
            "closes": [*decision.closes],
            "decided": decision.decided_until_us,
            "next_slot": decision.next_slot_us,
            "boot": decision.boot_id,
            "last_success": decision.last_success_us,
            "late_since": decision.late_since_us,
        }
        reply = self._write("cron_decide", **values)
        if not reply.said["is_done"]:
            return None
        made = _jobs(reply)
        self._tell(work=bool(made or decision.cancels), ends=bool(decision.cancels))
        return made

    def fire(self, name: str, slots: Sequence[Firing]) -> list[Job]:
        fires = [(each.slot_us, each.run_at_us) for each in slots]
        return self._changed(_jobs(self._write("cron_fire", name=name, fires=fires)))


def _jobs(reply: Reply) -> list[Job]:
    return [job_of(each, as_enqueued(reply.extra_at(place))) for place, each in enumerate(reply.records)]


def _said(reply: Reply) -> dict[str, Any]:
    return {name: reply.said[name] for name in ("added", "changed", "orphaned", "taken")}


def _declared(new: NewCron) -> dict[str, Any]:
    """An entry as the server keeps it: it does not look into the spec, and compares what decides which slots there are."""
    spec = new.spec
    job = msgspec.structs.replace(
        spec.job, run_at_us=None, delay_us=0, slot_us=None, idempotency_key=None, retried_from=None
    )
    return {
        "name": spec.name,
        "spec": _encode(spec).decode(),
        "slots": _encode((spec.schedule, spec.tz, spec.starts_at_us, spec.ends_at_us)).decode(),
        "job": arguments.new_job(job),
        "origin": new.origin,
        "app": new.app,
        "decided": new.decided_until_us,
        "next_slot": new.next_slot_us,
    }


def _entry(said: dict[str, Any]) -> CronEntry:
    return CronEntry(
        id=said["id"],
        spec=_spec_of(said["spec"]),
        origin=said["origin"],
        app=said["app"],
        revision=said["revision"],
        is_enabled=said["is_enabled"],
        is_orphan=said["is_orphan"],
        created_at_us=said["created"],
        enabled_at_us=said["enabled"],
        decided_until_us=said["decided"],
        next_slot_us=said.get("next_slot"),
        boot_id=said.get("boot"),
        last_slot_us=said.get("last_slot"),
        last_fired_us=said.get("last_fired"),
        last_job_id=said.get("last_job"),
        last_success_us=said.get("last_success"),
        late_since_us=said.get("late_since"),
        open=tuple(
            OpenFiring(slot_us=slot, job_id=job_id, state=JobState(state), completed_at_us=done or None)
            for slot, job_id, state, done in said.get("open") or ()
        ),
    )
