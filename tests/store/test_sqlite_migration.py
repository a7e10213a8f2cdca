"""A store of an older schema version becomes one of today's, whoever is at work on it meanwhile, and nothing is lost."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from mpdispatch.cli.main import main
from mpdispatch.clock import Instant
from mpdispatch.errors import StoreCorrupt, StoreTooOld
from mpdispatch.model import JobState, NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.filters import BatchFilter
from mpdispatch.store.sqlite import schema
from tests.clock import FakeClock

from .conftest import TTL_US, Desk, completed, registration
from .odd import ODD, OF_OTHER_TYPES, columns_of, look, tamper
from .requests import request

SPAWN = multiprocessing.get_context("spawn")
DUMPS = {version: Path(__file__).with_name(f"version{version}.sql") for version in (1, 2, 3, 4)}
STATES = (
    JobState.COMPLETED,
    JobState.FAILED,
    JobState.RUNNING,
    JobState.PENDING,
    JobState.SCHEDULED,
)

KEYS = {
    "meta": "key",
    "queues": "name",
    "attempt_rows": "job_id * 1000 + starts",
}
TABLES = (*("jobs", "payloads", "results", "attempt_rows", "outputs", "dead_letters", "queues", "supervisors"),)

# As versions 1 and 2 have them: a supervisor of theirs that is running goes on with these.
_RENEW = "UPDATE mpdispatch_supervisors SET heartbeat_us = ?, lease_until_us = ?, lease_until_boot_us = ? WHERE id = ?"
_PROBE = "SELECT EXISTS (SELECT 1 FROM mpdispatch_jobs WHERE line = 2)"
_TAKE = """
UPDATE mpdispatch_jobs SET
    state = 'running', line = NULL, owner = ?, starts = starts + 1, attempt = attempt + 1, started_at_us = ?
