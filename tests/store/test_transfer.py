"""The rows of a store as they travel: whole, in pages, none twice; and what a store that is being moved refuses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch import sqlite3
from mpdispatch.errors import LeaseLostError, StoreError, StoreMoved
from mpdispatch.model import Job, NewBatch
from mpdispatch.store import SQLiteStore
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import DeadLetterFilter, JobFilter, PruneFilter
from mpdispatch.store.tables import COUNTED, TABLES, Row, Table
from mpdispatch.store.transfer import Copied, Incoming, Outgoing, Sum, Transfer
from tests.clock import FakeClock
from tests.kinds import StoreKind, sqlite_only

from .conftest import TTL_US, Desk, registration
from .furnished import furnish, new
from .test_crons import new_cron

OUTGOING = Outgoing(move="m1", to="it's there")
INCOMING = Incoming(move="m1", source="it's here")


@pytest.fixture
def transfer(store: Store) -> Transfer:
    found = store.transfer
    if found is None:
        pytest.skip("this kind of store cannot be moved yet")
    return found


@pytest.fixture
def furnished(transfer: Transfer, store: Store, clock: FakeClock) -> Transfer:
    furnish(store, clock)
    return transfer


def all_rows(transfer: Transfer, table: Table, page: int) -> list[Row]:
    found, after = list[Row](), table.before_all
    while rows := transfer.rows(table, after, page):
        found += rows
        after = table.key_of(rows[-1])
    return found


# ---------------------------------------------------------------- the tables


@sqlite_only
def test_the_tables_are_those_of_the_schema(file_store: SQLiteStore) -> None:
    """A table or a column that is added to the schema travels too."""
    with closing(sqlite3.connect(str(file_store.file))) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'mpdispatch_*'"
        ).fetchall()
        at_home = {"mpdispatch_meta", "mpdispatch_supervisors", "mpdispatch_migrations"}
        assert {name for (name,) in names} - at_home == {f"mpdispatch_{table.name}" for table in TABLES}
        for table in TABLES:
            columns = connection.execute(f"PRAGMA table_info(mpdispatch_{table.name})").fetchall()
            assert {column[1] for column in columns} == set(table.columns)
            key = sorted((column[5], column[1]) for column in columns if column[5])
            assert tuple(name for _, name in key) == table.key
        counted = connection.execute("SELECT name FROM sqlite_sequence").fetchall()
        assert {name for (name,) in counted} <= {f"mpdispatch_{name}" for name in COUNTED}


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_pages_hold_every_row_once(furnished: Transfer, page: int) -> None:
    counts = furnished.standing().rows
    for table in furnished.tables():
        rows = all_rows(furnished, table, page)
        keys = [table.key_of(row) for row in rows]
        assert len(rows) == len(set(keys)) == counts[table.name]
        assert keys == sorted(keys)
        assert all(len(row) == len(table.columns) for row in rows)


ROWS = st.lists(
    st.tuples(
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.text(st.characters(exclude_categories=["Cs"])) | st.binary() | st.none(),
    )
)


@given(ROWS, st.randoms())
def test_a_checksum_depends_on_the_rows_and_not_on_their_order(rows: list[Row], random: object) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    half = len(rows) // 2
    assert Sum().plus(rows) == Sum().plus(shuffled[:half]).plus(shuffled[half:])
    assert Sum().plus(rows) != Sum().plus([*rows, (1, "one more")])
    if rows:
        number, text = rows[0]
        assert isinstance(number, int)
        assert Sum().plus(rows).checksum != Sum().plus([(number ^ 1, text), *rows[1:]]).checksum


# ---------------------------------------------------------------- the source


@pytest.mark.parametrize("is_done", [False, True])
def test_a_frozen_store_refuses_every_change_and_can_be_read(
    furnished: Transfer, store: Store, clock: FakeClock, is_done: bool
) -> None:
    waiting = next(job for job in store.list_jobs(JobFilter(queue="slow"), limit=9, cursor=None).items)
    before = {table: all_rows(furnished, table, 1000) for table in furnished.tables()}
    counts, batches = store.counts(), store.batches
    furnished.freeze(msgspec.structs.replace(OUTGOING, is_done=is_done))
    changes: list[Callable[[], object]] = [
        lambda: store.enqueue(new()),
        lambda: store.enqueue(new(idempotency_key="another")),
        lambda: store.enqueue_many([new(), new()]),
        lambda: store.cancel(waiting.id),
        lambda: store.retry(waiting_for_retry(store).id),
        lambda: store.set_paused("other", True),
        lambda: store.set_paused("slow", False),
        lambda: store.prune(PruneFilter(ended_before_us=clock.now().wall_us)),
        lambda: store.purge_dead_letters(DeadLetterFilter()),
        lambda: store.replay(open_letter(store)),
        lambda: store.crons.add(new_cron("another")),
        lambda: store.crons.delete("sweep"),
        lambda: batches.open(NewBatch(name="another")),
        lambda: batches.cancel(1),
    ]
    for change in changes:
        with pytest.raises(StoreMoved, match="moved to it's there"):
            change()
    supervisor_store = store.supervisor_store()
    with pytest.raises(StoreMoved, match="moved to it's there"):
        supervisor_store.register(registration(), TTL_US)
    supervisor_store.close()
    assert store.counts() == counts
    assert {table: all_rows(furnished, table, 1000) for table in furnished.tables()} == before
    assert furnished.standing().outgoing == msgspec.structs.replace(OUTGOING, is_done=is_done)


def waiting_for_retry(store: Store) -> Job:
    return next(
        job for job in store.list_jobs(JobFilter(), limit=99, cursor=None).items if job.state == "retrying"
    )


def open_letter(store: Store) -> int:
    return store.dead_letters(DeadLetterFilter(), limit=1, cursor=None).items[0].job.id


def test_an_app_cannot_enqueue_on_its_own_connection_either(
    transfer: Transfer, store: Store, store_kind: StoreKind
) -> None:
    connection = store_kind.app_connection(store)
    if connection is None:
        pytest.skip("an application cannot enqueue on a connection of its own")
    transfer.freeze(OUTGOING)
    with pytest.raises(StoreMoved, match="moved to it's there"):
        store.enqueue(new(), connection=connection)
    connection.close()


@sqlite_only
def test_another_program_is_told_why_it_cannot_write(file_store: SQLiteStore) -> None:
    file_store.transfer.freeze(OUTGOING)
    with (
        closing(sqlite3.connect(str(file_store.file))) as connection,
        pytest.raises(sqlite3.Error, match="mpdispatch: this store is being moved to it's there"),
    ):
        connection.execute("INSERT OR IGNORE INTO mpdispatch_queues (name, is_paused) VALUES ('other', 1)")


def test_a_store_goes_on_once_it_is_unfrozen(transfer: Transfer, store: Store, desk: Desk) -> None:
    desk.supervisor_store.unregister(desk.owner)
    transfer.freeze(OUTGOING)
    transfer.unfreeze()
    transfer.unfreeze()
    assert transfer.standing().outgoing is None
    assert store.enqueue(new()).id == 1
    desk.owner = desk.supervisor_store.register(registration(), TTL_US)
    assert [job.id for job in desk.claim()] == [1]


def test_a_store_at_work_is_not_frozen(transfer: Transfer, store: Store, desk: Desk) -> None:
    with pytest.raises(StoreError, match="has a supervisor, process 4711 on here"):
        transfer.freeze(OUTGOING)
    store.enqueue(new())
    desk.claim()
    with pytest.raises(StoreError, match="has 1 running jobs"):
        transfer.freeze(OUTGOING, [desk.owner])
    assert transfer.standing().outgoing is None
    assert store.enqueue(new()).id == 2


def test_a_supervisor_that_was_taken_for_dead_has_lost_its_lease(
    transfer: Transfer, store: Store, desk: Desk
) -> None:
    transfer.freeze(OUTGOING, [desk.owner])
    assert store.supervisors() == []
    with pytest.raises(LeaseLostError):
        desk.supervisor_store.renew(desk.owner, TTL_US)


# ---------------------------------------------------------------- the target


def test_a_store_that_is_being_filled_is_of_no_use_to_others(transfer: Transfer, store: Store) -> None:
    transfer.begin(INCOMING)
    with pytest.raises(StoreMoved, match="is being filled with what it's here holds"):
        store.enqueue(new())
    supervisor_store = store.supervisor_store()
    with pytest.raises(StoreMoved, match="is being filled with what it's here holds"):
        supervisor_store.register(registration(), TTL_US)
    supervisor_store.close()
    assert transfer.standing().incoming == INCOMING


def test_only_an_empty_store_is_filled(furnished: Transfer, store: Store) -> None:
    with pytest.raises(StoreError, match="is not empty: there are rows in jobs, payloads"):
        furnished.begin(INCOMING)
    assert furnished.standing().incoming is None
    store.enqueue(new())


def test_a_page_is_written_with_its_mark_and_by_one_process(transfer: Transfer) -> None:
    queues = next(table for table in TABLES if table.name == "queues")
    transfer.begin(INCOMING)
    rows: list[Row] = [("a", 1, None, None), ("b", 0, 5, "boot")]
    now = msgspec.structs.replace(
        INCOMING, tables={"queues": Copied(after=("b",), sum=Sum().plus(rows), is_done=True)}
    )
    transfer.write(queues, rows, INCOMING, now)
    assert transfer.rows(queues, queues.before_all, 9) == rows
    assert transfer.standing().incoming == now
    with pytest.raises(StoreError, match="another process moves the same store"):
        transfer.write(queues, [("c", 1, None, None)], INCOMING, now)
    with pytest.raises(StoreError, match="another process moves the same store"):
        transfer.finish({}, INCOMING, now)
    assert transfer.rows(queues, queues.before_all, 9) == rows


def test_ids_come_after_those_of_the_other_store(transfer: Transfer, store: Store, clock: FakeClock) -> None:
    transfer.begin(INCOMING)
    done = msgspec.structs.replace(INCOMING, is_done=True)
    last = {"jobs": 41, "dead_letters": 7, "crons": 0, "batches": 12, "supervisors": 3}
    transfer.finish(last, INCOMING, done)
    assert transfer.last_ids() == last
    assert transfer.standing().incoming == done
    assert store.enqueue(new()).id == 42
    assert store.batches.open(NewBatch(name="b")).id == 13
    (entry,) = store.crons.add(new_cron())
    assert entry.id == 1
    desk = Desk(store, clock)
    assert desk.owner == 4
    desk.close()


# ---------------------------------------------------------------- spoilt rows


@pytest.fixture
def spoilt(file_store: SQLiteStore) -> SQLiteStore:
    file_store.enqueue(new())
    with closing(sqlite3.connect(str(file_store.file), isolation_level=None)) as connection:
        connection.execute("UPDATE mpdispatch_jobs SET queue = CAST(x'61ff' AS TEXT), payload = x'ff'")
    return file_store


def test_text_that_is_none_travels_as_it_is_shown(spoilt: SQLiteStore) -> None:
    jobs = TABLES[0]
    (row,) = spoilt.transfer.rows(jobs, jobs.before_all, 9)
    values = dict(zip(jobs.columns, row, strict=True))
    assert (values["queue"], values["payload"]) == ("a\ufffd", b"\xff")
