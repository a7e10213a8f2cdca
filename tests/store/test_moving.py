"""A whole store moved to another one: nothing lost, nothing twice, resumed wherever it was ended; and what is refused."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mpdispatch.clock import SystemClock
from mpdispatch.engine.moving import MoveProgress, abandon_move, move_store
from mpdispatch.errors import StoreError, StoreMissing, StoreMoved, StoreTooOld, UsageError
from mpdispatch.failpoints import FailpointError, arm
from mpdispatch.host.processes import pid_namespace, process_start
from mpdispatch.ids import boot_id, host_name, machine_id
from mpdispatch.model import JobState, NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.contract import Store
from mpdispatch.store.filters import BatchFilter, JobFilter
from mpdispatch.store.tables import JOBS, TABLES, Row
from mpdispatch.store.transfer import Standing, Transfer
from tests.clock import FakeClock
from tests.kinds import StoreKind, chosen_kinds, kind_named

from .conftest import TTL_US, Desk, completed, registration
from .furnished import furnish, new
from .requests import request


def pairs() -> list[tuple[str, str]]:
    """From a file and to one, and between two stores of a kind."""
    kinds = chosen_kinds()
    others = [kind for kind in kinds if kind != "file"]
    between = [(kind, kind) for kind in kinds if kind != "memory"]
    return [*between, *(("file", kind) for kind in others), *((kind, "file") for kind in others)]


class Pair(NamedTuple):
    """A store with rows in all tables, and an empty one, each of a kind of its own."""

    source: Store
    target: Store
    source_kind: StoreKind
    target_kind: StoreKind


@pytest.fixture(params=pairs(), ids="-".join)
def pair(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Pair]:
    one, other = (
        kind_named(name, request, tmp_path / folder)
        for name, folder in zip(request.param, ("one", "other"), strict=True)
    )
    source, target = one.make(clock), other.make(clock)
    if source.transfer is None or target.transfer is None:
        pytest.skip("this kind of store cannot be moved yet")
    furnish(source, clock)
    yield Pair(source, target, one, other)
    one.discard(source)
    other.discard(target)


def transfer_of(store: Store) -> Transfer:
    found = store.transfer
    assert found is not None
    return found


def content(store: Store) -> dict[str, list[Row]]:
    transfer = transfer_of(store)
    return {table.name: transfer.rows(table, table.before_all, 1000) for table in TABLES}


def standing(store: Store) -> Standing:
    return transfer_of(store).standing()


# ---------------------------------------------------------------- moved


def test_everything_arrives_and_the_old_store_names_the_new_one(pair: Pair) -> None:
    source, target = pair.source, pair.target
    before, seen = content(source), list[MoveProgress]()
    last_ids = transfer_of(source).last_ids()
    jobs = source.list_jobs(JobFilter(), limit=99, cursor=None)
    moved = move_store(source, target, on_progress=seen.append)
    assert content(target) == content(source) == before
    assert {name: each.rows for name, each in moved.tables.items()} == {
        name: len(rows) for name, rows in before.items()
    }
    assert (moved.is_resumed, moved.is_kept) == (False, False)
    assert target.list_jobs(JobFilter(), limit=99, cursor=None) == jobs
    assert target.counts() == source.counts()
    assert {seen[0].doing, seen[-1].doing} == {"copying", "comparing"}
    assert seen[-1].done == seen[-1].total == sum(map(len, before.values()))
    with pytest.raises(StoreMoved, match="was moved to") as refused:
        source.enqueue(new())
    assert target.display in str(refused.value)
    assert target.enqueue(new()).id == last_ids["jobs"] + 1
    after = transfer_of(target).last_ids()
    assert all(after[name] >= last for name, last in last_ids.items())


def test_work_goes_on_in_the_new_store(pair: Pair, clock: FakeClock) -> None:
    """The batch that was moved in its middle ends there, and fires its callback once."""
    move_store(pair.source, pair.target)
    target = pair.target
    (_, batch) = target.batches.page(BatchFilter(), limit=9, cursor=None).items
    assert (batch.counts[JobState.COMPLETED], batch.counts[JobState.PENDING]) == (1, 1)
    target.set_paused("slow", False)
    desk = Desk(target, clock)
    clock.advance(3600)
    ended = set[str]()
    for _ in range(9):
        claimed = desk.claim(claim=request("default", "slow"))
        ended |= {job.name for job in claimed}
        desk.commit(*(completed(job, clock.now()) for job in claimed))
    assert {"member", "report", "child", "parent"} <= ended
    batch = target.batches.get(batch.id)
    assert batch.ended_at is not None
    reports = target.list_jobs(JobFilter(name="report"), limit=9, cursor=None).items
    assert [each.id for each in reports] == [batch.callbacks["on_success"].job_id]
    desk.close()


def test_a_job_of_a_transaction_that_is_open_when_the_move_begins_arrives(pair: Pair) -> None:
    """The move waits for an application that has enqueued and has not committed yet."""
    source = pair.source_kind.again(pair.source, SystemClock())
    connection = pair.source_kind.app_connection(pair.source)
    if connection is None:
        pytest.skip("an application cannot enqueue on a connection of its own")
    connection.execute("BEGIN")
    job = source.enqueue(new("late"), connection=connection)
    begun, moved = threading.Event(), list[int]()

    def move() -> None:
        begun.set()
        moved.append(move_store(pair.source, pair.target).tables["jobs"].rows)

    mover = threading.Thread(target=move)
    mover.start()
    begun.wait()
    mover.join(0.3)
    assert mover.is_alive(), "it waits"
    connection.execute("COMMIT")
    mover.join(60)
    assert moved
    assert pair.target.get(job.id).name == "late"
    connection.close()
    source.close_all()


def test_a_kept_store_goes_on_by_itself(pair: Pair) -> None:
    moved = move_store(pair.source, pair.target, keep=True)
    assert moved.is_kept
    assert standing(pair.source).outgoing is None
    assert pair.source.enqueue(new()).id == pair.target.enqueue(new()).id


def test_a_target_that_is_not_there_is_made(pair: Pair, tmp_path: Path) -> None:
    target = SQLiteStore(tmp_path / "new.db")
    move_store(pair.source, target)
    assert content(target) == content(pair.source)
    target.close()


# ---------------------------------------------------------------- ended, and resumed


@pytest.mark.parametrize("keep", [False, True])
def test_a_move_that_was_ended_anywhere_goes_on(pair: Pair, keep: bool) -> None:
    """Ended in turn before and after each of its commits: each call comes at least one commit further."""
    before, calls = content(pair.source), 0
    try:
        while True:
            arm("move.before_commit:raise@2" if calls % 2 else "move.after_commit:raise")
            calls += 1
            try:
                moved = move_store(pair.source, pair.target, keep=keep)
            except FailpointError:
                assert calls < 99
                continue
            break
    finally:
        arm("")
    assert calls > 10, "each commit ended a call"
    assert moved.is_resumed
    assert content(pair.target) == before
    source, target = standing(pair.source), standing(pair.target)
    assert target.incoming is not None
    assert target.incoming.is_done
    assert (source.outgoing is None) == keep
    assert pair.target.enqueue(new()).id > 0


def test_a_move_that_is_done_is_done_again_without_effect(pair: Pair) -> None:
    first = move_store(pair.source, pair.target)
    pair.target.enqueue(new())
    again = move_store(pair.source, pair.target)
    assert again == first._replace(is_resumed=True)


def begin(pair: Pair, ends_at: str) -> None:
    """A move that ends in the middle, at this failpoint."""
    arm(ends_at)
    with pytest.raises(FailpointError):
        move_store(pair.source, pair.target)
    arm("")


@pytest.mark.parametrize("when", ["move.after_commit:raise@1", "move.after_commit:raise@4"])
def test_a_move_can_be_given_up(pair: Pair, when: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not being moved"):
        abandon_move(pair.source, pair.target)
    begin(pair, when)
    with pytest.raises(StoreMoved, match=r"is being moved to .* --abandon gives up"):
        pair.source.enqueue(new())
    abandon_move(pair.source, pair.target)
    assert pair.source.enqueue(new()).id > 0
    other = SQLiteStore(tmp_path / "other.db")
    if when.endswith("4"):
        with pytest.raises(StoreError, match=r"holds a part of .* that is not finished or was given up"):
            move_store(pair.source, pair.target)
        move_store(pair.source, other)
    else:
        move_store(pair.source, pair.target)
    other.close()


def test_a_move_that_has_arrived_is_not_given_up(pair: Pair) -> None:
    commits = 2 + len(TABLES) + 1
    begin(pair, f"move.after_commit:raise@{commits}")
    assert pair.target.enqueue(new()).id > 0
    with pytest.raises(StoreMoved, match="has arrived in"):
        abandon_move(pair.source, pair.target)
    assert move_store(pair.source, pair.target).is_resumed
    with pytest.raises(StoreMoved, match="was moved to"):
        abandon_move(pair.source, pair.target)


def test_another_store_is_not_the_target_of_a_move_under_way(pair: Pair, tmp_path: Path) -> None:
    begin(pair, "move.after_commit:raise@4")
    other = SQLiteStore(tmp_path / "other.db")
    with pytest.raises(StoreMoved, match="is being moved to"):
        move_store(pair.source, other)
    with pytest.raises(StoreMissing):
        other.check()
    move_store(pair.source, pair.target)
    with pytest.raises(StoreMoved, match="was moved to"):
        move_store(pair.source, other)


def test_a_store_that_is_being_filled_is_not_moved_on(pair: Pair, tmp_path: Path) -> None:
    begin(pair, "move.after_commit:raise@4")
    third = SQLiteStore(tmp_path / "third.db")
    with pytest.raises(StoreMoved, match="is being filled with what"):
        move_store(pair.target, third)
    with pytest.raises(StoreMissing):
        third.check()
    move_store(pair.source, pair.target)
    moved = move_store(pair.target, third)
    assert content(third) == content(pair.source)
    assert not moved.is_resumed
    with pytest.raises(StoreMoved, match=r"was moved to .*third"):
        pair.target.enqueue(new())
    third.close()


# ---------------------------------------------------------------- compared


class Lossy:
    """A target that loses, or changes, what it was told to write."""

    def __init__(self, inner: Transfer, spoil: Callable[[list[Row]], list[Row]]) -> None:
        self._inner, self._spoil = inner, spoil

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def write(self, table: object, rows: list[Row], before: object, now: object) -> None:
        self._inner.write(table, self._spoil(rows) if table == JOBS else rows, before, now)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows[:-1],
        lambda rows: [*rows[:-1], (*rows[-1][:-1], 4711)],
    ],
    ids=["a row lost", "a value changed"],
)
def test_a_copy_that_differs_is_not_used(pair: Pair, spoil: Callable[[list[Row]], list[Row]]) -> None:
    class Spoilt(SQLiteStore):
        @property
        def transfer(self) -> Transfer:  # type: ignore[override]
            return Lossy(super().transfer, spoil)  # type: ignore[return-value]

    if not isinstance(pair.target, SQLiteStore):
        pytest.skip("one kind is enough")
    pair.target.__class__ = Spoilt
    with pytest.raises(StoreError, match=r"differs from .* in its table jobs: .* checksum .*--abandon"):
        move_store(pair.source, pair.target)
    pair.target.__class__ = SQLiteStore
    with pytest.raises(StoreMoved, match="is being filled"):
        pair.target.enqueue(new())
    abandon_move(pair.source, pair.target)
    assert pair.source.enqueue(new()).id > 0


# ---------------------------------------------------------------- refused


def living() -> dict[str, object]:
    """What a supervisor registers that is this process."""
    return {
        "host": host_name(),
        "machine_id": machine_id(),
        "boot_id": boot_id(),
        "pid": os.getpid(),
        "pid_start": process_start(os.getpid()),
        "pid_namespace": pid_namespace(),
    }


@pytest.mark.parametrize("where", ["source", "target"])
def test_a_store_with_a_living_supervisor_is_not_moved(pair: Pair, where: str) -> None:
    store: Store = getattr(pair, where)
    supervisor_store = store.supervisor_store()
    owner = supervisor_store.register(registration(**living()), TTL_US)
    with pytest.raises(
        StoreError, match=f"has a running supervisor, process {os.getpid()} on .*; stop it"
    ) as refused:
        move_store(pair.source, pair.target)
    assert refused.value.location == store.display
    assert pair.source.enqueue(new()).id > 0
    supervisor_store.unregister(owner)
    supervisor_store.close()
    move_store(pair.source, pair.target)


def test_running_jobs_are_not_moved(pair: Pair, clock: FakeClock) -> None:
    desk = Desk(pair.source, clock)
    pair.source.enqueue(new())
    (*_, job) = desk.claim(1)
    clock.advance(3600)  # it is dead, by its lease
    with pytest.raises(StoreError, match=r"1 of its jobs are running.* start a supervisor and stop it once"):
        move_store(pair.source, pair.target)
    desk.commit(completed(job, clock.now()))
    move_store(pair.source, pair.target)
    assert pair.target.state_of(job.id) is JobState.COMPLETED
    desk.close()


def test_a_store_that_holds_something_is_no_target(pair: Pair) -> None:
    pair.target.set_paused("q", True)
    with pytest.raises(StoreError, match=r"is not empty \(1 in queues\); name a store that is"):
        move_store(pair.source, pair.target)
    assert pair.source.enqueue(new()).id > 0


def test_one_store_is_not_moved_to_itself(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="are one store"):
        move_store(pair.source, pair.source)
    again = pair.source_kind.again(pair.source)
    with pytest.raises(UsageError, match="are one store"):
        move_store(pair.source, again)
    again.close_all()
    assert pair.source.enqueue(new()).id > 0


def test_another_name_of_the_store_is_found_out(pair: Pair) -> None:
    """As of a server that has two names."""

    class Renamed(SQLiteStore):
        display = "elsewhere"  # type: ignore[assignment]
        file = None  # type: ignore[assignment]

    if not isinstance(pair.source, SQLiteStore) or pair.source.file is None:
        pytest.skip("one kind is enough")
    other = Renamed(pair.source.file)
    empty = pair.target_kind.make()
    alias = Renamed(empty.file) if empty.file is not None else None
    with pytest.raises(StoreError, match="is not empty"):
        move_store(pair.source, other)
    if alias is not None:
        with pytest.raises(UsageError, match="are one store"):
            move_store(empty, alias)
        assert empty.enqueue(new()).id == 1
        alias.close()
    other.close()
    pair.target_kind.discard(empty)


def test_an_older_schema_is_not_moved(tmp_path: Path) -> None:
    from .test_sqlite_migration import restored

    old, current = SQLiteStore(restored(tmp_path / "old.db", 4)), SQLiteStore(tmp_path / "new.db")
    with pytest.raises(StoreTooOld, match="run `mpdispatch migrate --store"):
        move_store(old, current)
    with pytest.raises(StoreMissing):
        current.check()
    current.enqueue(NewJob(name="a", payload=b"{}"))
    with pytest.raises(StoreTooOld, match="run `mpdispatch migrate --store"):
        move_store(current, old)
    assert current.enqueue(NewJob(name="a", payload=b"{}")).id == 2
    with pytest.raises(StoreMissing):
        move_store(SQLiteStore(tmp_path / "none.db"), current)