WHERE id IN (SELECT value FROM json_each(?)) AND +line = 1 AND starts = 0
"""
_STAGE = "UPDATE mpdispatch_jobs SET state = 'pending', line = 1 WHERE line = 2 AND run_at_us <= ?"


def restored(path: Path, version: int) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(DUMPS[version].read_text())
        assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    return path


@pytest.fixture
def old(path: Path) -> Path:
    """A store of version 1, with a job in each of five states."""
    return restored(path, 1)


@pytest.fixture
def full(path: Path) -> Path:
    """A store of version 2, with all that such a store may hold."""
    return restored(path, 2)


@pytest.fixture
def last(path: Path) -> Path:
    """A store of version 3, with all that such a store may hold."""
    return restored(path, 3)


def rows(path: Path, table: str, key: str = "1") -> dict[object, tuple[object, ...]]:
    """Without the columns that version 4 has added."""
    width = len(columns_of(table, version=3))
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes  # some is not UTF-8
        found = connection.execute(f"SELECT {key}, * FROM mpdispatch_{table} ORDER BY {key}")
        return {row[0]: row[1 : 1 + width] for row in found}


def definitions(path: Path) -> set[tuple[str, str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return set(found.fetchall())


def is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_store_of_version_1_is_migrated_and_works(old: Path, clock: FakeClock, now: Instant) -> None:
    store = SQLiteStore(old, clock=clock)
    assert store.migrate() == (1, schema.VERSION)
    assert store.migrate() == (schema.VERSION, schema.VERSION)
    assert tuple(store.get(job_id).state for job_id in range(1, 6)) == STATES
    (peer,) = store.supervisors()
    assert (peer.id, peer.pid, peer.queues, peer.token) == (1, 4711, ("default",), "")
    desk = Desk(store, clock)
    assert desk.owner == 2
    assert [job.id for job in desk.supervisor_store.jobs_of(1)] == [3]
    (job,) = desk.claim()
    desk.commit(completed(job, now))
    assert store.state_of(4) is JobState.COMPLETED
    made = store.enqueue(NewJob(name="render", payload=b"{}"))
    assert made.id == 6
    desk.close()
    store.close()


def test_a_supervisor_keeps_the_token_of_its_workers_in_its_row(path: Path) -> None:
    store = SQLiteStore(path)
    store.migrate()
    supervisor_store = store.supervisor_store()
    supervisor_store.register(registration(token="ab" * 16), TTL_US)
    (row,) = store.supervisors()
    assert row.token == "ab" * 16
    supervisor_store.close()
    store.close()


def test_a_supervisor_of_an_older_version_loses_its_lease_and_claims_nothing_more(
    old: Path, clock: FakeClock
) -> None:
    with closing(sqlite3.connect(old, isolation_level=None)) as running:
        # Its statements are prepared before, as those of a process that has been at work.
        statements = ((_RENEW, (1, 2, 3, 1)), (_PROBE, ()), (_TAKE, (1, 2, "[]")), (_STAGE, (0,)))
        for statement, values in statements:
            running.execute(statement, values)
        store = SQLiteStore(old, clock=clock)
        store.migrate()
        for statement, values in statements:
            with pytest.raises(sqlite3.OperationalError, match="no such column"):
                running.execute(statement, values)
        (peer,) = store.supervisors()
        assert (peer.id, peer.heartbeat_us, peer.renewed) == (1, 1, 3)
        supervisor_store = store.supervisor_store()
        assert [job.id for job in supervisor_store.jobs_of(1)] == [3]
        supervisor_store.close()
        store.close()


def _migrate(path: str, start: Barrier) -> None:
    store = SQLiteStore(path)
    start.wait(60)
    store.migrate()
    store.close()


def test_eight_processes_migrate_a_store_of_version_1_at_once(old: Path) -> None:
    start = SPAWN.Barrier(8)
    processes = [SPAWN.Process(target=_migrate, args=(str(old), start)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    with closing(sqlite3.connect(old)) as connection:
        done = connection.execute("SELECT name FROM mpdispatch_migrations ORDER BY id").fetchall()
        assert done == [("v1_jobs",), ("v2_token",), ("v3_strict",), ("v4_time",), ("v5_batches",)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM mpdispatch_jobs").fetchone() == (5,)


def _run(*args: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(args)
    return ended.value.code


def test_commands_that_read_a_store_of_version_1_say_how_it_is_migrated(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StoreTooOld):
        SQLiteStore(old).counts()
    for command in (["jobs"], ["show", "1"], ["workers"], ["stats"], ["doctor"]):
        assert _run(*command, "--store", str(old)) == 78
        assert f"run `mpdispatch migrate --store {old}`" in capsys.readouterr().err
    assert _run("migrate", "--store", str(old)) == 0
    capsys.readouterr()
    assert _run("workers", "--json", "--store", str(old)) == 0
    assert "token" not in capsys.readouterr().out


def test_what_is_enqueued_migrates_a_store_of_version_1_and_logs_it(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mpdispatch")
    store = SQLiteStore(old)
    assert store.enqueue(NewJob(name="a", payload=b"{}")).id == 6
    assert f"{old}: schema version 1 is now {schema.VERSION}; an older mpdispatch refuses it" in caplog.messages
    store.close()
    with closing(sqlite3.connect(old)) as connection:
        found = connection.execute("SELECT value FROM mpdispatch_meta WHERE key = 'schema_version'").fetchone()
    assert found == (str(schema.VERSION),)


@pytest.mark.parametrize("version", DUMPS)
def test_a_migrated_store_has_the_schema_of_a_new_one(path: Path, tmp_path: Path, version: int) -> None:
    SQLiteStore(tmp_path / "new.db").migrate()
    SQLiteStore(restored(path, version)).migrate()
    assert definitions(path) == definitions(tmp_path / "new.db")
    assert is_sound(path)


@pytest.mark.parametrize("version", DUMPS)
def test_a_migration_changes_no_row_that_is_in_order(path: Path, version: int) -> None:
    tables = [name for name in TABLES if name != "supervisors" or version > 1]  # version 2 adds a column
    restored(path, version)
    before = {table: rows(path, table, KEYS.get(table, "rowid")) for table in tables}
    assert all(before.values()) or version == 1
    SQLiteStore(path).migrate()
    for table in tables:
        after = rows(path, table, KEYS.get(table, "rowid"))
        assert {key: row for key, row in after.items() if key in before[table]} == before[table]
        assert len(after) == len(before[table]) or table == "dead_letters"


def test_dead_letters_of_version_3_say_when_they_were_closed(last: Path, clock: FakeClock) -> None:
    SQLiteStore(last).migrate()
    with closing(sqlite3.connect(last)) as connection:
        columns = "job_id, name, queue, failed_at_us, replayed_as, closed_at_us"
        found = connection.execute(f"SELECT {columns} FROM mpdispatch_dead_letters ORDER BY job_id").fetchall()
        failed = connection.execute(
            "SELECT id, name, queue, completed_at_us FROM mpdispatch_jobs WHERE state = 'failed' ORDER BY id"
        ).fetchall()
    assert [row[:4] for row in found] == failed
    assert {job_id: (replayed_as is not None, closed) for job_id, *_, replayed_as, closed in found} == {
        3: (True, 1_750_000_002_000_000),
        4: (False, None),
        # Purged, which deleted their letters: nobody knows when.
        17: (False, 1_750_000_101_000_000),
        18: (False, 1_750_000_102_000_000),
        19: (False, None),
    }


def test_a_store_of_version_3_goes_on(last: Path, clock: FakeClock) -> None:
    store = SQLiteStore(last, clock=clock)
    assert store.migrate() == (3, schema.VERSION)
    look(store, clock.now(), *range(1, 20))
    assert store.crons.entries() == []
    job = store.get(12)
    assert (job.slot, job.expires_at) == (None, None)
    assert store.enqueue(NewJob(name="mail", payload=b"{}", slot_us=5)).id == 20
    desk = Desk(store, clock)
    assert [job.id for job in desk.supervisor_store.jobs_of(1)] == [6, 15]
    assert [job.id for job in desk.claim(claim=request(names=frozenset({"render"})))] == [9]
    desk.close()
    store.close()


def test_a_store_of_version_4_goes_on(path: Path, clock: FakeClock) -> None:
    """Its batches were numbers of jobs, and a job that was enqueued again did not know by which."""
    store = SQLiteStore(restored(path, 4), clock=clock)
    assert store.migrate() == (4, schema.VERSION)
    found = store.batches.page(BatchFilter(), limit=10, cursor=None).items
    assert [(each.id, each.name, each.total, each.done, each.is_open) for each in found] == [
        (23, "resize", 2, 0, False),
        (20, "resize", 3, 1, False),
        (18, "broken", 2, 2, False),
        (13, "mail", 2, 0, False),
    ]
    assert found[2].counts[JobState.FAILED] == 2
    assert [each.ended_at is not None for each in found] == [False, False, True, False]
    assert (store.get(3).retried_as, store.get(4).retried_as) == (6, None)
    desk = Desk(store, clock)
    claimed = desk.claim(claim=request("bulk", names=frozenset({"resize"})))
    desk.commit(*(completed(job, clock.now()) for job in claimed))
    ended = store.batches.get(20)
    assert (ended.counts[JobState.COMPLETED], ended.ended_at is not None) == (2, True)
    assert store.enqueue_many([NewJob(name="mail", payload=b"{}")]).batch_id == 24, "no number is given twice"
    desk.close()
    store.close()


def test_all_that_a_store_of_version_2_holds_is_shown(full: Path, clock: FakeClock) -> None:
    store = SQLiteStore(full, clock=clock)
    assert store.migrate() == (2, schema.VERSION)
    jobs = look(store, clock.now(), *range(1, 17))
    assert [jobs[each]["state"] for each in range(1, 17)] == [
        *("completed", "completed", "failed", "failed", "completed", "running", "pending", "retrying"),
        *("pending", "cancelled", "scheduled", "pending", "pending", "pending", "running", "cancelled"),
    ]
    assert store.get(2).payload == {"text": "x" * 1100}
    assert store.get(2).result == "y" * 1100
    assert store.get(6).progress == {"page": 2}
    assert [attempt.cause for attempt in store.attempts(5)] == ["error", "completed"]
    assert [*store.parked().values()] == [1]
    assert store.dead_letter(3).replayed_as == 6
    assert store.attempts(4)[0].stderr == "no such page\n"
    assert {each.name: each.is_paused for each in store.queue_stats()}["mails"]
    assert store.enqueue(NewJob(name="mail", payload=b"{}", idempotency_key="k-12")).id == 12
    assert store.enqueue(NewJob(name="mail", payload=b"{}")).id == 17
    desk = Desk(store, clock)
    assert [job.id for job in desk.supervisor_store.jobs_of(1)] == [6, 15]
    assert desk.supervisor_store.cancel_requests(1) == [(6, 1)]
    assert [job.id for job in desk.claim(claim=request(names=frozenset({"render"})))] == [9]
    desk.close()
    store.close()


# ---------------------------------------------------------------- what does not conform


def tampered(path: Path, *statements: str) -> None:
    """Write what no constraint of version 2 allows, also NULL."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = 1")
        tables = "type = 'table' AND name GLOB 'mpdispatch_*'"
        kept = connection.execute(f"SELECT sql, name FROM sqlite_master WHERE {tables}").fetchall()
        for kind in ("INTEGER", "TEXT"):
            loose = f"replace(sql, '{kind} NOT NULL', '{kind}')"
            connection.execute(f"UPDATE sqlite_master SET sql = {loose} WHERE {tables}")
        connection.execute("PRAGMA writable_schema = RESET")
    tamper(path, *statements)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.executemany("UPDATE sqlite_master SET sql = ? WHERE name = ?", kept)


