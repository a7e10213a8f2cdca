"""Cron entries in a store: kept, fired, skipped, closed; each slot once, whoever decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mpdispatch.clock import SECOND_US
from mpdispatch.errors import (
    CronExistsError,
    CronNotFoundError,
    StoreMissing,
    UsageError,
)
from mpdispatch.model import (
    CronDecision,
    CronEntry,
    CronHistory,
    CronSpec,
    CronSync,
    FiredSlot,
    Firing,
    JobState,
    NewCron,
    NewJob,
    OpenFiring,
    SkippedSlots,
)
from mpdispatch.store import SQLiteStore
from mpdispatch.store.contract import Store
from mpdispatch.store.crons import CronStore
from mpdispatch.store.filters import PruneFilter
from tests.clock import FakeClock

from .conftest import Desk, Woken, completed, failed

START_US = FakeClock().now().wall_us
HOUR_US = 3600 * SECOND_US
JOB = NewJob(name="sweep", payload=b'{"depth":2}', queue="slow", priority=3, max_retries=0, timeout_us=5)


def new_cron(name: str = "sweep", **changes: Any) -> NewCron:
    """An entry that has not fired, whose next slot is in an hour. Fields of the spec, or of the NewCron."""
    new = {
        "origin": "user",
        "app": "",
        "decided_until_us": START_US,
        "next_slot_us": START_US + HOUR_US,
    }
    spec = {"name": name, "schedule": "@hourly", "tz": "Europe/Berlin", "job": JOB}
    for field, value in changes.items():
        (new if field in NewCron.__struct_fields__ else spec)[field] = value
    return NewCron(spec=CronSpec(**spec), **new)


def slot(hours: float) -> int:
    return START_US + round(hours * HOUR_US)


def decision(entry: CronEntry, *slots: int, **changes: Any) -> CronDecision:
    """Fire these slots, now due, and move on to the next one."""
    until_us = max(slots, default=entry.decided_until_us)
    values: dict[str, Any] = {
        "cron_id": entry.id,
        "revision": entry.revision,
        "fires": [Firing(each, each) for each in slots],
        "decided_until_us": until_us,
        "next_slot_us": until_us + HOUR_US,
    }
    return CronDecision(**{**values, **changes})


def only(crons: CronStore) -> CronEntry:
    (entry,) = crons.entries()
    return entry


@pytest.fixture(params=["client", "supervisor"])
def crons(request: pytest.FixtureRequest, store: Store, desk: Desk) -> CronStore:
    """The entries as each face has them."""
    return store.crons if request.param == "client" else desk.supervisor_store.crons


# ---------------------------------------------------------------- kept


def test_an_entry_is_kept_as_it_was_added(crons: CronStore, store: Store) -> None:
    new = new_cron(
        catch_up="all",
        catch_up_limit=7,
        overlap="replace",
        jitter_us=5,
        starts_at_us=1,
        ends_at_us=2,
        late_after_us=3,
        origin="file",
        app="/etc/shop.yaml",
    )
    (entry,) = crons.add(new)
    assert entry == CronEntry(
        id=entry.id,
        spec=new.spec,
        origin="file",
        app="/etc/shop.yaml",
        revision=1,
        is_enabled=True,
        is_orphan=False,
        created_at_us=START_US,
        enabled_at_us=START_US,
        decided_until_us=START_US,
        next_slot_us=START_US + HOUR_US,
    )
    for face in (store.crons, crons):
        assert face.entry("sweep") == entry
        assert face.entries() == [entry]


def test_entries_come_by_name(crons: CronStore) -> None:
    for name in ("b", "a", "Zürich", "c"):
        crons.add(new_cron(name))
    assert [entry.spec.name for entry in crons.entries()] == ["Zürich", "a", "b", "c"]


@pytest.mark.parametrize("payload", [b"{}", b'{"text":"\xc3\xa9"}', b'{"t":"' + b"x" * 5000 + b'"}'])
def test_the_payload_of_an_entry_is_that_of_its_jobs(crons: CronStore, store: Store, payload: bytes) -> None:
    (entry,) = crons.add(new_cron(job=msgspec.structs.replace(JOB, payload=payload)))
    assert entry.spec.job.payload == payload
    (job,) = crons.decide(decision(entry, slot(1)))
    assert store.enqueue(entry.spec.job).payload == store.get(job.id).payload


@pytest.mark.kinds("file", "memory")
def test_a_payload_that_is_no_text_is_kept(crons: CronStore) -> None:
    (entry,) = crons.add(new_cron(job=msgspec.structs.replace(JOB, payload=b"\xff")))
    assert entry.spec.job.payload == b"\xff"


@pytest.mark.kinds("postgres", "redis", "valkey")
def test_a_payload_that_is_no_text_is_refused_where_json_is_text(crons: CronStore) -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        crons.add(new_cron(job=msgspec.structs.replace(JOB, payload=b"\xff")))
    assert crons.entries() == []


def test_a_name_that_is_taken_is_refused(crons: CronStore) -> None:
    (entry,) = crons.add(new_cron(origin="code", app="shop:engine"))
    with pytest.raises(
        CronExistsError, match=r"name: there is a cron entry 'sweep' already \(declared by: code\)"
    ):
        crons.add(new_cron("other"), new_cron(schedule="@daily"))
    assert only(crons) == entry


def test_a_name_that_does_not_exist_is_said(crons: CronStore) -> None:
    crons.add(new_cron())
    for call in (
        lambda: crons.entry("swep"),
        lambda: crons.set_enabled("swep", True, decided_until_us=1, next_slot_us=1),
        lambda: crons.delete("swep"),
        lambda: crons.fire("swep", [Firing(1, 1)]),
        lambda: crons.history("swep", 10),
    ):
        with pytest.raises(CronNotFoundError, match="no cron entry 'swep'"):
            call()


def test_adding_an_entry_creates_the_store_and_reading_does_not(path: Any) -> None:
    store = SQLiteStore(path)
    for call in (
        store.crons.entries,
        lambda: store.crons.fire("sweep", []),
        lambda: store.crons.delete("sweep"),
    ):
        with pytest.raises(StoreMissing):
            call()
    assert not path.exists()
    store.crons.add(new_cron())
    assert only(store.crons).spec.name == "sweep"
    store.close()


# ---------------------------------------------------------------- fired


def test_a_slot_fires_a_job_in_one_step_with_the_entry(
    crons: CronStore, store: Store, clock: FakeClock
) -> None:
    (entry,) = crons.add(new_cron())
    now = clock.advance(3600)
    fires = [Firing(slot(1), slot(1) + 7)]
    made = crons.decide(
        decision(entry, slot(1), fires=fires, boot_id="b-1", last_success_us=5, late_since_us=6)
    )
    assert made == [store.get(made[0].id)]
    (job,) = made
    assert (job.name, job.queue, job.priority, job.payload) == ("sweep", "slow", 3, {"depth": 2})
    assert (job.max_retries, job.timeout) == (0, 5e-6)
    assert job.state is JobState.SCHEDULED, "its jitter makes it due later"
    assert (us(job.slot), us(job.run_at), us(job.created_at)) == (slot(1), slot(1) + 7, now.wall_us)
    assert only(crons) == msgspec.structs.replace(
        entry,
        revision=only(crons).revision,
        decided_until_us=slot(1),
        next_slot_us=slot(2),
        boot_id="b-1",
        last_slot_us=slot(1),
        last_fired_us=now.wall_us,
        last_job_id=job.id,
        last_success_us=5,
        late_since_us=6,
        open=(OpenFiring(slot_us=slot(1), job_id=job.id, state=JobState.SCHEDULED, completed_at_us=None),),
    )


def us(moment: Any) -> int:
    return round(moment.timestamp() * SECOND_US)


def test_a_decision_for_an_entry_that_has_changed_writes_nothing(crons: CronStore, store: Store) -> None:
    (entry,) = crons.add(new_cron())
    assert len(crons.decide(decision(entry, slot(1)))) == 1
    before = only(crons)
    skips = [SkippedSlots(slot(3), slot(4), "missed", 1)]
    assert crons.decide(decision(entry, slot(2), skips=skips, closes=[slot(1)])) is None
    assert crons.decide(decision(entry, slot(2), cron_id=entry.id + 1)) is None
    assert only(crons) == before
    assert crons.history("sweep", 10).skipped == []
    assert store.counts()[JobState.PENDING] + store.counts()[JobState.SCHEDULED] == 1


@pytest.mark.parametrize("face", ["decide", "fire"])
def test_a_slot_that_has_fired_fires_no_more(crons: CronStore, clock: FakeClock, face: str) -> None:
    crons.add(new_cron())
    first = crons.decide(decision(only(crons), slot(1), slot(2)))
    clock.jump_wall(-86_400)
    if face == "decide":
        second = crons.decide(decision(only(crons), slot(0.5), slot(1), slot(2), slot(3)))
    else:
        second = crons.fire("sweep", [Firing(each, each) for each in (slot(0.5), slot(1), slot(2), slot(3))])
    assert [us(job.slot) for job in second] == [slot(0.5), slot(3)]
    fired = [each.job_id for each in crons.history("sweep", 10).fired]
    assert fired == [second[1].id, first[1].id, first[0].id, second[0].id]


def test_an_idempotency_key_does_not_keep_slots_from_firing(crons: CronStore) -> None:
    (entry,) = crons.add(new_cron(job=msgspec.structs.replace(JOB, idempotency_key="k", retried_from=1)))
    made = crons.decide(decision(entry, slot(1), slot(2)))
    assert len({job.id for job in made}) == 2
    assert {job.idempotency_key for job in made} == {None}


def test_slots_that_are_fired_by_hand_are_open_and_leave_the_place_of_the_entry(crons: CronStore) -> None:
    (entry,) = crons.add(new_cron())
    crons.set_enabled("sweep", False, decided_until_us=1, next_slot_us=1)
    before = only(crons)
    (job,) = crons.fire("sweep", [Firing(slot(-5), slot(0))])
    after = only(crons)
    assert [firing.job_id for firing in after.open] == [job.id]
    assert (after.last_slot_us, after.last_job_id) == (slot(-5), job.id)
    assert (after.decided_until_us, after.is_enabled) == (before.decided_until_us, False)
    assert crons.decide(decision(before)) is None
    assert crons.decide(decision(entry)) is None


# ---------------------------------------------------------------- open, until a decision has seen the end


@pytest.mark.parametrize("end", [completed, failed])
def test_a_firing_stays_open_until_its_slot_is_closed(
    crons: CronStore, desk: Desk, clock: FakeClock, end: Callable[..., Any]
) -> None:
    crons.add(new_cron(job=msgspec.structs.replace(JOB, queue="default")))
    clock.advance(3600)
    (job,) = crons.decide(decision(only(crons), slot(1)))
    (claimed,) = desk.claim()
    assert [firing.state for firing in only(crons).open] == [JobState.RUNNING]
    outcome = end(claimed, clock.advance(5))
    desk.commit(outcome)
    assert only(crons).open == (
        OpenFiring(slot_us=slot(1), job_id=job.id, state=outcome.state, completed_at_us=clock.now().wall_us),
    )
    assert crons.decide(decision(only(crons), closes=[slot(1)])) == []
    assert only(crons).open == ()
    assert [each.job_id for each in crons.history("sweep", 1).fired] == [job.id]


def test_what_a_decision_does_not_know_stays_except_that_the_entry_is_late(crons: CronStore) -> None:
    (entry,) = crons.add(new_cron())
    crons.decide(decision(entry, boot_id="b-1", last_success_us=5, late_since_us=6))
    crons.decide(decision(only(crons)))
    after = only(crons)
    assert (after.boot_id, after.last_success_us, after.late_since_us) == ("b-1", 5, None)


def test_a_job_that_is_gone_counts_as_cancelled(crons: CronStore, store: Store, clock: FakeClock) -> None:
    crons.add(new_cron())
    (job,) = crons.decide(decision(only(crons), slot(1)))
    store.cancel(job.id)
    crons.set_enabled("sweep", False, decided_until_us=1, next_slot_us=1)
    clock.advance(10)
    assert sum(store.prune(PruneFilter(ended_before_us=clock.now().wall_us)).by_state.values()) == 1
    (firing,) = only(crons).open
    assert (firing.job_id, firing.state, firing.completed_at_us) == (job.id, JobState.CANCELLED, None)


def test_of_many_open_firings_the_oldest_are_given_until_they_are_closed(crons: CronStore) -> None:
    crons.add(new_cron())
    crons.fire("sweep", [Firing(each, slot(1)) for each in range(1010)])
    firings = only(crons).open
    assert [firing.slot_us for firing in firings] == [*range(1000)]
    crons.decide(decision(only(crons), closes=range(5)))
    assert [firing.slot_us for firing in only(crons).open] == [*range(5, 1005)]


def test_a_decision_cancels_jobs(crons: CronStore, store: Store, desk: Desk, clock: FakeClock) -> None:
    crons.add(new_cron(job=msgspec.structs.replace(JOB, queue="default")))
    clock.advance(7200)
    done, running, waiting = crons.decide(decision(only(crons), slot(0), slot(1), slot(2)))
    claimed = desk.claim(2)
    desk.commit(completed(claimed[0], clock.now()))
    cancels = [done.id, running.id, waiting.id, 99]
    assert crons.decide(decision(only(crons), cancels=cancels)) == []
    assert store.state_of(done.id) is JobState.COMPLETED
    assert store.state_of(waiting.id) is JobState.CANCELLED
    assert desk.supervisor_store.cancel_requests(desk.owner) == [(running.id, 1)]


@pytest.mark.parametrize("call", ["retry", "replay"])
def test_a_job_enqueued_again_takes_the_place_of_the_old_one(
    crons: CronStore, store: Store, desk: Desk, clock: FakeClock, call: str
) -> None:
    crons.add(new_cron(job=msgspec.structs.replace(JOB, queue="default")))
    clock.advance(3600)
    (old,) = crons.decide(decision(only(crons), slot(1)))
    desk.commit(failed(desk.claim()[0], clock.now()))
    crons.decide(decision(only(crons), closes=[slot(1)]))
    before = only(crons)
    new = getattr(store, call)(old.id)
    assert us(new.slot) == slot(1)
    after = only(crons)
    assert [(firing.slot_us, firing.job_id) for firing in after.open] == [(slot(1), new.id)]
    assert after.last_job_id == new.id
    assert crons.decide(decision(before, closes=[slot(1)])) is None, "it was made for the old job"
    assert crons.history("sweep", 5).fired == [FiredSlot(slot(1), slot(1), new.id)]
    getattr(store, call)(old.id)
    assert only(crons) == after


# ---------------------------------------------------------------- skipped


def skip(crons: CronStore, first: float, last: float, reason: str, **changes: Any) -> None:
    skips = [SkippedSlots(slot(first), slot(last), reason, only(crons).decided_until_us + 1)]
    crons.decide(decision(only(crons), skips=skips, **changes))


def skipped(crons: CronStore) -> list[tuple[float, float, str]]:
    return [
        ((each.first_us - START_US) / HOUR_US, (each.last_us - START_US) / HOUR_US, each.reason)
        for each in crons.history("sweep", 10).skipped
    ]


def test_slots_skipped_for_one_reason_in_a_row_are_one_range(crons: CronStore) -> None:
    crons.add(new_cron())
    skip(crons, 1, 1, "overlap")
    skip(crons, 2, 4, "overlap")
    skip(crons, 5, 5, "missed")
    skip(crons, 6, 6, "overlap")
    skip(crons, 7, 7, "overlap")
    assert skipped(crons) == [(6, 7, "overlap"), (5, 5, "missed"), (1, 4, "overlap")]


def test_a_slot_that_fired_between_divides_them(crons: CronStore) -> None:
    crons.add(new_cron())
    skip(crons, 1, 1, "overlap")
    crons.decide(decision(only(crons), slot(2)))
    skip(crons, 3, 3, "overlap")
    assert skipped(crons) == [(3, 3, "overlap"), (1, 1, "overlap")]


def test_what_passed_while_the_entry_was_disabled_divides_them(crons: CronStore) -> None:
    crons.add(new_cron())
    skip(crons, 1, 1, "overlap")
    crons.set_enabled("sweep", False, decided_until_us=1, next_slot_us=1)
    crons.set_enabled("sweep", True, decided_until_us=slot(5), next_slot_us=slot(6))
    skip(crons, 6, 6, "overlap")
    assert skipped(crons) == [(6, 6, "overlap"), (1, 1, "overlap")]


def test_slots_skipped_again_after_the_clock_was_set_back_are_told_again(crons: CronStore) -> None:
    crons.add(new_cron())
    skip(crons, 1, 5, "overlap")
    skip(crons, 2, 3, "overlap")
    assert skipped(crons) == [(2, 3, "overlap"), (1, 5, "overlap")]


def test_the_history_gives_the_latest(crons: CronStore) -> None:
    crons.add(new_cron())
    crons.add(new_cron("other"))
    for at in range(5):
        crons.decide(decision(crons.entry("sweep"), slot(at)))
        skips = [SkippedSlots(slot(at + 0.5), slot(at + 0.5), "overlap", slot(at + 0.5))]
        crons.decide(decision(crons.entry("sweep"), skips=skips))
    crons.decide(decision(crons.entry("other"), slot(9)))
    found = crons.history("sweep", 2)
    assert [each.slot_us for each in found.fired] == [slot(4), slot(3)]
    assert [each.first_us for each in found.skipped] == [slot(4.5), slot(3.5)]
    with pytest.raises(UsageError, match="limit must be 1 or more, not 0"):
        crons.history("sweep", 0)


# ---------------------------------------------------------------- enabled, disabled, deleted


def test_an_entry_that_is_enabled_again_begins_anew(crons: CronStore) -> None:
    crons.add(new_cron())
    crons.decide(decision(only(crons), late_since_us=9))
    off = crons.set_enabled("sweep", False, decided_until_us=slot(7), next_slot_us=slot(8))
    assert (off.is_enabled, off.decided_until_us, off.next_slot_us) == (False, START_US, None)
    assert off.late_since_us is None
    on = crons.set_enabled("sweep", True, decided_until_us=slot(7), next_slot_us=slot(8))
    assert (on.is_enabled, on.enabled_at_us) == (True, slot(7))
    assert (on.decided_until_us, on.next_slot_us) == (slot(7), slot(8))
    assert only(crons) == on


@pytest.mark.parametrize("is_enabled", [True, False])
def test_an_entry_that_is_so_already_stays_as_it_is(crons: CronStore, is_enabled: bool) -> None:
    crons.add(new_cron())
    before = crons.set_enabled("sweep", is_enabled, decided_until_us=slot(1), next_slot_us=slot(2))
    assert before.is_enabled is is_enabled
    after = crons.set_enabled("sweep", is_enabled, decided_until_us=slot(5), next_slot_us=slot(6))
    assert after == before


def test_a_deleted_entry_leaves_its_jobs_and_no_history(
    crons: CronStore, store: Store, desk: Desk, clock: FakeClock
) -> None:
    crons.add(new_cron(job=msgspec.structs.replace(JOB, queue="default")))
    old = only(crons)
    clock.advance(3600)
    (job,) = crons.decide(decision(old, slot(1), skips=[SkippedSlots(1, 2, "missed", 3)]))
    (claimed,) = desk.claim()
    crons.delete("sweep")
    assert crons.entries() == []
    assert crons.decide(decision(old, slot(2))) is None
    desk.commit(failed(claimed, clock.now()))
    assert store.retry(job.id).state is JobState.PENDING
    (new,) = crons.add(new_cron())
    assert new.id > old.id
    assert new.open == ()
    assert crons.history("sweep", 10) == CronHistory([], [])


def test_a_long_history_is_deleted_in_short_transactions(file_store: SQLiteStore) -> None:
    crons = file_store.crons
    crons.add(new_cron("other"))
    crons.decide(decision(only(crons), slot(1)))
    crons.add(new_cron())
    for at in range(5):
        crons.fire("sweep", [Firing(each, slot(0)) for each in range(at * 1000, at * 1000 + 1000)])
    crons.delete("sweep")
    with pytest.raises(CronNotFoundError):
        crons.history("sweep", 1)
    connection = file_store._sessions.current().connection
    assert connection.execute("SELECT count(*) FROM mpdispatch_cron_slots").fetchone() == (1,)
    assert only(crons).open


# ---------------------------------------------------------------- declared by an app


def declared(*names: str, **changes: Any) -> list[NewCron]:
    return [new_cron(name, origin="code", app="shop:engine", **changes) for name in names]


NOTHING = CronSync(added=[], changed=[], orphaned=[], taken=[])


def test_a_sync_adds_and_orphans(crons: CronStore) -> None:
    crons.add(new_cron("by hand"))
    assert crons.sync("code", "shop:engine", declared("a", "b")) == CronSync(
        added=["a", "b"], changed=[], orphaned=[], taken=[]
    )
    before = crons.entry("b")
    done = crons.sync("code", "shop:engine", declared("b", "c", decided_until_us=slot(9)))
    assert done == CronSync(added=["c"], changed=[], orphaned=["a"], taken=[])
    assert crons.entry("b") == before
    orphan = crons.entry("a")
    assert (orphan.is_orphan, orphan.is_enabled, orphan.next_slot_us) == (True, True, None)
    assert crons.sync("code", "shop:engine", declared("b", "c")) == NOTHING
    assert not crons.entry("by hand").is_orphan


def test_an_orphan_that_is_declared_again_begins_anew(crons: CronStore) -> None:
    crons.sync("code", "shop:engine", declared("a"))
    crons.sync("code", "shop:engine", [])
    new = declared("a", decided_until_us=slot(5), next_slot_us=slot(6))
    assert crons.sync("code", "shop:engine", new).changed == ["a"]
    entry = only(crons)
    assert (entry.is_orphan, entry.enabled_at_us) == (False, slot(5))
    assert (entry.decided_until_us, entry.next_slot_us) == (slot(5), slot(6))


@pytest.mark.parametrize(
    ("change", "begins_anew"),
    [
        ({"schedule": "@daily"}, True),
        ({"tz": "Europe/Paris"}, True),
        ({"starts_at_us": 1}, True),
        ({"ends_at_us": 1}, True),
        ({"overlap": "skip"}, False),
        ({"late_after_us": 1}, False),
        ({"job": msgspec.structs.replace(JOB, payload=b'{"depth":3}')}, False),
        ({"job": msgspec.structs.replace(JOB, queue="other")}, False),
    ],
)
def test_only_an_entry_with_other_slots_begins_anew(
    crons: CronStore, change: dict[str, Any], begins_anew: bool
) -> None:
    crons.sync("code", "shop:engine", declared("a"))
    crons.decide(decision(only(crons), slot(1), late_since_us=4))
    before = only(crons)
    new = declared("a", decided_until_us=slot(5), next_slot_us=slot(6), **change)
    assert crons.sync("code", "shop:engine", new).changed == ["a"]
    after = only(crons)
    assert after.spec == new[0].spec
    assert after.open == before.open
    assert after.revision > before.revision
    place = (after.enabled_at_us, after.decided_until_us, after.next_slot_us, after.late_since_us)
    if begins_anew:
        assert place == (slot(5), slot(5), slot(6), None)
    else:
        assert place == (before.enabled_at_us, before.decided_until_us, before.next_slot_us, 4)


def test_an_orphan_that_is_enabled_has_no_next_slot(crons: CronStore) -> None:
    crons.sync("code", "shop:engine", declared("a"))
    crons.set_enabled("a", False, decided_until_us=1, next_slot_us=None)
    crons.sync("code", "shop:engine", [])
    entry = crons.set_enabled("a", True, decided_until_us=slot(1), next_slot_us=slot(2))
    assert (entry.is_enabled, entry.is_orphan, entry.next_slot_us) == (True, True, None)


def test_a_sync_leaves_an_entry_disabled(crons: CronStore) -> None:
    crons.sync("code", "shop:engine", declared("a"))
    crons.set_enabled("a", False, decided_until_us=1, next_slot_us=1)
    crons.sync("code", "shop:engine", declared("a", schedule="@daily"))
    assert not only(crons).is_enabled
    assert only(crons).next_slot_us is None


def test_an_entry_of_another_app_is_taken_in_and_one_of_another_origin_is_not(crons: CronStore) -> None:
    crons.sync("code", "shop:engine", declared("a", "b"))
    (mine,) = crons.add(new_cron("c", schedule="@daily"))
    done = crons.sync("code", "shop.jobs:engine", declared("a", "c"))
    assert (done.changed, done.taken, done.orphaned) == (["a"], ["c"], [])
    assert crons.entry("a").app == "shop.jobs:engine"
    assert crons.entry("b").app == "shop:engine"
    assert crons.entry("c") == mine
    assert crons.sync("code", "shop:engine", declared("b")).orphaned == []
    assert crons.sync("file", "shop.jobs:engine", []) == NOTHING


# ---------------------------------------------------------------- supervisors are woken


def test_supervisors_are_woken_by_what_makes_a_slot_or_a_job_due(
    crons: CronStore, store: Store, desk: Desk
) -> None:
    woken = Woken(store)
    crons.add(new_cron())
    assert woken.times() == 1
    crons.decide(decision(only(crons)))
    assert woken.times() == 0, "nothing to do"
    (job,) = crons.decide(decision(only(crons), slot(-1)))
    assert woken.times() == 1
    assert woken.times_of_ends() == 0
    crons.decide(decision(only(crons), cancels=[job.id]))
    assert (woken.times(), woken.times_of_ends()) == (1, 1)
    crons.fire("sweep", [Firing(slot(3), slot(0))])
    assert woken.times() == 1
    crons.entries()
    assert woken.times() == 0
