"""Cron entries beside others: rows written by another program, a shared file, retention, and jobs that run on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from mpdispatch.errors import CronNotFoundError, CronUnreadableError
from mpdispatch.model import CronSpec, Firing, JobState, Level, SkippedSlots
from mpdispatch.store import SQLiteStore
from mpdispatch.store.filters import PruneFilter
from tests.clock import FakeClock

from .conftest import Desk, failed
from .odd import ODD, columns_of, look, tamper
from .test_crons import JOB, decision, new_cron, slot

# ---------------------------------------------------------------- unreadable rows


@pytest.fixture
def kept(path: Path, file_store: SQLiteStore) -> SQLiteStore:
    """With an entry "good" and an entry "odd", both of an app; each has fired twice and skipped slots."""
    declared = [new_cron(name, origin="code", app="shop:engine") for name in ("good", "odd")]
    file_store.crons.sync("code", "shop:engine", declared)
    for entry in file_store.crons.entries():
        skips = [SkippedSlots(slot(2), slot(3), "overlap", slot(3))]
        file_store.crons.decide(decision(entry, slot(0), slot(1), skips=skips, boot_id="b-1"))
    return file_store


def spec_with(change: str) -> str:
    return f"spec = json_set(spec, {change})"


FAULTS = {
    "spec = 'none'": "column spec holds what is no spec",
    "spec = '{}'": "column spec holds what is no spec",
    "spec = CAST(x'ff' AS TEXT)": "column spec holds what is no spec",
    spec_with("'$.overlap', 'sometimes'"): "column spec holds what is no spec",
    spec_with("'$.schedule', 7"): "column spec holds what is no spec",
    spec_with("'$.starts_at_us', 9223372036854775807"): "column starts_at_us holds",
    spec_with("'$.job.max_retries', -1"): "column max_retries holds -1, which is out of its range",
    spec_with("'$.job.priority', json('99999999999999999999')"): "column priority holds",
    "decided_until_us = 9223372036854775807": "column decided_until_us holds",
    "last_success_us = -9223372036854775808": "column last_success_us holds",
    "app = CAST(x'ff' AS TEXT)": "column app holds bytes that are no UTF-8 text",
    "origin = 'nobody'": "column origin holds 'nobody', which is no origin",
    "is_enabled = 7": "column is_enabled holds 7",
    "is_orphan = 7": "column is_orphan holds 7",
}


@pytest.mark.parametrize("change", FAULTS)
def test_an_entry_that_cannot_be_read_is_shown_with_its_fault_and_stops_nothing(
    path: Path, kept: SQLiteStore, clock: FakeClock, change: str
) -> None:
    crons = kept.crons
    before = crons.entry("odd")
    assert tamper(path, f"UPDATE mpdispatch_crons SET {change} WHERE name = 'odd'")
    good, odd = crons.entries()
    assert not good.unreadable
    assert FAULTS[change] in odd.unreadable
    assert (odd.spec.name, odd.is_enabled) == ("odd", False)
    assert [firing.slot_us for firing in odd.open] == [slot(0), slot(1)]
    assert crons.decide(decision(good, slot(5))), "the others fire"
    assert crons.decide(decision(before, slot(5))) is None
    with pytest.raises(CronUnreadableError, match=r"'odd' cannot be read: .*column .*add it anew"):
        crons.fire("odd", [Firing(slot(5), slot(5))])
    assert len(crons.history("odd", 5).fired) == 2
    (finding,) = [each for each in kept.examine() if each.check == "crons"]
    assert FAULTS[change] in finding.message
    look(kept, clock.now())
    crons.delete("odd")
    crons.add(new_cron("odd"))
    assert not crons.entry("odd").unreadable


@pytest.mark.parametrize("change", [change for change in FAULTS if change.startswith("spec")])
def test_the_app_that_declares_it_mends_a_spec(path: Path, kept: SQLiteStore, change: str) -> None:
    before = kept.crons.entry("odd")
    tamper(path, f"UPDATE mpdispatch_crons SET {change} WHERE name = 'odd'")
    declared = [
        new_cron(name, origin="code", app="shop:engine", decided_until_us=slot(9)) for name in ("good", "odd")
    ]
    assert kept.crons.sync("code", "shop:engine", declared).changed == ["odd"]
    after = kept.crons.entry("odd")
    assert (after.spec, after.unreadable, after.is_enabled) == (before.spec, "", True)
    assert after.decided_until_us == slot(9), "nobody knows which slots it had"


@pytest.mark.parametrize("table", ["crons", "cron_slots", "cron_skips"])
@pytest.mark.parametrize("value", [*ODD, "0", "''", "'{}'"])
def test_whatever_stands_in_a_column_the_others_fire_and_the_store_can_be_looked_at(
    path: Path, kept: SQLiteStore, clock: FakeClock, table: str, value: str
) -> None:
    crons = kept.crons
    which = "id = 2" if table == "crons" else "cron_id = 2"
    for column in columns_of(table):
        before = crons.entry("good")
        tamper(path, f"UPDATE OR IGNORE mpdispatch_{table} SET {column} = {value} WHERE {which}")
        for entry in crons.entries():
            crons.decide(decision(entry))
            for name in (entry.spec.name, "odd"):
                try:
                    crons.history(name, 5)
                    crons.set_enabled(name, False, decided_until_us=1, next_slot_us=1)
                    crons.set_enabled(name, True, decided_until_us=1, next_slot_us=1)
                    crons.fire(name, [Firing(7, 7)])
                except (CronNotFoundError, CronUnreadableError):
                    assert name != "good"
        crons.decide(decision(crons.entry("good"), slot(5)))
        assert crons.entry("good").spec == before.spec
        look(kept, clock.now())


def test_a_store_with_entries_that_fired_and_skipped_is_sound(kept: SQLiteStore) -> None:
    levels = {(each.check, each.level) for each in kept.examine()}
    assert ("content", Level.OK) in levels
    assert not {check for check, level in levels if level is Level.ERROR}


def test_a_job_whose_state_is_none_ends_its_firing_as_failed(path: Path, kept: SQLiteStore) -> None:
    ids = [firing.job_id for firing in kept.crons.entry("odd").open]
    tamper(
        path,
        f"UPDATE mpdispatch_jobs SET state = 'odd', lane = NULL, completed_at_us = {2**63 - 1} WHERE id = {ids[0]}",
        f"UPDATE mpdispatch_jobs SET state = CAST(x'ff' AS TEXT) WHERE id = {ids[1]}",
    )
    firings = kept.crons.entry("odd").open
    assert [firing.state for firing in firings] == [JobState.FAILED] * 2
    assert firings[0].completed_at_us == 253_402_300_799_999_999


def test_new_entries_are_added_beside_one_with_the_highest_id(path: Path, kept: SQLiteStore) -> None:
    tamper(
        path,
        f"UPDATE mpdispatch_crons SET id = {2**63 - 1} WHERE name = 'odd'",
        f"UPDATE mpdispatch_cron_slots SET cron_id = {2**63 - 1} WHERE cron_id = 2",
    )
    (entry,) = kept.crons.add(new_cron("new"))
    assert entry.id == 2
    assert kept.crons.decide(decision(entry, slot(5)))
    assert kept.crons.decide(decision(kept.crons.entry("odd"), slot(5)))
    assert any("mpdispatch_crons" in each.message for each in kept.examine() if each.check == "ids")


# ---------------------------------------------------------------- a shared file


def test_entries_live_in_the_database_of_an_app(path: Path, clock: FakeClock) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute("PRAGMA journal_mode = WAL")
        app.execute("CREATE TABLE crons (name TEXT)")
        app.execute("INSERT INTO crons VALUES ('of the app')")
        store = SQLiteStore(path, shared=True, clock=clock)
        store.crons.add(new_cron())
        app.execute("BEGIN IMMEDIATE")
        app.execute("UPDATE crons SET name = 'changed'")
        (entry,) = store.crons.entries()
        app.execute("COMMIT")
        assert store.crons.decide(decision(entry, slot(1)))
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%cron%' ORDER BY name"
        assert [row[0] for row in app.execute(tables)] == [
            *("crons", "mpdispatch_cron_skips", "mpdispatch_cron_slots", "mpdispatch_crons")
        ]
        store.crons.delete("sweep")
        assert app.execute("SELECT name FROM crons").fetchall() == [("changed",)]
        store.close()


# ---------------------------------------------------------------- retention


def fired_and_cancelled(store: SQLiteStore) -> int:
    store.crons.add(new_cron())
    (job,) = store.crons.decide(decision(store.crons.entry("sweep"), slot(1)))
    store.cancel(job.id)
    return job.id


def test_a_job_is_kept_until_a_decision_has_seen_its_end(file_store: SQLiteStore, clock: FakeClock) -> None:
    job_id = fired_and_cancelled(file_store)
    other = file_store.enqueue(JOB)
    file_store.cancel(other.id)
    later_us = clock.advance(10).wall_us
    assert sum(file_store.prune(PruneFilter(ended_before_us=later_us)).by_state.values()) == 1
    assert file_store.state_of(job_id) is JobState.CANCELLED
    file_store.crons.decide(decision(file_store.crons.entry("sweep"), closes=[slot(1)]))
    assert sum(file_store.prune(PruneFilter(ended_before_us=later_us)).by_state.values()) == 1


@pytest.mark.parametrize("end", ["disabled", "orphan", "deleted"])
def test_a_job_of_an_entry_about_which_nobody_decides_is_pruned(
    file_store: SQLiteStore, clock: FakeClock, end: str
) -> None:
    fired_and_cancelled(file_store)
    match end:
        case "disabled":
            file_store.crons.set_enabled("sweep", False, decided_until_us=1, next_slot_us=None)
        case "orphan":
            file_store.crons.sync("user", "", [])
        case _:
            file_store.crons.delete("sweep")
    assert sum(file_store.prune(PruneFilter(ended_before_us=clock.advance(10).wall_us)).by_state.values()) == 1


# ---------------------------------------------------------------- jobs that run on


@pytest.mark.parametrize("end", ["deleted", "orphan"])
def test_jobs_of_an_entry_that_is_gone_run_on_and_are_retried(
    file_store: SQLiteStore, clock: FakeClock, end: str
) -> None:
    job = msgspec.structs.replace(JOB, queue="default", max_retries=0)
    file_store.crons.add(new_cron(job=job))
    clock.advance(3 * 3600)
    file_store.crons.decide(decision(file_store.crons.entry("sweep"), slot(1), slot(2)))
    desk = Desk(file_store, clock)
    first, second = desk.claim()
    if end == "deleted":
        file_store.crons.delete("sweep")
    else:
        file_store.crons.sync("user", "", [])
    desk.commit(failed(first, clock.now()))
    again = file_store.replay(first.id)
    assert [claimed.id for claimed in desk.claim()] == [again.id]
    assert file_store.cancel(second.id).state is JobState.RUNNING
    if end == "deleted":
        assert file_store.crons.entries() == []
    else:
        (entry,) = file_store.crons.entries()
        states = {firing.job_id: firing.state for firing in entry.open}
        assert states == {again.id: JobState.RUNNING, second.id: JobState.RUNNING}
    desk.close()


def test_a_spec_is_readable_in_the_file(path: Path, kept: SQLiteStore) -> None:
    """For those who look with the sqlite3 shell or Datasette."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT json_extract(spec, '$.schedule'), json_extract(spec, '$.job.queue'), payload"
            " FROM mpdispatch_crons ORDER BY name"
        ).fetchall()
    assert found == [("@hourly", "slow", '{"depth":2}')] * 2


def test_fields_of_a_later_version_are_left_out(path: Path, kept: SQLiteStore) -> None:
    before: CronSpec = kept.crons.entry("odd").spec
    tamper(path, f"UPDATE mpdispatch_crons SET {spec_with(chr(39) + '$.on_end' + chr(39) + ', 7')}")
    assert kept.crons.entry("odd").spec == before
