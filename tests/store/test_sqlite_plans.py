"""How the hot queries are executed, and how the SQL is kept. Plans, not times."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mpdispatch
from mpdispatch import sqlite3
from mpdispatch.model import (
    AlikeJobs,
    Cause,
    ClaimedJob,
    CronSpec,
    Firing,
    JobState,
    NewCron,
    NewJob,
    Stream,
)
from mpdispatch.store import SQLiteStore
from mpdispatch.store.filters import JobFilter
from mpdispatch.store.sql import candidates, reads
from mpdispatch.store.sql.named import Queries
from mpdispatch.store.sql.queries import QUERIES as SHARED
from mpdispatch.store.sql.rows import new_job_row
from mpdispatch.store.sqlite import schema
from mpdispatch.store.sqlite.queries import QUERIES as OURS
from tests.clock import FakeClock

from .conftest import Desk, completed, failed
from .requests import request

STORE = Path(mpdispatch.__file__).parent / "store"
QUERIES = {**SHARED, **OURS}


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("BEGIN")
    schema.apply(connection, 0, "jobs.db", is_new_file=False)
    connection.execute("COMMIT")
    yield connection
    connection.close()


def plan_of(connection: sqlite3.Connection, statement: str, values: Any = None) -> str:
    if values is None:
        values = dict.fromkeys(re.findall(r":([a-z_]+)", statement), 0) or [0] * statement.count("?")
    return "; ".join(row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement, values))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("due", "SEARCH mpdispatch_jobs USING INDEX mpdispatch_jobs_due (lane=? AND queue=?)"),
        ("queues_with_due", "COVERING INDEX mpdispatch_jobs_due (lane=? AND queue=?)"),
        ("parked", "SEARCH mpdispatch_jobs USING INDEX mpdispatch_jobs_parked (lane=? AND name=? AND queue=?)"),
        ("next_due", "COVERING INDEX mpdispatch_jobs_later (lane=? AND queue=? AND state=?)"),
        ("stage", "COVERING INDEX mpdispatch_jobs_later (lane=? AND queue=? AND state=? AND run_at_us<?)"),
        ("take", "SEARCH mpdispatch_jobs USING INTEGER PRIMARY KEY (rowid=?)"),
        ("take_again", "SEARCH mpdispatch_jobs USING INTEGER PRIMARY KEY (rowid=?)"),
        ("complete", "SCAN done; SEARCH mpdispatch_jobs USING INTEGER PRIMARY KEY (rowid=?)"),
        ("finish", "SEARCH mpdispatch_jobs USING INTEGER PRIMARY KEY (rowid=?)"),
        ("progress", "SEARCH mpdispatch_jobs USING INTEGER PRIMARY KEY (rowid=?)"),
        ("owned", "SEARCH mpdispatch_jobs USING INDEX mpdispatch_jobs_running (owner=?)"),
        ("held_by", "SEARCH mpdispatch_jobs USING INDEX mpdispatch_jobs_running (owner=?)"),
        ("running_in", "USING COVERING INDEX mpdispatch_jobs_running"),
        ("unknown_owners", "SEARCH mpdispatch_jobs USING COVERING INDEX mpdispatch_jobs_running (owner>?)"),
        (
            "cancel_requests",
            "SEARCH mpdispatch_jobs USING INDEX mpdispatch_jobs_cancel (cancel_requested_us>?)",
        ),
        (
            "has_late_cancels",
            "SEARCH mpdispatch_jobs USING INDEX mpdispatch_jobs_cancel (cancel_requested_us>?)",
        ),
        (
            "forget_late_cancels",
            "SEARCH mpdispatch_jobs USING INDEX mpdispatch_jobs_cancel (cancel_requested_us>?)",
        ),
        ("is_any_expired", "SEARCH mpdispatch_jobs USING INDEX mpdispatch_jobs_expiring (expires_at_us<?)"),
        ("expired_waiting", "SEARCH mpdispatch_jobs USING INDEX mpdispatch_jobs_expiring (expires_at_us<?)"),
        ("forget_expiry", "SEARCH mpdispatch_jobs USING INDEX mpdispatch_jobs_expiring (expires_at_us<?)"),
        ("expire", "SEARCH mpdispatch_jobs USING INTEGER PRIMARY KEY (rowid=?)"),
        ("cancel_requests_of", "SEARCH mpdispatch_jobs USING INDEX mpdispatch_jobs_running (owner=?)"),
        ("waits", "INDEX mpdispatch_jobs_later (lane=? AND queue=? AND state=? AND run_at_us>?)"),
        ("rebase_wait", "SEARCH mpdispatch_jobs USING INTEGER PRIMARY KEY (rowid=?)"),
        ("id_of_key", "SEARCH mpdispatch_jobs USING COVERING INDEX mpdispatch_jobs_key"),
        ("outstanding_due", "COVERING INDEX mpdispatch_jobs_due (lane=? AND queue=?)"),
        ("outstanding_retrying", "COVERING INDEX mpdispatch_jobs_later (lane=? AND queue=? AND state=?)"),
        ("due_in", "COVERING INDEX mpdispatch_jobs_due (lane=? AND queue=?)"),
        ("scheduled_in", "COVERING INDEX mpdispatch_jobs_later (lane=? AND queue=? AND state=?)"),
        ("state_of", "SEARCH mpdispatch_jobs USING INTEGER PRIMARY KEY (rowid=?)"),
        ("counts", "SCAN mpdispatch_jobs USING COVERING INDEX mpdispatch_jobs_ended"),
        ("counts", "COVERING INDEX mpdispatch_jobs_dealt_with (state=?)"),
        ("dead_letter_count", "USING COVERING INDEX mpdispatch_dead_letters_open"),
        ("crons", "COVERING INDEX mpdispatch_cron_slots_open (cron_id=? AND is_open=?)"),
        ("has_fired", "SEARCH mpdispatch_cron_slots USING PRIMARY KEY (cron_id=? AND slot_us=?)"),
        ("close_slot", "SEARCH mpdispatch_cron_slots USING PRIMARY KEY (cron_id=? AND slot_us=?)"),
        ("crons_of_job", "COVERING INDEX mpdispatch_cron_slots_job (job_id=?)"),
        ("take_slot", "INDEX mpdispatch_cron_slots_job (job_id=?)"),
        ("delete_slots", "SEARCH mpdispatch_cron_slots USING PRIMARY KEY (cron_id=? AND slot_us=?)"),
        (
            "delete_skips",
            "SEARCH mpdispatch_cron_skips USING PRIMARY KEY (cron_id=? AND first_us=? AND at_us=?)",
        ),
    ],
)
def test_hot_queries_use_their_index_and_sort_nothing(
    connection: sqlite3.Connection, name: str, expected: str
) -> None:
    plan = plan_of(connection, QUERIES[name])
    # SQLite 3.36 and later leave out the word TABLE.
    assert expected in plan.replace("TABLE ", "")
    assert "TEMP B-TREE" not in plan
    assert not re.search(r"SCAN mpdispatch_\w+(;|$)", plan), plan


@pytest.mark.parametrize("name", ["last_skip", "slots_and_skips"])
def test_what_became_of_the_last_slots_of_an_entry_is_read_from_their_end(
    connection: sqlite3.Connection, name: str
) -> None:
    plan = plan_of(connection, QUERIES[name], {"id": 1, "name": "a", "limit": 5})
    assert "SEARCH mpdispatch_cron_slots USING PRIMARY KEY (cron_id=?" in plan
    assert "SEARCH mpdispatch_cron_skips USING PRIMARY KEY (cron_id=?)" in plan
    assert "TEMP B-TREE" not in plan


def test_entries_are_read_without_what_they_have_fired_long_ago(path: Path, clock: FakeClock) -> None:
    store = SQLiteStore(path, durability="process", clock=clock)
    spec = CronSpec(name="a", schedule="@every 1s", tz="UTC", job=NewJob(name="a", payload=b"{}"))
    store.crons.add(NewCron(spec=spec, origin="user", decided_until_us=0, next_slot_us=1))
    desk = Desk(store, clock)
    store.crons.fire("a", [Firing(slot_us, slot_us) for slot_us in range(3000)])
    connection = desk.supervisor_store._own.current().connection
    connection.execute("UPDATE mpdispatch_cron_slots SET is_open = NULL WHERE slot_us < 2997")
    steps = _vm_steps(desk.supervisor_store, lambda: desk.supervisor_store.crons.entries())
    assert [firing.slot_us for firing in desk.supervisor_store.crons.entry("a").open] == [2997, 2998, 2999]
    assert steps < 500
    steps = _vm_steps(desk.supervisor_store, lambda: desk.supervisor_store.crons.history("a", 10))
    assert steps < 1000
    desk.close()
    store.close()


def test_the_history_of_a_job_is_two_seeks(connection: sqlite3.Connection) -> None:
    plan = plan_of(connection, QUERIES["attempts"]).replace("TABLE ", "")
    assert "SEARCH mpdispatch_attempt_rows USING PRIMARY KEY (job_id=?)" in plan
    assert "SEARCH mpdispatch_jobs USING INTEGER PRIMARY KEY (rowid=?)" in plan


def test_jobs_ahead_are_counted_from_their_priority_on(connection: sqlite3.Connection) -> None:
    values = {"id": 1, "queue": "q", "priority": 0, "run_at_us": 0}
    plan = plan_of(connection, QUERIES["ahead"], values)
    assert "COVERING INDEX mpdispatch_jobs_due (lane=? AND queue=? AND priority>?)" in plan


def test_a_claim_from_many_queues_merges_their_indexes(connection: sqlite3.Connection) -> None:
    text = candidates.statement(("due",) * 5)
    plan = plan_of(connection, text).replace("TABLE ", "")
    assert plan.count("SEARCH mpdispatch_jobs USING INDEX mpdispatch_jobs_due (lane=? AND queue=?)") == 5
    assert "MERGE (UNION ALL)" in plan
    assert "TEMP B-TREE" not in plan
    # Those of limited queues and parked names are sorted again: no more of them than may be taken.
    plan = plan_of(connection, candidates.statement(("due", "due_limited", "parked"))).replace("TABLE ", "")
    assert plan.count("TEMP B-TREE") == 2
    assert "SEARCH mpdispatch_jobs USING INDEX mpdispatch_jobs_parked (lane=? AND name=? AND queue=?)" in plan


def test_a_full_queue_with_many_due_jobs_is_not_read_through(path: Path, clock: FakeClock) -> None:
    store = SQLiteStore(path, durability="process", clock=clock)
    store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b"", queue="full", priority=5), [b"{}"] * 5000))
    store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b"", queue="open"), [b"{}"] * 5))
    desk = Desk(store, clock)
    wanted = request("full", "open", limits={"full": 2})
    claimed = list[ClaimedJob]()
    steps = _vm_steps(desk.supervisor_store, lambda: claimed.extend(desk.claim(64, wanted)))
    assert [job.queue for job in claimed] == ["full"] * 2 + ["open"] * 5
    assert steps < 6000
    desk.close()
    store.close()


@pytest.mark.parametrize("state", [None, *JobState])
def test_no_page_reads_the_rows_of_other_states(connection: sqlite3.Connection, state: JobState | None) -> None:
    for before in (None, 17):
        for statement, values in reads.page_statements(JobFilter(state=state), before, 50):
            plan = plan_of(connection, statement, values).replace("TABLE ", "")
            first = plan.split("; ")[0]
            if state is None:
                assert first == ("SCAN j" if before is None else "SEARCH j USING INTEGER PRIMARY KEY (rowid<?)")
                assert "TEMP B-TREE" not in plan
            else:
                # Either the newest few thousand rows, or the ids an index holds.
                assert first.startswith("SEARCH j USING INTEGER PRIMARY KEY (rowid")
                if "LIST SUBQUERY" in plan:
                    ids = plan.partition("LIST SUBQUERY")[2]
                    assert "COVERING INDEX mpdispatch_jobs_" in ids
                    # One by one only those that the table of dependents names.
                    assert not re.search(r"(SCAN|SEARCH) mpdispatch_jobs(;|$| USING INTEGER [^;]*[<>])", ids)
                else:
                    assert "rowid>?" in first


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.SCHEDULED, JobState.RUNNING])
def test_few_old_waiting_jobs_are_listed_without_reading_what_ended(
    path: Path, clock: FakeClock, state: JobState
) -> None:
    store = SQLiteStore(path, durability="process", clock=clock)
    now = clock.now()
    run_at_us = now.wall_us + 86_400_000_000 if state is JobState.SCHEDULED else None
    few = NewJob(name="a", payload=b"", run_at_us=run_at_us)
    old = [store.enqueue(few).id for _ in range(3)]
    desk = Desk(store, clock)
    if state is JobState.RUNNING:
        desk.claim()
    many = store.enqueue_many(AlikeJobs(NewJob(name="b", payload=b"", queue="other"), [b"{}"] * 20_000)).ids
    connection = desk.supervisor_store._own.current().connection
    connection.execute(
        "UPDATE mpdispatch_jobs SET state = 'cancelled', lane = NULL, completed_at_us = 1 WHERE id >= ?",
        (many[0],),
    )
    steps = _vm_steps(
        desk.supervisor_store, lambda: reads.page(connection, JobFilter(state=state), limit=50, cursor=None)
    )
    assert [job.id for job in store.list_jobs(JobFilter(state=state), limit=50, cursor=None).items] == old[::-1]
    # A row passed over costs five steps and more: these are the newest 5000 of the 20,000.
    assert steps < 60_000
    desk.close()
    store.close()


def test_jobs_for_tomorrow_are_not_in_the_index_claim_walks(path: Path, clock: FakeClock) -> None:
    store = SQLiteStore(path, durability="process", clock=clock)
    now = clock.now()
    tomorrow = NewJob(name="a", payload=b"", run_at_us=now.wall_us + 86_400_000_000, priority=9)
    for _ in range(10):
        store.enqueue_many(AlikeJobs(tomorrow, [b"{}"] * 10_000))
    today = [store.enqueue(NewJob(name="a", payload=b"{}")).id for _ in range(3)]
    desk = Desk(store, clock)
    supervisor_store = desk.supervisor_store
    steps = _vm_steps(supervisor_store, lambda: desk.claim(64))
    assert steps < 5000, "it looked at far more than the three due rows"
    assert [job_id for job_id, _ in supervisor_store.renew(desk.owner, 1).owned] == today
    assert _vm_steps(supervisor_store, lambda: desk.commit(slots=64)) < 2000
    desk.close()
    store.close()


def test_parked_jobs_of_a_strange_name_do_not_slow_a_turn(path: Path, clock: FakeClock) -> None:
    store = SQLiteStore(path, durability="process", clock=clock)
    store.enqueue_many(AlikeJobs(NewJob(name="strange", payload=b""), [b"{}"] * 3000))
    desk = Desk(store, clock)
    wanted = request(names=frozenset({"a"}))
    while desk.commit(slots=64, claim=wanted).parked:
        pass
    steps = _vm_steps(desk.supervisor_store, lambda: desk.commit(slots=64, claim=wanted))
    assert steps < 2000
    desk.close()
    store.close()


def test_large_payloads_and_results_stand_apart_from_the_row(path: Path, clock: FakeClock) -> None:
    store = SQLiteStore(path, clock=clock)
    now = clock.now()
    body = b'{"x":"' + b"x" * 5000 + b'"}'
    store.enqueue(NewJob(name="a", payload=body))
    store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b""), [body, b"{}"]))
    desk = Desk(store, clock)
    desk.commit(*[completed(job, now, result=job.payload) for job in desk.claim()])
    connection = desk.supervisor_store._own.current().connection
    rows = connection.execute("SELECT payload, result FROM mpdispatch_jobs ORDER BY id").fetchall()
    assert rows == [(None, None), (None, None), ("{}", "{}")]
    assert [store.get(n).result for n in (1, 2)] == [{"x": "x" * 5000}] * 2
    desk.close()
    store.close()


def test_an_outcome_takes_its_request_to_cancel_out_of_the_index(path: Path, clock: FakeClock) -> None:
    store = SQLiteStore(path, clock=clock)
    job = store.enqueue(NewJob(name="a", payload=b"{}"))
    desk = Desk(store, clock)
    (claimed,) = desk.claim()
    store.cancel(job.id)
    desk.commit(failed(claimed, clock.now()))
    connection = desk.supervisor_store._own.current().connection
    assert connection.execute(
        "SELECT sum(cancel_requested_us IS NOT NULL) FROM mpdispatch_jobs"
    ).fetchone() == (0,)
    desk.close()
    store.close()


def test_requests_to_cancel_that_came_too_late_are_not_walked_through(path: Path, clock: FakeClock) -> None:
    store = SQLiteStore(path, durability="process", clock=clock)
    now = clock.now()
    store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b""), [b"{}"] * 5000))
    desk = Desk(store, clock)
    desk.commit(*[completed(job, now) for job in desk.claim(5000)])
    desk.supervisor_store._own.current().connection.execute(
        "UPDATE mpdispatch_jobs SET cancel_requested_us = id"
    )
    job = store.enqueue(NewJob(name="a", payload=b"{}"))
    (claimed,) = desk.claim()
    store.cancel(job.id)
    found = list[tuple[int, int]]()
    steps = _vm_steps(
        desk.supervisor_store, lambda: found.extend(desk.supervisor_store.cancel_requests(desk.owner))
    )
    assert found == [(job.id, 1)]
    assert steps < 1000
    assert _vm_steps(desk.supervisor_store, lambda: desk.commit(failed(claimed, now))) < 2000
    desk.close()
    store.close()


def _vm_steps(supervisor_store: Any, act: Callable[[], object]) -> int:
    """How many instructions SQLite's machine executed, to the next hundred."""
    connection = supervisor_store._own.current().connection
    count = 0

    def tick() -> int:
        nonlocal count
        count += 100
        return 0

    connection.set_progress_handler(tick, 100)
    try:
        act()
    finally:
        connection.set_progress_handler(None, 0)
    return count


