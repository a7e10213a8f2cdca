"""Killed at any statement that matters, a store is consistent and holds all it acknowledged."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mpdispatch.clock import Instant
from mpdispatch.errors import StoreBusy
from mpdispatch.failpoints import SWITCH, VARIABLE, FailpointError, arm
from mpdispatch.model import JobState, NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.sqlite import schema

from .conftest import Desk

ROOT = Path(__file__).resolve().parents[2]

POINTS = [
    "register.before_commit",
    "register.after_commit",
    "enqueue.before_commit",
    "enqueue.after_commit",
    "claim.after_stage",
    "claim.before_commit",
    "finish.after_rows",
    "finish.after_attempts",
    "finish.before_commit",
    "commit.before_commit",
    "commit.after_commit",
    "retry.after_insert",
    "retry.before_commit",
    "retry.after_commit",
    "cancel.before_commit",
    "cancel.after_commit",
    "renew.before_commit",
    "take_over.before_commit",
    "take_over.after_commit",
    "cron_add.after_commit",
    "cron_decide.after_fire",
    "cron_decide.before_commit",
    "cron_decide.after_commit",
    "cron_fire.before_commit",
]


def run_child(path: Path, point: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.store.crash_child", str(path), point],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def assert_consistent(path: Path) -> None:
    """What must hold of any store at any time, read without any code of mpdispatch."""
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    nothing = {
        "large payloads without a job, or jobs without a payload": """
            SELECT id FROM mpdispatch_jobs
            WHERE payload IS NULL AND id NOT IN (SELECT job_id FROM mpdispatch_payloads)
            UNION ALL SELECT job_id FROM mpdispatch_payloads WHERE job_id NOT IN
                (SELECT id FROM mpdispatch_jobs)""",
        "failed jobs and dead letters differ": """
            SELECT id FROM mpdispatch_jobs WHERE state = 'failed'
            EXCEPT SELECT job_id FROM mpdispatch_dead_letters""",
        "dead letters of jobs that did not fail": """
            SELECT job_id FROM mpdispatch_dead_letters
            EXCEPT SELECT id FROM mpdispatch_jobs WHERE state = 'failed'""",
        "ended jobs without history": """
            SELECT id FROM mpdispatch_jobs WHERE state IN ('completed', 'failed')
            EXCEPT SELECT job_id FROM mpdispatch_attempts""",
        "history of jobs that have not ended": """
            SELECT job_id FROM mpdispatch_attempts
            EXCEPT SELECT id FROM mpdispatch_jobs WHERE state IN ('completed', 'failed')""",
        "completed jobs without their result": """
            SELECT id FROM mpdispatch_jobs WHERE state = 'completed'
            EXCEPT SELECT job_id FROM mpdispatch_results""",
        "running jobs nobody owns": """
            SELECT id FROM mpdispatch_jobs WHERE state = 'running'
            AND owner NOT IN (SELECT id FROM mpdispatch_supervisors)""",
        "replayed dead letters without the new job": """
            SELECT replayed_as FROM mpdispatch_dead_letters WHERE replayed_as IS NOT NULL
            EXCEPT SELECT id FROM mpdispatch_jobs WHERE retried_from IS NOT NULL""",
        "new jobs of dead letters that are not replayed": """
            SELECT id FROM mpdispatch_jobs WHERE retried_from IS NOT NULL
            EXCEPT SELECT replayed_as FROM mpdispatch_dead_letters""",
        "fired slots without their job": """
            SELECT job_id, slot_us FROM mpdispatch_cron_slots
            EXCEPT SELECT id, slot_us FROM mpdispatch_jobs""",
        "jobs of slots that have not fired": """
            SELECT id, slot_us FROM mpdispatch_jobs WHERE slot_us IS NOT NULL
            EXCEPT SELECT job_id, slot_us FROM mpdispatch_cron_slots""",
        "entries that do not know what fired last": """
            SELECT id, max(slot_us) FROM mpdispatch_crons JOIN mpdispatch_cron_slots ON cron_id = id GROUP BY id
            EXCEPT SELECT id, last_slot_us FROM mpdispatch_crons""",
    }
    for what, statement in nothing.items():
        assert rows(path, statement) == [], what


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_it_keeps_what_it_acknowledged(path: Path, point: str) -> None:
    child = run_child(path, point)
    assert child.returncode == -signal.SIGKILL, f"{point} was never reached: {child.stderr}"
    assert_consistent(path)
    state_of = dict(rows(path, "SELECT id, state FROM mpdispatch_jobs"))
    entries = rows(path, "SELECT id FROM mpdispatch_crons")
    for line in child.stdout.splitlines():
        what, *words = line.split()
        if what == "added":
            assert (int(words[0]),) in entries
            continue
        for job_id in map(int, words):
            assert job_id in state_of, line
            if what == "ended":
                assert state_of[job_id] in ("completed", "failed")
            elif what == "cancelled":
                assert state_of[job_id] == "cancelled"
    # And the next one goes on where it stopped.
    store = SQLiteStore(path)
    store.enqueue(NewJob(name="a", payload=b"{}"))
    store.close()


def test_unharmed_the_child_gets_to_its_end(path: Path) -> None:
    child = run_child(path, "no.such.point")
    assert (child.returncode, child.stdout.splitlines()[-1]) == (0, "survived"), child.stderr
    assert_consistent(path)


def test_killed_while_migrating_it_leaves_no_half_schema(path: Path) -> None:
    child = run_child(path, "-", **{VARIABLE: "migrate.before_commit:kill"})
    assert child.returncode == -signal.SIGKILL
    assert rows(path, "SELECT count(*) FROM sqlite_master") == [(0,)]
    assert SQLiteStore(path).migrate() == (0, schema.VERSION)


def test_the_variable_alone_does_nothing_where_no_test_has_said_that_it_is_one(path: Path) -> None:
    child = run_child(path, "no.such.point", **{VARIABLE: "migrate.before_commit:kill,x:frob", SWITCH: ""})
    assert (child.returncode, child.stdout.splitlines()[-1]) == (0, "survived"), child.stderr


def test_an_error_before_the_commit_leaves_nothing_and_frees_the_lock(file_store: SQLiteStore) -> None:
    arm("enqueue.before_commit:raise")
    try:
        with pytest.raises(FailpointError):
            file_store.enqueue(NewJob(name="a", payload=b"{}"))
    finally:
        arm("")
    assert sum(file_store.counts().values()) == 0
    other = SQLiteStore(file_store.location)
    other.enqueue(NewJob(name="a", payload=b"{}"))
    other.close()


class _Interrupted:
    """A connection whose BEGIN or ROLLBACK is done when the interrupt comes: the signal's handler runs after it."""

    def __init__(self, real: sqlite3.Connection, at: str) -> None:
        self._real, self._at = real, at

    def execute(self, statement: str, values: tuple[str, ...] = ()) -> sqlite3.Cursor:
        if statement == "ROLLBACK" == self._at:
            raise KeyboardInterrupt
        cursor = self._real.execute(statement, values)
        if statement.startswith("BEGIN"):
            raise KeyboardInterrupt
        return cursor

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def _interrupt(store: SQLiteStore, at: str) -> None:
    session = store._sessions.current()
    real, session.connection = session.connection, _Interrupted(session.connection, at)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        store.enqueue(NewJob(name="a", payload=b"{}", idempotency_key="k"))
    session.connection = real