@pytest.mark.parametrize("column", columns_of("jobs", renamed={"lane": "line"}, version=3)[1:])
def test_a_value_that_a_column_cannot_hold_costs_its_job_and_is_told(
    full: Path, clock: FakeClock, column: str
) -> None:
    odd = dict(zip((1, 3, 6, 7, 8, 11, 12), (*ODD, *OF_OTHER_TYPES), strict=True))
    tampered(
        full,
        *(f"UPDATE mpdispatch_jobs SET {column} = {value} WHERE id = {each}" for each, value in odd.items()),
    )
    before = rows(full, "jobs", "id")
    SQLiteStore(full).migrate()
    assert is_sound(full)
    after = rows(full, "jobs", "id")
    store = SQLiteStore(full, clock=clock)
    changed = {each for each in after if after[each] != before.get(each)}
    assert {*before} == {*after}
    assert changed <= {*odd}
    assert changed or column in ("progress", "last_error", "result", "payload")
    for job_id in changed:
        job = store.get(job_id)
        assert job.state in ("failed", "completed"), job
        assert job.state == "failed" or job_id == 1
        assert job.last_error.type == "UnreadableJob"
        assert "column" in job.last_error.message
        assert column.replace("line", "lane") in job.last_error.message
        assert job.state == "completed" or store.dead_letter(job_id)
    look(store, clock.now(), *after)
    store.close()


