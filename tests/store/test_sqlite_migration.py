"""A store of schema version 1 becomes one of today's, whoever is at work on it meanwhile, and nothing of it is lost."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import msgspec
import pytest

from mpdispatch.cli.main import main
from mpdispatch.clock import FakeClock, Instant
from mpdispatch.errors import StoreTooOld
from mpdispatch.model import JobState, NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.sqlite import schema

from .conftest import TTL_US, Desk, completed, registration

SPAWN = multiprocessing.get_context("spawn")
VERSION_1 = Path(__file__).with_name("version1.sql")
STATES = (
    JobState.COMPLETED,
    JobState.FAILED,
    JobState.RUNNING,
    JobState.PENDING,
    JobState.SCHEDULED,
)

# As version 1 has them: a supervisor of it that is running goes on with these.
_REGISTER = """
INSERT INTO mpdispatch_supervisors (
    host, machine_id, boot_id, pid, pid_start, pid_namespace, queues, concurrency, app, version, started_us,
    heartbeat_us, lease_until_us, lease_until_boot_us
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_RENEW = "UPDATE mpdispatch_supervisors SET heartbeat_us = ?, lease_until_us = ?, lease_until_boot_us = ? WHERE id = ?"
_SUPERVISORS = """
SELECT
    id, host, machine_id, boot_id, pid, pid_start, pid_namespace, queues, concurrency, app, version, started_us,
    heartbeat_us, lease_until_us, lease_until_boot_us
FROM mpdispatch_supervisors ORDER BY id
"""


@pytest.fixture
def old(path: Path) -> Path:
    """A store of version 1, with a job in each of five states."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1.read_text())
        assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    return path


def test_a_store_of_version_1_is_migrated_and_works(old: Path, clock: FakeClock, now: Instant) -> None:
    store = SQLiteStore(old, clock=clock)
    assert store.migrate() == (1, schema.VERSION)
    assert store.migrate() == (schema.VERSION, schema.VERSION)
    assert tuple(store.get(job_id).state for job_id in range(1, 6)) == STATES
    (peer,) = store.supervisors()
    assert (peer.id, peer.pid, peer.queues, peer.token) == (1, 4711, ("default",), "")
    desk = Desk(store, clock)
    assert desk.owner == 2
    assert [job.id for job in desk.ledger.jobs_of(1)] == [3]
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
    ledger = store.supervisor_store()
    ledger.register(registration(token="ab" * 16), TTL_US)
    (row,) = store.supervisors()
    assert row.token == "ab" * 16
    ledger.close()
    store.close()


def test_a_supervisor_of_version_1_goes_on_in_a_store_that_was_migrated(
    old: Path, clock: FakeClock, now: Instant
) -> None:
    with closing(sqlite3.connect(old, isolation_level=None)) as running:
        # Its statements are prepared before, as those of a process that has been at work.
        assert len(running.execute(_SUPERVISORS).fetchall()) == 1
        running.execute(_RENEW, (1, 2, 3, 1))
        store = SQLiteStore(old, clock=clock)
        store.migrate()
        running.execute(_RENEW, (4, 5, 6, 1))
        who = registration()
        values = msgspec.structs.astuple(who)[:6]
        more = ('["default"]', 4, "shop:engine", "0.1.0", now.wall_us, now.wall_us, 7, 8)
        assert running.execute(_REGISTER, (*values, *more)).lastrowid == 2
        assert [row[0] for row in running.execute(_SUPERVISORS)] == [1, 2]
        first, second = store.supervisors()
        assert (first.heartbeat_us, first.renewed, first.lease_left_us) == (4, 6, 5 - clock.now().wall_us)
        assert (second.renewed, second.token) == (8, "")
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
        assert done == [("v1_jobs",), ("v2_token",)]
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
        assert "mpdispatch migrate" in capsys.readouterr().err
    assert _run("migrate", "--store", str(old)) == 0
    capsys.readouterr()
    assert _run("workers", "--json", "--store", str(old)) == 0
    assert "token" not in capsys.readouterr().out


def test_what_is_enqueued_migrates_a_store_of_version_1(old: Path) -> None:
    store = SQLiteStore(old)
    assert store.enqueue(NewJob(name="a", payload=b"{}")).id == 6
    store.close()
    with closing(sqlite3.connect(old)) as connection:
        found = connection.execute("SELECT value FROM mpdispatch_meta WHERE key = 'schema_version'").fetchone()
    assert found == (str(schema.VERSION),)
