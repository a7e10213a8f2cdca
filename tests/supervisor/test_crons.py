"""The duty of cron entries, in a supervisor that the test steps, on a clock that it moves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from mpdispatch import hooks
from mpdispatch.clock import SECOND_US
from mpdispatch.events.notices import events_of
from mpdispatch.handlers.crons import new_cron
from mpdispatch.hooks import HOOKS
from mpdispatch.model import CronEntry, CronSpec, DeclaredCrons, Job, JobState, NewCron, NewJob
from mpdispatch.store.sql.crons import SQLCrons
from mpdispatch.store.sqlite import SQLiteStore
from mpdispatch.supervisor.event_publisher import EventPublisher
from tests.supervisor.conftest import Build
from tests.supervisor.house import House, ShiftedClock
from tests.supervisor.peers import Peer

DAY_S = 86_400
SLOW = {"poll_interval": 60.0}


def spec(name: str = "each", schedule: str = "* * * * * *", **options: Any) -> CronSpec:
    job = options.pop("job", NewJob(name="noop", payload=b"{}"))
    return CronSpec(name=name, schedule=schedule, tz=options.pop("tz", "UTC"), job=job, **options)


def add(store: SQLiteStore, clock: ShiftedClock, *specs: CronSpec) -> None:
    for each in specs:
        store.crons.add(new_cron(each, "user", "", clock.now().wall_us))


def started(build: Build, **options: Any) -> House:
    house = build(**{"config": SLOW, **options})
    house.wiring.crons.begin()
    return house


def jobs(house: House) -> list[Job]:
    """All jobs of entries, in the order of their slots."""
    from mpdispatch.store.filters import JobFilter

    found = house.store.list_jobs(JobFilter(), limit=1000, cursor=None).items
    return sorted((each for each in found if each.slot is not None), key=lambda each: each.slot or each.run_at)


def slots(house: House) -> list[int]:
    """Seconds since 1970 of the slots that have fired."""
    return [int(each.slot.timestamp()) for each in jobs(house) if each.slot is not None]


def skipped(house: House, name: str = "each") -> list[tuple[int, int]]:
    """The first and last second of each range that was skipped, the oldest first."""
    found = house.store.crons.history(name, 100).skipped
    return sorted((each.first_us // SECOND_US, each.last_us // SECOND_US) for each in found)


def entry(house: House, name: str = "each") -> CronEntry:
    return house.store.crons.entry(name)


def now_s(house: House) -> int:
    return house.clock.now().wall_us // SECOND_US


# ---------------------------------------------------------------- on time


def test_each_slot_fires_at_its_instant_whatever_the_poll_interval_is(build: Build) -> None:
    house = started(build)
    house.ready()
    add(house.store, house.clock, spec())
    fired = house.until(lambda: jobs(house)[2:] and jobs(house), what="three slots")
    assert slots(house)[:3] == list(range(slots(house)[0], slots(house)[0] + 3))
    late_s = sorted((each.created_at - (each.slot or each.created_at)).total_seconds() for each in fired)
    assert late_s[0] >= 0, "none before its instant"
    assert late_s[1] < 0.1, "the middle one of three: two cores are shared"
    assert house.ended(fired[0].id)[0].state is JobState.COMPLETED


def test_nothing_fires_before_the_app_is_known(build: Build) -> None:
    house = build()
    add(house.store, house.clock, spec())
    house.clock.advance(3)
    house.supervisor.look_around()
    house.steps(5)
    assert jobs(house) == []
    house.wiring.crons.begin()
    house.until(lambda: jobs(house), what="a slot")


def test_nothing_fires_during_a_stop(build: Build, tmp_path: Path) -> None:
    house = started(build)
    job_id = house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    add(house.store, house.clock, spec())
    house.runtime.stop_signal.request()
    house.until(lambda: house.wiring.shutdown.is_on)
    before = slots(house)
    house.clock.advance(5)
    house.steps(20)
    assert slots(house) == before
    (tmp_path / "gate").touch()
    house.until(lambda: house.report, what="the end")
    assert house.state(job_id) is JobState.COMPLETED


@pytest.mark.parametrize("change", ["disabled", "deleted", "orphaned"])
def test_a_change_by_somebody_else_counts_at_once(build: Build, change: str) -> None:
    house = started(build)
    made = new_cron(spec(), "code", "tests", house.clock.now().wall_us)
    house.store.crons.sync("code", "tests", [made])
    house.until(lambda: jobs(house), what="a slot")
    match change:
        case "disabled":
            house.store.crons.set_enabled("each", False, decided_until_us=0, next_slot_us=None)
        case "deleted":
            house.store.crons.delete("each")
        case "orphaned":
            house.store.crons.sync("code", "tests", [])
    before = slots(house)
    house.clock.advance(3)
    house.steps(20)
    assert slots(house) == before


def test_an_entry_that_cannot_be_read_does_not_stop_the_others(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    house = started(build)
    add(house.store, house.clock, spec("good"))
    now_us = house.clock.now().wall_us
    bad = spec("bad", tz="Mars/Olympus")  # another program wrote it, or an update took the zone away
    house.store.crons.add(NewCron(spec=bad, origin="user", decided_until_us=now_us, next_slot_us=now_us))
    with caplog.at_level(logging.ERROR):
        house.until(lambda: jobs(house)[1:], what="two slots of the good one")
    assert {each.name for each in jobs(house)} == {"noop"}
    assert [each.message for each in caplog.records if "cron" in each.message] == [
        "a cron entry cannot be read, so it does not fire"
    ]


# ---------------------------------------------------------------- absence and clocks


@pytest.mark.parametrize(
    ("catch_up", "fires"), [("skip", 0), ("latest", 1), ("all", 4)], ids=["skip", "latest", "all"]
)
def test_three_days_without_a_supervisor(build: Build, clock: ShiftedClock, catch_up: Any, fires: int) -> None:
    clock.freeze()
    first = started(build, clock=clock)
    clock.advance(DAY_S - clock.now().wall_us / SECOND_US % DAY_S + 10 * 3600)  # ten o'clock
    add(first.store, clock, spec(schedule="0 3 * * *", catch_up=catch_up, catch_up_limit=4))
    first.steps(3)
    first.supervisor.leave()
    clock.advance(5 * DAY_S)
    second = started(build, clock=clock)
    second.until(lambda: entry(second).decided_until_us >= clock.now().wall_us, what="a decision")
    today = clock.now().wall_us // SECOND_US // DAY_S * DAY_S + 3 * 3600
    passed = [today - DAY_S * days for days in (4, 3, 2, 1, 0)]
    assert slots(second) == passed[5 - fires :]
    rest = passed[: 5 - fires]
    assert skipped(second) == ([(rest[0], rest[-1])] if rest else [])
    assert all("missed" in each.reason for each in second.store.crons.history("each", 9).skipped)


def test_a_clock_set_back_fires_no_slot_twice_and_goes_on(build: Build, clock: ShiftedClock) -> None:
    clock.freeze()
    house = started(build, clock=clock)
    add(house.store, clock, spec())
    for _ in range(4):
        clock.advance(1)
        house.steps(5)
    before = slots(house)
    assert len(before) == 4
    clock.set_wall(-3)
    for _ in range(5):
        clock.advance(1)
        house.steps(5)
    assert slots(house) == list(range(before[0], before[-1] + 3))


def test_a_clock_set_forth_by_a_day_is_a_downtime_of_a_day(build: Build, clock: ShiftedClock) -> None:
    clock.freeze()
    house = started(build, clock=clock)
    add(house.store, clock, spec("hourly", "0 0 * * * *"))
    clock.set_wall(DAY_S)
    house.clock.advance(6)  # its next look
    house.until(lambda: jobs(house), what="the latest slot")
    house.steps(5)
    hour = now_s(house) // 3600 * 3600
    assert slots(house) == [hour]
    ((_, last),) = skipped(house, "hourly")
    assert last == hour - 3600


def test_a_short_pause_of_the_loop_misses_nothing(build: Build, clock: ShiftedClock) -> None:
    clock.freeze()
    house = started(build, clock=clock)
    add(house.store, clock, spec(catch_up="skip"))
    house.steps(3)
    clock.advance(8)
    house.steps(5)
    assert len(slots(house)) == 8
    assert skipped(house) == []


# ---------------------------------------------------------------- several supervisors


def test_two_supervisors_fire_each_slot_once(build: Build, clock: ShiftedClock) -> None:
    clock.freeze()
    pair = [started(build, clock=clock) for _ in range(2)]
    add(pair[0].store, clock, spec("one"), spec("two"))
    for _ in range(12):
        clock.advance(0.5)
        for house in pair:
            house.steps(2)
    found = [(each.slot, each.name) for each in jobs(pair[0])]
    assert len(found) == len(slots(pair[0])) == 12
    assert [slots(pair[0]).count(second) for second in sorted(set(slots(pair[0])))] == [2] * 6


def test_a_newcomer_leaves_the_slots_before_its_start_to_its_peers_for_a_second(
    build: Build, peer: Callable[..., Peer], clock: ShiftedClock
) -> None:
    clock.freeze()
    other: Peer = peer()
    add(other.store, clock, spec(catch_up="skip"))
    clock.advance(20)  # the other one was there for these slots, and has not decided about them yet
    house = started(build, clock=clock)
    house.steps(5)
    assert (slots(house), skipped(house)) == ([], [])
    clock.advance(1.5)
    house.until(lambda: slots(house), what="the slot since its start")
    assert len(skipped(house)) == 1, "the other one had a second for it"
    assert len(slots(house)) in (11, 12), "of the last ten seconds none was missed: somebody was there"


# ---------------------------------------------------------------- overlap


@pytest.mark.parametrize("overlap", ["allow", "skip", "queue", "replace"])
def test_slots_during_a_slow_job(build: Build, clock: ShiftedClock, overlap: Any, tmp_path: Path) -> None:
    house = started(build, config={**SLOW, "concurrency": 3})
    house.ready()
    gate = tmp_path / "gate"
    payload = f'{{"started": "{tmp_path / "started"}", "gate": "{gate}"}}'.encode()
    slow = NewJob(name="hold", payload=payload)
    add(house.store, clock, spec(overlap=overlap, job=slow, ends_at_us=clock.now().wall_us + 4 * SECOND_US))
    house.until((tmp_path / "started").exists, what="the first job")
    first = jobs(house)[0]
    house.until(
        lambda: clock.now().wall_us > (entry(house).spec.ends_at_us or 0) + SECOND_US, what="four seconds"
    )
    open_slots = slots(house)
    match overlap:
        case "allow":
            assert len(open_slots) == 4
        case "skip":
            assert len(open_slots) == 1
            assert skipped(house) == [(open_slots[0] + 1, open_slots[0] + 3)]
            assert f"job {first.id}" in house.store.crons.history("each", 1).skipped[0].reason
        case "queue":
            assert len(open_slots) == 1
            assert skipped(house) == []
        case "replace":
            assert house.ended(first.id)[0].state is JobState.CANCELLED
    gate.touch()
    if overlap == "queue":
        house.until(lambda: len(slots(house)) == 4, what="the slots that waited, one after the other")
    house.until(
        lambda: jobs(house) and all(each.state.is_terminal for each in jobs(house)), what="all have ended"
    )
    if overlap == "replace":
        assert slots(house)[-1] == open_slots[0] + 3, "the last slot fires in the end"
        assert jobs(house)[-1].state is JobState.COMPLETED
    if overlap == "queue":
        spans = [(each.started_at, each.completed_at) for each in jobs(house)]
        assert all(before[1] <= after[0] for before, after in pairwise(spans))  # type: ignore[operator]


def test_slots_that_wait_for_a_job_are_none_that_a_newcomer_has_missed(
    build: Build, clock: ShiftedClock, tmp_path: Path
) -> None:
    first = started(build, clock=clock)
    first.ready()
    gate = tmp_path / "gate"
    slow = NewJob(name="hold", payload=f'{{"started": "{tmp_path / "started"}", "gate": "{gate}"}}'.encode())
    ends_us = clock.now().wall_us + 4 * SECOND_US
    add(first.store, clock, spec(overlap="queue", catch_up="skip", job=slow, ends_at_us=ends_us))
    first.until((tmp_path / "started").exists, what="the first job")
    first.until(lambda: clock.now().wall_us > ends_us, what="three more slots")
    second = started(build, clock=clock)
    second.until(lambda: second.wiring.crons.next_due() != 0, what="its first look")
    clock.advance(2)
    second.steps(10)
    assert skipped(second) == []
    gate.touch()

    def step_both() -> bool:
        first.step()
        return len(slots(second)) == 4

    second.until(step_both, what="the slots that waited")
    assert skipped(second) == []


# ---------------------------------------------------------------- what is declared


def declaring(*specs: CronSpec, app: str = "") -> tuple[DeclaredCrons, ...]:
    return (DeclaredCrons(origin="code", app=app, specs=specs),)


def test_what_is_declared_is_brought_up_to_date_at_the_start(
    build: Build, clock: ShiftedClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mpdispatch.test.supervisor")
    first = started(build, crons=declaring(spec("a", "@daily"), spec("b", "@daily")))
    add(first.store, clock, spec("mine", "@daily"))
    first.until(lambda: len(first.store.crons.entries()) == 3, what="the entries")
    assert entry(first, "a").app == "tests.pool.app:engine"
    first.supervisor.leave()
    caplog.clear()
    second = started(build, crons=declaring(spec("a", "@hourly"), spec("mine", "@hourly")))
    second.until(lambda: entry(second, "a").spec.schedule == "@hourly", what="the change")
    assert entry(second, "b").is_orphan
    assert (entry(second, "mine").origin, entry(second, "mine").spec.schedule) == ("user", "@daily")
    said = [each.getMessage() for each in caplog.records]
    assert any(text.startswith("brought the cron entries of") for text in said)
    assert any(text.startswith("cron entry b fires no more") for text in said)
    assert any(text.startswith("cron entry mine of") and "is not made" in text for text in said)


def test_what_is_declared_later_is_made_then(build: Build) -> None:
    declared = [declaring(spec("a", "@daily"))]
    house = started(build, crons=lambda: declared[0])
    house.until(lambda: len(house.store.crons.entries()) == 1, what="the first")
    added_us = entry(house, "a").enabled_at_us
    declared[0] = declaring(spec("a", "@daily"), spec("b", "@startup"))
    house.store.wake()
    house.until(lambda: len(house.store.crons.entries()) == 2, what="the second")
    house.steps(10)
    assert entry(house, "a").enabled_at_us == added_us
    assert slots(house) == [], "the start was before"


def test_an_orphan_that_is_declared_again_fires_again(build: Build) -> None:
    first = started(build, crons=declaring(spec()))
    first.until(lambda: jobs(first), what="a slot")
    first.supervisor.leave()
    second = started(build, crons=declaring())
    second.until(lambda: entry(second).is_orphan, what="the orphan")
    second.supervisor.leave()
    count = len(slots(second))
    third = started(build, crons=declaring(spec()))
    third.until(lambda: len(slots(third)) > count, what="another slot")


def test_startup_fires_once_for_each_start(build: Build) -> None:
    for count in (1, 2, 3):
        house = started(build, crons=declaring(spec("hello", "@startup")))
        house.until(lambda house=house, count=count: len(slots(house)) == count, what="its job")
        house.steps(10)
        assert len(slots(house)) == count
        house.supervisor.leave()


def test_reboot_fires_once_for_each_boot_after_it_was_added(build: Build) -> None:
    store = build().store
    early = spec("early", "@reboot")
    store.crons.add(NewCron(spec=early, origin="user", decided_until_us=1, next_slot_us=None))
    add(store, build().clock, spec("late", "@reboot"))
    for boot, count in (("one", 1), ("one", 1), ("two", 2)):
        with patch("mpdispatch.supervisor.crons.boot_id", lambda boot=boot: boot):
            house = started(build)
            house.until(lambda house=house, count=count: len(slots(house)) == count, what="its job")
            house.steps(10)
            assert len(slots(house)) == count
        house.supervisor.leave()
    assert entry(house, "late").last_job_id is None, "there was no boot since it was added"


# ---------------------------------------------------------------- told


class Sink:
    def __init__(self) -> None:
        self.events: list[Any] = []

    def offer(self, notices: list[Any], count: int) -> None:
        for notice in notices:
            self.events += events_of(notice)

    def close(self, timeout_s: float) -> None: ...


def test_hooks_are_told_what_fires_and_once_that_an_entry_is_late(build: Build, clock: ShiftedClock) -> None:
    clock.freeze()
    sink = Sink()
    house = started(build, publisher=EventPublisher(sink, frozenset(HOOKS.values()), clock))
    unknown = NewJob(name="nobody_knows_it", payload=b"{}", queue="bulk")
    add(house.store, clock, spec(job=unknown, late_after_us=2 * SECOND_US))
    for _ in range(12):
        clock.advance(0.5)
        house.steps(3)
    fired = [each for each in sink.events if isinstance(each, hooks.CronFired)]
    enqueued = [each for each in sink.events if isinstance(each, hooks.JobEnqueued)]
    assert (
        [each.job_id for each in fired] == [each.job_id for each in enqueued] == [job.id for job in jobs(house)]
    )
    assert {(each.entry, each.name, each.queue) for each in fired} == {("each", "nobody_knows_it", "bulk")}
    assert [int(each.slot_at.timestamp()) for each in fired] == slots(house)
    (late,) = [each for each in sink.events if isinstance(each, hooks.CronLate)]
    assert (late.entry, late.name, late.last_success_at) == ("each", "nobody_knows_it", None)
    assert (late.late_since - late.at).total_seconds() < 1


# ---------------------------------------------------------------- what it costs


def test_many_entries_of_one_slot_are_decided_in_several_runs_and_read_once(build: Build) -> None:
    house = started(build)
    house.ready()
    add(house.store, house.clock, *(spec(f"e{number:02}") for number in range(20)))
    reads: list[int] = []
    looked = SQLCrons.entries

    def counted(crons: SQLCrons) -> list[CronEntry]:
        reads.append(1)
        return looked(crons)

    with (
        patch("mpdispatch.supervisor.crons._MOST_US", -1),
        patch.object(house.wiring.store.crons, "entries", lambda: counted(house.store.crons)),  # type: ignore[arg-type]
    ):
        house.until(lambda: len(slots(house)) >= 20, what="one slot of each")
    assert len(reads) < 10
    found = slots(house)
    assert found[:20] == [found[0]] * 20


def test_without_entries_a_look_is_rare_however_often_somebody_enqueues(build: Build) -> None:
    calls: list[int] = []
    looked = SQLCrons.entries

    def counted(crons: SQLCrons) -> list[CronEntry]:
        calls.append(1)
        return looked(crons)

    with patch.object(SQLCrons, "entries", counted):
        house = started(build)
        house.ready()
        calls.clear()
        began_us = house.clock.now().boot_us
        while house.clock.now().boot_us - began_us < SECOND_US:
            house.enqueue("noop")
            house.step()
        took_s = (house.clock.now().boot_us - began_us) / SECOND_US
    assert 1 <= len(calls) <= 10 * took_s + 2