TOLD = {
    "priority = 'high'": "column priority holds TEXT 'high', not INTEGER",
    "run_at_us = 1.5": "column run_at_us holds REAL 1.5, not INTEGER",
    "name = x'6162'": "column name holds BLOB b'ab', not TEXT",
    "queue = NULL": "column queue holds NULL, not TEXT",
    "attempt = 5, starts = 2": "column attempt holds 5, and starts 2",
    "starts = -1, max_retries = -3": "column attempt holds 0, and starts -1; column max_retries holds -3",
    "owner = 9": "columns owner, lane and completed_at_us hold 9, 1 and None: one of them says where it is",
    "blocked_reason = 'x', line = NULL, owner = 9": "column blocked_reason holds 'x', but it is in no lane",
    "last_error = '{}', batch_id = 'b'": "column batch_id holds TEXT 'b', not INTEGER; its last error was '{}'",
}


@pytest.mark.parametrize("change", TOLD)
def test_the_dead_letter_of_a_job_that_does_not_conform_names_the_column_and_what_it_held(
    full: Path, clock: FakeClock, change: str
) -> None:
    tampered(full, f"UPDATE mpdispatch_jobs SET {change} WHERE id = 12")
    store = SQLiteStore(full, clock=clock)
    store.migrate()
    letter = store.dead_letter(12)
    assert letter.job.last_error.message == f"job 12: {TOLD[change]}"
    assert (letter.job.state, letter.job.payload) == ("failed", {"to": "é"})
    store.close()


def test_a_number_that_stands_there_as_text_or_real_becomes_the_integer(full: Path) -> None:
    before = rows(full, "jobs", "id")
    with closing(sqlite3.connect(full, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = 1")
        # Of another type, the column does not convert what is written.
        loose = "replace(sql, 'priority INTEGER', 'priority BLOB')"
        connection.execute(f"UPDATE sqlite_master SET sql = {loose} WHERE name = 'mpdispatch_jobs'")
    tamper(
        full,
        "UPDATE mpdispatch_jobs SET priority = CAST(priority AS TEXT) WHERE id = 11",
        "UPDATE mpdispatch_jobs SET priority = CAST(priority AS REAL) WHERE id = 12",
    )
    assert rows(full, "jobs", "id") != before
    SQLiteStore(full).migrate()
    assert rows(full, "jobs", "id") == before


def test_a_dead_letter_with_the_last_id_there_can_be_does_not_stop_a_migration(
    full: Path, clock: FakeClock
) -> None:
    tampered(
        full,
        f"UPDATE mpdispatch_dead_letters SET id = {(1 << 63) - 1} WHERE job_id = 3",
        f"UPDATE sqlite_sequence SET seq = {(1 << 63) - 1}",
        "UPDATE mpdispatch_jobs SET priority = 'high' WHERE id = 12",
    )
    store = SQLiteStore(full, clock=clock)
    store.migrate()
    assert store.dead_letter(12).job.state == "failed"
    store.close()


def test_of_two_jobs_that_would_have_one_key_both_stay(full: Path, clock: FakeClock) -> None:
    tampered(full, "UPDATE mpdispatch_jobs SET idempotency_key = CAST('k-12' AS BLOB) WHERE id = 13")
    store = SQLiteStore(full, clock=clock)
    store.migrate()
    assert [store.get(each).idempotency_key for each in (12, 13)] == ["k-12", None]
    assert store.get(13).state == "failed"
    store.close()


@pytest.mark.parametrize("table", [name for name in TABLES if name != "jobs"])
@pytest.mark.parametrize("odd", [*ODD, *OF_OTHER_TYPES])
def test_values_that_another_table_cannot_hold_cost_no_job(
    full: Path, clock: FakeClock, table: str, odd: str
) -> None:
    before = rows(full, "jobs", "id")
    columns = columns_of(table, renamed={"lease_until_wall_us": "lease_until_us"}, version=3)
    tampered(full, *(f"UPDATE OR IGNORE mpdispatch_{table} SET {column} = {odd}" for column in columns))
    store = SQLiteStore(full, clock=clock, durability="process")
    store.migrate()
    assert is_sound(full)
    assert rows(full, "jobs", "id") == before
    look(store, clock.now(), *range(1, 17))
    store.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ADD COLUMN tags TEXT", r"the columns of mpdispatch_jobs are id, .*, tags"),
        ("RENAME COLUMN line TO track", r"cannot be migrated: no such column: .line"),
    ],
)
def test_a_table_with_another_column_is_refused_and_stays(full: Path, change: str, told: str) -> None:
    tamper(full, f"ALTER TABLE mpdispatch_jobs {change}")
    before = definitions(full), rows(full, "jobs", "id")
    with pytest.raises(StoreCorrupt, match=told):
        SQLiteStore(full).migrate()
    assert (definitions(full), rows(full, "jobs", "id")) == before