def test_an_interrupt_while_a_transaction_begins_leaves_none_that_others_would_wait_for(
    file_store: SQLiteStore,
) -> None:
    _interrupt(file_store, "BEGIN")
    with closing(sqlite3.connect(file_store.location, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")


def test_what_an_interrupted_transaction_left_open_does_not_swallow_the_next_job(
    file_store: SQLiteStore,
) -> None:
    _interrupt(file_store, "ROLLBACK")
    made = file_store.enqueue(NewJob(name="a", payload=b"{}"))
    with closing(sqlite3.connect(file_store.location)) as other:
        assert other.execute("SELECT id FROM mpdispatch_jobs").fetchall() == [(made.id,)]


def test_a_rejected_outcome_rolls_back_the_others_only_to_write_them_again(
    file_store: SQLiteStore, clock: object, now: Instant
) -> None:
    from .conftest import completed

    desk = Desk(file_store, clock)  # type: ignore[arg-type]
    for _ in range(2):
        file_store.enqueue(NewJob(name="a", payload=b"{}"))
    first, second = desk.claim()
    # Killed or busy between the two passes, nothing of the first may stand.
    arm("finish.after_rows:raise")
    try:
        with pytest.raises(FailpointError):
            desk.commit(completed(first, now), completed(second, now), completed(second, now))
    finally:
        arm("")
    assert file_store.counts()[JobState.RUNNING] == 2
    desk.close()


def test_a_supervisor_does_not_wait_for_another_writer(file_store: SQLiteStore, clock: object) -> None:
    desk = Desk(file_store, clock)  # type: ignore[arg-type]
    file_store.enqueue(NewJob(name="a", payload=b"{}"))
    with closing(sqlite3.connect(file_store.location, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            desk.claim()
        # It must not keep our lock from the clients meanwhile.
        assert file_store._sessions.current()._lock.acquire(0.0)
        file_store._sessions.current()._lock.release()
        assert desk.commit().claimed == (), "reads go on"
        foreign.execute("COMMIT")
    assert len(desk.claim()) == 1
    desk.close()
