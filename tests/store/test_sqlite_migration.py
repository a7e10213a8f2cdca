"""A store of schema version 1 becomes one of today's, whoever is at work on it meanwhile, and nothing of it is lost."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from mpdispatch.cli.main import main
from mpdispatch.clock import Instant
from mpdispatch.errors import StoreTooOld
from mpdispatch.model import JobState, NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.sqlite import schema
from tests.clock import FakeClock

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

# As versions 1 and 2 have them: a supervisor of theirs that is running goes on with these.
_RENEW = "UPDATE mpdispatch_supervisors SET heartbeat_us = ?, lease_until_us = ?, lease_until_boot_us = ? WHERE id = ?"
_PROBE = "SELECT EXISTS (SELECT 1 FROM mpdispatch_jobs WHERE line = 2)"
_TAKE = """
UPDATE mpdispatch_jobs SET
    state = 'running', line = NULL, owner = ?, starts = starts + 1, attempt = attempt + 1, started_at_us = ?
WHERE id IN (SELECT value FROM json_each(?)) AND +line = 1 AND starts = 0
"""
_STAGE = "UPDATE mpdispatch_jobs SET state = 'pending', line = 1 WHERE line = 2 AND run_at_us <= ?"


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
        assert [job.id for job in store.supervisor_store().jobs_of(1)] == [3]
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
        assert done == [("v1_jobs",), ("v2_token",), ("v3_strict",)]
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