def test_what_the_owner_of_a_shared_file_has_made_stays(full: Path) -> None:
    with closing(sqlite3.connect(full, isolation_level=None)) as connection:
        connection.execute("PRAGMA application_id = 7")
        connection.execute("PRAGMA user_version = 5")
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, total)")
        connection.execute("CREATE VIEW broken AS SELECT * FROM nowhere")
        connection.execute(
            "CREATE TRIGGER seen AFTER INSERT ON mpdispatch_jobs BEGIN INSERT INTO orders (total) VALUES (new.id); END"
        )
    store = SQLiteStore(full, shared=True)
    assert store.enqueue(NewJob(name="a", payload=b"{}")).id == 17
    store.close()
    with closing(sqlite3.connect(full)) as connection:
        assert connection.execute("SELECT total FROM orders").fetchall() == [(17,)]
        assert connection.execute("PRAGMA application_id").fetchone() == (7,)
        assert connection.execute("PRAGMA user_version").fetchone() == (5,)


def test_what_the_owner_of_a_shared_file_has_made_of_a_renamed_column_follows_it(full: Path) -> None:
    with closing(sqlite3.connect(full, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE seen (lane)")
        connection.execute("CREATE VIEW broken AS SELECT * FROM nowhere")
        connection.execute("CREATE VIEW waiting AS SELECT id FROM mpdispatch_jobs WHERE line = 1")
        connection.execute("CREATE INDEX leases ON mpdispatch_supervisors (lease_until_us)")
        connection.execute(
            "CREATE TRIGGER moved AFTER UPDATE OF line ON mpdispatch_jobs"
            " BEGIN INSERT INTO seen VALUES (new.line); END"
        )
        waiting = connection.execute("SELECT id FROM waiting").fetchall()
    store = SQLiteStore(full, shared=True)
    store.migrate()
    store.cancel(13)
    store.close()
    with closing(sqlite3.connect(full)) as connection:
        assert connection.execute("SELECT lane FROM seen").fetchall() == [(None,)]
        assert set(waiting) - {(13,)} == {*connection.execute("SELECT id FROM waiting")}
    assert is_sound(full)


@pytest.mark.parametrize("change", ["DROP INDEX", "DROP VIEW", "other index"])
def test_an_index_or_a_view_that_is_not_as_version_2_has_it_is_made_anew(
    full: Path, tmp_path: Path, change: str
) -> None:
    with closing(sqlite3.connect(full, isolation_level=None)) as connection:
        match change:
            case "DROP VIEW":
                connection.execute("DROP VIEW mpdispatch_attempts")
            case "DROP INDEX":
                connection.execute("DROP INDEX mpdispatch_jobs_ended")
                connection.execute("DROP INDEX mpdispatch_jobs_running")
            case _:
                connection.execute("DROP INDEX mpdispatch_jobs_due")
                connection.execute("CREATE INDEX mpdispatch_jobs_due ON mpdispatch_jobs (queue)")
    SQLiteStore(full).migrate()
    SQLiteStore(tmp_path / "new.db").migrate()
    assert definitions(full) == definitions(tmp_path / "new.db")
    assert is_sound(full)
