"""`engine.crons`: what people do to the cron entries of a store. No supervisor runs here."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mpdispatch import (
    CronExistsError,
    CronNotFoundError,
    Engine,
    PayloadError,
    UnknownJobError,
    UsageError,
    hooks,
)
from mpdispatch.engine.client import JobClient
from mpdispatch.engine.crons.slots import MOST_BACKFILLED
from mpdispatch.model.json import to_json
from mpdispatch.store import open_store


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = Engine.open(tmp_path / "jobs.db", durability="process")

    @engine.job(queue="bulk", priority=4, max_retries=9, timeout=60)
    def report(days: int = 1) -> None: ...

    @engine.job
    def needy(path: str) -> None: ...

    return engine


def soon(**difference: float) -> datetime:
    return datetime.now(UTC) + timedelta(**difference)


# ---------------------------------------------------------------- adding


def test_an_entry_has_what_was_said_and_the_defaults_of_its_handler(engine: Engine) -> None:
    made = engine.crons.add(
        *("nightly", "0 3 * * *"),
        job="report",
        args={"days": 7},
        tz="Europe/Berlin",
        catch_up="all",
        overlap="skip",
        queue="fast",
        expires="1h",
    )
    assert engine.crons.get("nightly") == made
    assert engine.crons.list() == [made]
    facts = to_json(made)
    assert list(facts)[:14] == [
        *("id", "name", "schedule", "tz", "job_name", "queue", "payload", "enabled", "last_run_at"),
        *("last_job_id", "next_run_at", "is_late", "catch_up", "overlap"),
    ]
    assert (made.job_name, made.queue, made.payload, made.priority) == ("report", "fast", {"days": 7}, 4)
    assert (made.max_retries, made.timeout, made.origin, made.enabled) == (9, 60, "user", True)
    assert made.expires == 3600
    assert made.next_run_at is not None
    assert made.next_run_at.astimezone(__import__("zoneinfo").ZoneInfo("Europe/Berlin")).hour == 3
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT0[12]:00:00\.000000Z", facts["next_run_at"])


def test_a_handler_may_stand_for_its_name(engine: Engine) -> None:
    assert engine.crons.add("a", "@daily", job=engine.job("other")(lambda: None)).job_name == "other"


def test_entries_are_listed_by_name(engine: Engine) -> None:
    for name in ("b", "a", "c"):
        engine.crons.add(name, "@daily", job="report")
    assert [each.name for each in engine.crons.list()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"schedule": "0 25 * * *"}, UsageError, "schedule: the hour must be"),
        ({"schedule": "@once 2020-01-01"}, UsageError, "schedule: .* has no slot from now on"),
        ({"ends_at": "2020-01-01"}, UsageError, "has no slot from now on"),
        ({"tz": "Nowhere"}, UsageError, "tz: "),
        ({"tz": 5}, UsageError, "tz: must be text"),
        ({"job": "reprot"}, UnknownJobError, "reprot"),
        ({"job": len}, UsageError, "job: must be a handler or the name of one, not <built-in"),
        ({"job": "needy"}, PayloadError, "path: is missing"),
        ({"args": {"dys": 1}}, PayloadError, "dys"),
        ({"args": [1]}, UsageError, "args: must be a mapping"),
        ({"queue": ""}, UsageError, "queue must not be empty"),
        ({"max_retries": -1}, UsageError, "max_retries: "),
        ({"name": ""}, UsageError, "name must not be empty"),
        ({"nonsense": 1}, UsageError, "nonsense: no such setting"),
        ({"delay": 5}, UsageError, "delay: no such setting"),
        ({"expires": datetime(2026, 1, 1, tzinfo=UTC)}, UsageError, "expires: a cron entry takes how long"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_added(
    engine: Engine, change: dict[str, Any], error: type[Exception], text: str
) -> None:
    given: dict[str, Any] = {"name": "nightly", "schedule": "@daily", "job": "report"} | change
    with pytest.raises(error, match=text):
        engine.crons.add(given.pop("name"), given.pop("schedule"), **given)
    engine.store.migrate()
    assert engine.crons.list() == []


def test_a_name_is_taken_once(engine: Engine) -> None:
    first = engine.crons.add("nightly", "@daily", job="report")
    with pytest.raises(CronExistsError, match="there is a cron entry 'nightly' already"):
        engine.crons.add("nightly", "@hourly", job="report")
    assert engine.crons.list() == [first]


def test_a_client_without_handlers_keeps_names_and_arguments_as_given(tmp_path: Path) -> None:
    client = JobClient.of(open_store(tmp_path / "jobs.db"))
    made = client.crons.add("nightly", "@daily", job="anything", args={"x": 1}, timeout="1h")
    assert (made.job_name, made.payload, made.queue, made.timeout) == ("anything", {"x": 1}, "default", 3600)
    with pytest.raises(UsageError, match="reserved"):
        client.crons.add("other", "@daily", job="mpdispatch.command")


# ---------------------------------------------------------------- one that there is not


@pytest.mark.parametrize(
    "call",
    [
        lambda crons: crons.get("nigthly"),
        lambda crons: crons.enable("nigthly"),
        lambda crons: crons.disable("nigthly"),
        lambda crons: crons.delete("nigthly"),
        lambda crons: crons.trigger("nigthly"),
        lambda crons: crons.backfill("nigthly", "2026-01-01", "2026-01-02"),
        lambda crons: crons.history("nigthly"),
        lambda crons: crons.explain("nigthly"),
        lambda crons: crons.preview("nigthly"),
    ],
)
def test_a_wrong_name_gets_a_hint(engine: Engine, call: Callable[[Any], object]) -> None:
    engine.crons.add("nightly", "@daily", job="report")
    with pytest.raises(CronNotFoundError, match="there is no cron entry 'nigthly'; did you mean 'nightly'"):
        call(engine.crons)


def test_an_unknown_name_gets_the_names_of_some_entries(engine: Engine) -> None:
    for number in range(22):
        engine.crons.add(f"entry-{number:02}", "@daily", job="report")
    with pytest.raises(CronNotFoundError, match=r"there are: entry-00, .*entry-19 and 2 more$"):
        engine.crons.get("quite another one")


@pytest.mark.parametrize(
    ("field", "value"), [("schedule", "61 * * * *"), ("tz", "Europe/Gone")], ids=["schedule", "zone"]
)
def test_an_entry_that_cannot_be_read_hides_no_others(
    engine: Engine, tmp_path: Path, field: str, value: str
) -> None:
    for name in ("a", "b", "c"):
        engine.crons.add(name, "@daily", job="report")
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection, connection:
        spec = f"json_set(spec, '$.{field}', ?)"
        connection.execute(f"UPDATE mpdispatch_crons SET spec = {spec} WHERE name = 'b'", (value,))
    a, b, c = engine.crons.list()
    assert not a.unreadable
    assert not c.unreadable
    assert b.unreadable.startswith(f"{field}: ")
    assert (b.next_run_at, b.is_late) == (None, False)
    with pytest.raises(UsageError, match=f"{field}: "):
        engine.crons.preview("b", since="2026-11-29")


# ---------------------------------------------------------------- enabling, firing


def test_a_disabled_entry_has_no_next_run_until_it_is_enabled(engine: Engine) -> None:
    made = engine.crons.add("nightly", "@daily", job="report")
    off = engine.crons.disable("nightly")
    assert (off.enabled, off.next_run_at) == (False, None)
    assert engine.crons.disable("nightly") == off
    on = engine.crons.enable("nightly")
    assert (on.enabled, on.next_run_at) == (True, made.next_run_at)
    assert on.enabled_at > made.enabled_at
    assert engine.crons.enable("nightly") == on


def test_a_deleted_entry_is_gone_and_its_jobs_stay(engine: Engine) -> None:
    engine.crons.add("nightly", "@daily", job="report")
    job = engine.crons.trigger("nightly")
    engine.crons.delete("nightly")
    assert engine.crons.list() == []
    assert engine.get_job(job.id).name == "report"
    assert engine.crons.add("nightly", "@hourly", job="report").last_job_id is None


def test_a_trigger_fires_now_whatever_the_schedule_says(engine: Engine) -> None:
    engine.crons.add("nightly", "@yearly", job="report", args={"days": 2}, jitter="1h")
    engine.crons.disable("nightly")
    first, second = engine.crons.trigger("nightly"), engine.crons.trigger("nightly")
    assert (first.payload, first.queue, first.priority) == ({"days": 2}, "bulk", 4)
    assert first.id != second.id
    assert abs(first.run_at - datetime.now(UTC)) < timedelta(seconds=30)
    entry = engine.crons.get("nightly")
    assert entry.last_job_id == second.id
    assert entry.open_jobs == [first.id, second.id]
    assert [each.job_id for each in engine.crons.history("nightly")] == [second.id, first.id]


def test_hooks_are_told_of_jobs_that_are_fired_by_hand(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Notes(hooks.Extension):
        def on_job_enqueued(self, event: hooks.JobEnqueued) -> None:
            seen.append(event)

        def on_cron_fired(self, event: hooks.CronFired) -> None:
            seen.append(event)

    from mpdispatch import Dispatcher, SQLiteStore

    engine = Engine.build(Dispatcher(store=SQLiteStore(tmp_path / "jobs.db")), extensions=[Notes()])
    engine.job("report")(lambda: None)
    engine.crons.add("nightly", "@daily", job="report")
    job = engine.crons.trigger("nightly")
    assert engine.hooks.queue().drain(5)
    enqueued, fired = seen
    assert (type(enqueued), enqueued.job_id) == (hooks.JobEnqueued, job.id)
    assert (type(fired), fired.job_id, fired.entry, fired.slot_at) == (
        *(hooks.CronFired, job.id, "nightly"),
        job.slot,
    )


# ---------------------------------------------------------------- backfill


def test_a_backfill_fires_each_slot_of_the_range_once(engine: Engine) -> None:
    engine.crons.add("nightly", "0 3 * * *", job="report", tz="Europe/Berlin")
    made = engine.crons.backfill("nightly", "2026-10-24", "2026-10-27")
    assert [to_json(each.slot) for each in made] == [
        "2026-10-24T01:00:00.000000Z",
        "2026-10-25T02:00:00.000000Z",  # the clocks were set back before
        "2026-10-26T02:00:00.000000Z",
    ]
    assert all(abs(each.run_at - datetime.now(UTC)) < timedelta(seconds=30) for each in made)
    again = engine.crons.backfill("nightly", date(2026, 10, 26), datetime(2026, 10, 28, 2, 0, 1, tzinfo=UTC))
    assert [to_json(each.slot) for each in again] == [
        "2026-10-27T02:00:00.000000Z",
        "2026-10-28T02:00:00.000000Z",
    ]


def test_from_is_inclusive_and_to_is_not(engine: Engine) -> None:
    engine.crons.add("each", "* * * * *", job="report", tz="UTC")
    made = engine.crons.backfill("each", "2026-10-24T00:01Z", "2026-10-24T00:03Z")
    assert [to_json(each.slot)[14:16] for each in made] == ["01", "02"]


def test_slots_that_have_not_come_are_left_to_the_schedule(engine: Engine) -> None:
    engine.crons.add("each", "@hourly", job="report", tz="UTC")
    made = engine.crons.backfill("each", soon(hours=-2), soon(days=30))
    assert len(made) == 2


def test_a_window_counts_for_a_backfill_too(engine: Engine) -> None:
    engine.crons.add("each", "@daily", job="report", tz="UTC", starts_at="2026-10-03", ends_at="2126-10-05")
    made = engine.crons.backfill("each", "2026-10-01", "2026-10-05")
    assert [to_json(each.slot)[:10] for each in made] == ["2026-10-03", "2026-10-04"]


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        ("2026-10-02", "2026-10-01", "to: must be later than from: .* is backwards or empty"),
        ("2026-10-02", "2026-10-02", "to: must be later than from"),
        ("yesterday", "2026-10-02", "from: must be a date or a time"),
        ("2026-10-02", 5, "to: must be a date or a time"),
        ("1990-01-01", "2026-10-02", f"to: the range holds more than {MOST_BACKFILLED:,} slots"),
    ],
)
def test_a_bad_range_is_refused_and_fires_nothing(engine: Engine, start: Any, end: Any, text: str) -> None:
    engine.crons.add("each", "* * * * *", job="report")
    with pytest.raises(UsageError, match=text):
        engine.crons.backfill("each", start, end)
    assert sum(engine.counts().values()) == 0


def test_a_long_backfill_goes_in_several_transactions(engine: Engine) -> None:
    engine.crons.add("each", "* * * * *", job="report", tz="UTC")
    assert len(engine.crons.backfill("each", "2026-10-01", "2026-10-02")) == 1440
    assert sum(engine.counts().values()) == 1440


def test_an_entry_without_slots_by_the_clock_has_nothing_to_backfill(engine: Engine) -> None:
    assert engine.crons.add("start", "@startup", job="report").next_run_at is None
    with pytest.raises(UsageError, match="'start' has no slots by the clock: @startup"):
        engine.crons.backfill("start", "2026-10-01", "2026-10-02")


# ---------------------------------------------------------------- preview


def test_an_expression_is_previewed_without_an_entry_or_a_store(engine: Engine) -> None:
    found = engine.crons.preview("30 2 * * *", 3, tz="Europe/Berlin", since="2026-03-28")
    assert [to_json(each.slot) for each in found] == [
        "2026-03-28T01:30:00.000000Z",
        "2026-03-29T01:00:00.000000Z",
        "2026-03-30T00:30:00.000000Z",
    ]
    assert found[1].note
    with pytest.raises(UsageError, match="schedule: "):
        engine.crons.preview("61 * * * *")
    with pytest.raises(UsageError, match="tz: "):
        engine.crons.preview("@daily", tz="Nowhere")
    with pytest.raises(UsageError, match="count: must be a whole number"):
        engine.crons.preview("@daily", 0)


def test_an_entry_is_previewed_in_its_own_zone(engine: Engine) -> None:
    engine.crons.add("nightly", "0 3 * * *", job="report", tz="Europe/Berlin")
    (first,) = engine.crons.preview("nightly", 1)
    assert first.run_at == engine.crons.get("nightly").next_run_at
    with pytest.raises(UsageError, match="tz: entry 'nightly' has its own zone, Europe/Berlin"):
        engine.crons.preview("nightly", tz="UTC")


def test_a_preview_since_a_downtime_says_what_is_caught_up(engine: Engine) -> None:
    engine.crons.add("daily", "@daily", job="report", tz="UTC", catch_up="latest")
    skipped, caught, *coming = engine.crons.preview("daily", 2, since=soon(days=-4))
    assert skipped.note.startswith("skipped, as all slots until ")
    assert caught.note == "catches up"
    assert caught.slot.date() == datetime.now(UTC).date()
    assert [(each.slot - caught.slot).days for each in coming] == [1, 2]
    assert [each.note for each in coming] == ["", ""]
