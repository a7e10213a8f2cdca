"""Wake-ups by NOTIFY reach listeners of other processes, also after the server was away."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator

import pytest

from mpdispatch.store.postgres.options import Place
from mpdispatch.store.postgres.server import Database
from mpdispatch.store.postgres.sessions import ClientSessions
from mpdispatch.store.postgres.wake import Listener, PostgresWake
from tests.store.postgres.proxy import Proxy
from tests.store.postgres.test_sessions import end_backends, until


def hears(listener: Listener, for_s: float) -> bool:
    poll = select.poll()
    poll.register(listener.fileno(), select.POLLIN)
    if not poll.poll(for_s * 1000):
        return False
    listener.drain()
    return True


def quiet(listener: Listener) -> None:
    """Wait for the wake-up that says that it hears from now on."""
    assert hears(listener, 20)
    while hears(listener, 0.05):
        pass


@pytest.fixture
def wake(database: Database, sessions: ClientSessions) -> Iterator[PostgresWake]:
    found = PostgresWake(database, sessions)
    yield found
    found.close()


def elsewhere(place: Place) -> tuple[ClientSessions, PostgresWake]:
    """As another process has it."""
    database = Database(place, str)
    sessions = ClientSessions(database)
    return sessions, PostgresWake(database, sessions)


def test_each_kind_of_wake_up_reaches_its_own_listeners(wake: PostgresWake, place: Place) -> None:
    work, ends = wake.listen(1), wake.listen_for_ends()
    assert work is not None
    assert ends is not None
    quiet(work)
    quiet(ends)
    sessions, other = elsewhere(place)
    other.notify()
    assert hears(work, 20)
    assert not hears(ends, 0.05)
    other.notify_of_ends()
    assert hears(ends, 20)
    assert not hears(work, 0.05)
    for each in (work, ends):
        each.close()
    sessions.close_all()


def test_a_wake_up_within_a_transaction_comes_with_its_commit(
    wake: PostgresWake, place: Place, sessions: ClientSessions
) -> None:
    work = wake.listen(1)
    assert work is not None
    quiet(work)
    sessions.write_jobs(lambda c: None, wake.notify)
    assert hears(work, 20)
    sessions.write_jobs(lambda c: c.execute("SELECT 1"), wake.notify, is_one_statement=True)
    assert hears(work, 20)
    work.close()


def test_listeners_are_woken_once_a_lost_server_is_there_again(wake: PostgresWake, place: Place) -> None:
    work = wake.listen(1)
    assert work is not None
    quiet(work)
    end_backends(place)
    quiet(work)  # something may have happened meanwhile
    assert work.is_in_place()
    sessions, other = elsewhere(place)
    other.notify()
    assert hears(work, 20)
    work.close()
    sessions.close_all()


def test_a_process_that_listens_notifies_without_a_session_of_its_own(
    wake: PostgresWake, sessions: ClientSessions
) -> None:
    work = wake.listen(1)
    assert work is not None
    quiet(work)
    sessions.close()
    wake.notify()
    assert hears(work, 20)
    assert not sessions.notify("x", opens=False)  # none was opened
    work.close()


def test_a_forked_child_has_listeners_of_its_own(wake: PostgresWake, place: Place) -> None:
    parents = wake.listen(1)
    assert parents is not None
    quiet(parents)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert not parents.is_in_place()
            parents.close()
            own = wake.listen(2)
            assert own is not None
            quiet(own)
            wake.notify()
            code = 0 if hears(own, 20) else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert parents.is_in_place()
    assert hears(parents, 20)
    parents.close()


def test_behind_a_proxy_everybody_polls(place: Place, sessions: ClientSessions) -> None:
    database = Database(Place.read(f"{place.location}&proxy=1"), str)
    other = ClientSessions(database)
    assert PostgresWake(database, other).listen(1) is None
    assert PostgresWake(database, other).listen_for_ends() is None


def test_its_thread_ends_when_nobody_listens(wake: PostgresWake) -> None:
    work = wake.listen(1)
    assert work is not None
    quiet(work)
    work.close()
    wake.close()
    until(lambda: all(each.name != "mpdispatch-listen" for each in threading.enumerate()))


def test_a_notice_to_a_server_that_is_gone_costs_no_more_than_a_moment(proxy: Proxy, place: Place) -> None:
    sessions, wake = elsewhere(Place(proxy.dsn, place.options))
    proxy.close()
    began = time.monotonic()
    wake.notify()
    assert time.monotonic() - began < 5
    sessions.close_all()
