"""Sessions: transactions one after the other, lost connections and answers, forks, and the pool."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from mpdispatch.errors import StoreBusy, StoreMissing, StoreUnreachable, UsageError
from mpdispatch.store.postgres.options import Place
from mpdispatch.store.postgres.server import Database
from mpdispatch.store.postgres.session import CommitUnknown
from mpdispatch.store.postgres.sessions import ClientSessions, SupervisorSession
from mpdispatch.store.sql.connection import Connection
from mpdispatch.store.sql.sessions import Flush
from tests.store.postgres.conftest import table_of
from tests.store.postgres.proxy import Proxy

by_flush = pytest.mark.parametrize("flush", Flush)


def note(database: Database, value: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(f"INSERT INTO {table_of(database)} VALUES (%s)", (value,))

    return work


def noted(sessions: ClientSessions, database: Database) -> list[str]:
    text = f"SELECT value FROM {table_of(database)} ORDER BY value"
    return sessions.read(lambda c: [row[0] for row in c.execute(text)])


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@by_flush
def test_what_a_transaction_writes_is_there_for_others(
    sessions: ClientSessions, database: Database, flush: Flush
) -> None:
    sessions.write(note(database, "a"), "test", flush=flush)
    sessions.sync()
    other = ClientSessions(database)
    assert noted(other, database) == ["a"]
    other.close_all()


def test_a_transaction_whose_work_fails_writes_nothing(sessions: ClientSessions, database: Database) -> None:
    def work(connection: Connection) -> None:
        note(database, "a")(connection)
        raise KeyError("a")

    with pytest.raises(KeyError):
        sessions.write(work, "test")
    assert noted(sessions, database) == []


def test_a_transaction_that_goes_on_after_an_error_is_not_taken_for_written(
    sessions: ClientSessions, database: Database
) -> None:
    def work(connection: Connection) -> None:
        note(database, "a")(connection)
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT 1 / 0")

    with pytest.raises(Exception, match="rolled back"):
        sessions.write(work, "test")
    assert noted(sessions, database) == []


def test_reading_a_place_without_a_store_does_not_make_one(database: Database) -> None:
    sessions = ClientSessions(database)
    with pytest.raises(StoreMissing, match="mpdispatch migrate"):
        sessions.read(lambda c: None)


def test_writers_come_one_after_the_other(sessions: ClientSessions, database: Database) -> None:
    table = table_of(database)
    sessions.write(note(database, "0"), "test")

    def count(connection: Connection) -> None:
        value = int(connection.execute(f"SELECT value FROM {table}").fetchone()[0])
        connection.execute(f"UPDATE {table} SET value = %s", (str(value + 1),))

    threads = [
        threading.Thread(target=lambda: [sessions.write(count, "test") for _ in range(20)]) for _ in range(6)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert noted(sessions, database) == ["120"]


def test_a_supervisor_waits_no_longer_than_a_moment_for_the_lock(
    sessions: ClientSessions, database: Database
) -> None:
    supervisor = SupervisorSession(database)
    supervisor.read(lambda c: None)
    took = list[float]()

    def work(connection: Connection) -> None:
        began = time.monotonic()
        with pytest.raises(StoreBusy):
            supervisor.write(note(database, "b"), "test")
        took.append(time.monotonic() - began)

    sessions.write(work, "test")
    assert took[0] < 0.5
    supervisor.write(note(database, "c"), "test")
    assert noted(sessions, database) == ["c"]
    supervisor.close()


def test_a_server_that_was_restarted_is_found_again(
    sessions: ClientSessions, database: Database, place: Place
) -> None:
    sessions.read(lambda c: None)
    end_backends(place)
    sessions.write(note(database, "a"), "test")
    assert noted(sessions, database) == ["a"]


def end_backends(place: Place) -> None:
    with psycopg.connect(place.dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'mpdispatch' AND pid <> pg_backend_pid()"
        )


@by_flush
@pytest.mark.parametrize("how", ["drop request", "drop reply"])
def test_a_commit_whose_answer_is_lost_is_carried_out_once(
    through_proxy: ClientSessions,
    sessions: ClientSessions,
    database: Database,
    proxy: Proxy,
    how: str,
    flush: Flush,
) -> None:
    calls = list[int]()

    def work(connection: Connection) -> str:
        calls.append(1)
        note(database, "a")(connection)
        return "done"

    proxy.trip(b"COMMIT\0", how)
    assert through_proxy.write(work, "test", flush=flush) == "done"
    assert proxy.tripped.is_set()
    assert noted(sessions, database) == ["a"]
    assert len(calls) == (2 if how == "drop request" else 1)


def test_a_commit_that_reaches_the_server_late_is_refused_or_counts(
    through_proxy: ClientSessions, sessions: ClientSessions, database: Database, proxy: Proxy
) -> None:
    proxy.trip(b"COMMIT\0", "hold")
    late = threading.Timer(1.0, proxy.release.set)
    late.start()
    through_proxy.write(note(database, "a"), "test")
    late.join()
    assert noted(sessions, database) == ["a"]


def test_a_supervisor_learns_later_what_came_of_a_commit(
    through_proxy: ClientSessions, sessions: ClientSessions, database: Database, proxy: Proxy, place: Place
) -> None:
    supervisor = SupervisorSession(Database(Place(proxy.dsn, place.options), str))
    for how, value in [("drop reply", "a"), ("drop request", "b")]:
        proxy.trip(b"COMMIT\0", how)
        with pytest.raises(CommitUnknown) as caught:
            supervisor.write(note(database, value), "test")
        # Also if the answer to that question is lost.
        proxy.trip(b"COMMIT\0", "drop reply")
        with pytest.raises(StoreUnreachable):
            supervisor.was_committed(caught.value)
        assert supervisor.was_committed(caught.value) is (value == "a")
        assert supervisor.was_committed(caught.value) is (value == "a")
    assert noted(sessions, database) == ["a"]
    supervisor.close()


def test_a_server_that_falls_silent_is_given_up_in_time(
    through_proxy: ClientSessions, database: Database, proxy: Proxy, place: Place
) -> None:
    supervisor = SupervisorSession(Database(Place(proxy.dsn, place.options), str), patience_s=0.5)
    supervisor.write(note(database, "a"), "test")
    proxy.cut()
    began = time.monotonic()
    with pytest.raises(StoreUnreachable):
        supervisor.write(note(database, "b"), "test")
    assert 0.4 < time.monotonic() - began < 5
    proxy.cut(again=True)

    def writes_again() -> bool:
        try:
            supervisor.write(note(database, "c"), "test")
        except StoreUnreachable:
            return False
        return True

    until(writes_again)
    supervisor.close()


def test_a_client_that_never_reaches_its_server_says_which_one_without_its_password() -> None:
    place = Place.read("postgresql://ann:s3cret@127.0.0.1:1/jobs?connect_timeout=2")
    with pytest.raises(StoreUnreachable) as caught:
        ClientSessions(Database(place, str), patience_s=0.3).read(lambda c: None)
    assert "127.0.0.1:1" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_more_threads_than_connections_wait_for_one(place: Place, sessions: ClientSessions) -> None:
    few = ClientSessions(Database(Place.read(f"{place.location}&pool_size=2"), str), patience_s=5)
    pids = set[int]()

    def read() -> None:
        pids.add(few.read(lambda c: c.execute("SELECT pg_backend_pid(), pg_sleep(0.05)").fetchone()[0]))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert 1 <= len(pids) <= 2
    few.close_all()


def test_a_pool_that_is_used_up_for_too_long_is_busy(place: Place, sessions: ClientSessions) -> None:
    few = ClientSessions(Database(Place.read(f"{place.location}&pool_size=1"), str), patience_s=0.3)
    is_in, is_over = threading.Event(), threading.Event()

    def read() -> None:
        few.read(lambda c: (is_in.set(), is_over.wait(10)))

    thread = threading.Thread(target=read)
    thread.start()
    is_in.wait(10)
    with pytest.raises(StoreBusy, match="pool_size"):
        few.read(lambda c: None)
    is_over.set()
    thread.join()
    few.close_all()


def test_a_call_from_within_a_call_is_refused(sessions: ClientSessions) -> None:
    with pytest.raises(UsageError, match="signal handler"):
        sessions.write(lambda c: sessions.read(lambda c: None), "test")


def test_a_forked_child_opens_its_own_and_leaves_its_parent_alone(
    sessions: ClientSessions, database: Database
) -> None:
    sessions.write(note(database, "parent"), "test")
    mine = sessions.read(lambda c: c.execute("SELECT pg_backend_pid()").fetchone()[0])
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            theirs = sessions.read(lambda c: c.execute("SELECT pg_backend_pid()").fetchone()[0])
            sessions.write(note(database, "child"), "test")
            sessions.close_all()
            code = 0 if theirs != mine else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert sessions.read(lambda c: c.execute("SELECT pg_backend_pid()").fetchone()[0]) == mine
    assert noted(sessions, database) == ["child", "parent"]


def test_a_transaction_that_its_client_abandons_does_not_keep_the_lock(
    sessions: ClientSessions, database: Database
) -> None:
    """A client that was stopped in the middle, or cut off, is ended by the server."""
    pid = os.fork()
    if pid == 0:
        try:
            sessions.write(lambda c: os.kill(os.getpid(), 19), "test")  # SIGSTOP
        finally:
            os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    try:
        began = time.monotonic()
        sessions.write(note(database, "a"), "test")
        assert time.monotonic() - began < 9
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_the_clock_of_a_transaction_is_the_servers(sessions: ClientSessions, database: Database) -> None:
    def work(connection: Connection) -> tuple[int, int]:
        now = connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").fetchone()
        return database.clock.now().wall_us, now[0]

    ours, servers = sessions.write(work, "test")
    assert abs(ours - servers) < 1_000_000
    assert database.clock.now().boot_us == pytest.approx(database.clock.now().wall_us, abs=1_000_000)