# ---------------------------------------------------------------- the texts themselves


def test_every_transaction_begins_immediate() -> None:
    for file in (*(STORE / "sql").rglob("*.*"), *(STORE / "sqlite").rglob("*.*")):
        if file.suffix in (".py", ".sql"):
            for line in file.read_text().splitlines():
                if re.search(r"""["']\s*BEGIN\b""", line):
                    assert '"BEGIN IMMEDIATE"' in line, f"{file.name}: {line.strip()}"
                asked = line.replace("connection.isolation_level is None", "")  # of a caller's connection
                assert "isolation_level=None" in line or "isolation_level" not in asked, f"{file.name}: {line}"


def test_the_schema_names_no_state_cause_or_stream(connection: sqlite3.Connection) -> None:
    tables = " ".join(
        row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE type <> 'view' AND sql > ''")
    )
    assert not {each for each in (*JobState, *Cause, *Stream) if f"'{each}'" in tables}
    assert tables.count("STRICT") == tables.count("CREATE TABLE mpdispatch_") == 16


def test_the_key_of_a_table_without_rowid_comes_first(connection: sqlite3.Connection) -> None:
    """Else quick_check of SQLite 3.40 takes what stands in the other columns for NULL."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%WITHOUT ROWID%'").fetchall()
    assert len(tables) > 2
    for (table,) in tables:
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        key = [column[0] for column in columns if column[5]]
        assert key == [*range(len(key))], table


def test_ended_jobs_are_found_by_steps_of_their_index(connection: sqlite3.Connection) -> None:
    for name in ("ended_queues", "ended_jobs", "ended_before"):
        plan = plan_of(connection, QUERIES[name]).replace("TABLE ", "")
        assert "COVERING INDEX mpdispatch_jobs_ended (state=? AND queue" in plan, name
        assert "TEMP B-TREE" not in plan, name
        assert not re.search(r"(SCAN|SEARCH) (j|mpdispatch_jobs)( USING INTEGER|;|$)", plan), plan


def test_open_dead_letters_are_not_read_by_pruning(connection: sqlite3.Connection) -> None:
    for name in ("closed_jobs", "closed_before"):
        plan = plan_of(connection, QUERIES[name])
        assert "INDEX mpdispatch_dead_letters_closed (closed_at_us>? AND closed_at_us<?)" in plan or (
            "INDEX mpdispatch_dead_letters_closed (closed_at_us<?)" in plan
        ), plan
        assert "TEMP B-TREE" not in plan, name


def test_slots_of_an_entry_are_found_by_their_key(connection: sqlite3.Connection) -> None:
    for name in ("crons_with_history", "nth_last_slot", "nth_last_skip", "old_slots", "old_skips"):
        plan = plan_of(connection, QUERIES[name])
        assert "TEMP B-TREE" not in plan, plan
        assert not re.search(r"SCAN (s|mpdispatch_cron_sl|mpdispatch_cron_sk)", plan), plan


@pytest.mark.parametrize(
    "damage",
    [
        "lane = NULL",
        "duration_us = 1",
        "lane = NULL, owner = 1, blocked_reason = 'x'",
        "lane = NULL, owner = 1, completed_at_us = 1",
        "completed_at_us = 1",
        "attempt = 1",
        "attempt = -1",
        "starts = -1",
        "max_retries = -1",
        "owner = 3",
    ],
)
def test_rows_that_make_no_sense_are_refused_by_the_schema(connection: sqlite3.Connection, damage: str) -> None:
    connection.execute(QUERIES["insert_job"], new_job_row(NewJob(name="a", payload=b"{}"), "{}", now_us=1))
    with pytest.raises(sqlite3.module.IntegrityError, match="CHECK"):
        connection.execute(f"UPDATE mpdispatch_jobs SET {damage}")


@pytest.mark.parametrize(
    "column", ["priority = 'high'", "run_at_us = 1.5", "name = x'00'", "queue = NULL", "owner = 'me'"]
)
def test_values_of_other_types_are_refused_by_the_schema(connection: sqlite3.Connection, column: str) -> None:
    connection.execute(QUERIES["insert_job"], new_job_row(NewJob(name="a", payload=b"{}"), "{}", now_us=1))
    with pytest.raises(sqlite3.module.IntegrityError, match=r"cannot store|NOT NULL"):
        connection.execute(f"UPDATE mpdispatch_jobs SET {column}")


def test_every_query_says_why_and_is_used() -> None:
    rooms = [STORE / "sql", STORE / "sqlite"]
    text = "".join(file.read_text() for room in rooms for file in room.glob("*.sql"))
    code = "".join(file.read_text() for room in rooms for file in room.glob("*.py"))
    assert text.count("-- name: ") == len(QUERIES), "two files name a query alike"
    for name in QUERIES:
        assert f'"{name}"' in code, f"{name} is used nowhere"
        assert f"-- name: {name}\n-- " in text, f"{name} does not say why"


def test_no_parameter_is_numbered() -> None:
    """Python 3.12.0 to 3.12.3 warn of each that is bound to a sequence."""
    for file in STORE.rglob("*.*"):
        if file.suffix in (".py", ".sql"):
            assert not re.search(r"\?\d", file.read_text()), file.name


def test_a_name_of_a_query_is_there_once(tmp_path: Path) -> None:
    base, other = tmp_path / "base.sql", tmp_path / "other.sql"
    base.write_text("-- name: a\n-- Why.\nSELECT 1;\n\n-- name: b\n-- Why.\nSELECT\n    2;\n")
    assert dict(Queries(base)) == {"a": "SELECT 1", "b": "SELECT\n    2"}
    other.write_text("-- name: b\n-- Otherwise here.\nSELECT 3;\n")
    with pytest.raises(ValueError, match="two queries are named 'b'"):
        Queries(base, other)
