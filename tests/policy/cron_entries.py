"""Entries for tests about cron, and what a store makes of decisions about them."""

import msgspec

from mpdispatch.model import CronEntry, CronSpec, JobState, NewJob, OpenFiring
from mpdispatch.policy.cron.due import Look, next_slot_us
from mpdispatch.policy.cron.expression import parse
from mpdispatch.policy.cron.plan import plan
from tests.policy.cron_times import us

NOON = us("2026-11-30 12:00")
RUNNING, COMPLETED, FAILED = JobState.RUNNING, JobState.COMPLETED, JobState.FAILED


def spec_of(schedule="* * * * *", *, tz="UTC", name="nightly", **fields) -> CronSpec:
    return CronSpec(name=name, schedule=schedule, tz=tz, job=NewJob(name="render", payload=b"{}"), **fields)


def entry_of(schedule="* * * * *", *, at_us=NOON, tz="UTC", name="nightly", entry=None, **fields) -> CronEntry:
    """An entry that was added (and enabled) at `at_us`; `entry`: fields of the entry, `fields`: of its spec."""
    spec = spec_of(schedule, tz=tz, name=name, **fields)
    made = CronEntry(
        id=7,
        spec=spec,
        origin="user",
        app="",
        revision=1,
        is_enabled=True,
        is_orphan=False,
        created_at_us=at_us,
        enabled_at_us=at_us,
        decided_until_us=at_us,
        next_slot_us=next_slot_us(spec, parse(schedule, tz, anchor_us=at_us), at_us),
    )
    return msgspec.structs.replace(made, **(entry or {}))


def open_firing(job_id=41, state=RUNNING, *, slot_us=NOON, completed_at_us=None) -> OpenFiring:
    return OpenFiring(slot_us=slot_us, job_id=job_id, state=state, completed_at_us=completed_at_us)


def decide(entry, now_us, *, present_since_us=0, **facts):
    """What is decided about an entry by somebody who has been present all the time, unless it is said otherwise."""
    return plan(entry, Look(now_us, present_since_us, **facts))


def applied(entry: CronEntry, decision, now_us: int, fired: dict[int, int]) -> CronEntry:
    """The entry after a decision, as a store has it. `fired`: job ids by slot, which it adds to."""
    assert (decision.cron_id, decision.revision) == (entry.id, entry.revision)
    left = [each for each in entry.open if each.slot_us not in decision.closes]
    new = [each for each in decision.fires if each.slot_us not in fired]
    for each in new:
        fired[each.slot_us] = 1 + len(fired)
        left.append(open_firing(fired[each.slot_us], JobState.PENDING, slot_us=each.slot_us))
    return msgspec.structs.replace(
        entry,
        revision=entry.revision + 1,
        open=tuple(sorted(left, key=lambda each: each.slot_us)),
        decided_until_us=decision.decided_until_us,
        next_slot_us=decision.next_slot_us,
        boot_id=decision.boot_id,
        last_success_us=decision.last_success_us,
        late_since_us=decision.late_since_us,
        last_slot_us=new[-1].slot_us if new else entry.last_slot_us,
        last_fired_us=now_us if new else entry.last_fired_us,
    )
