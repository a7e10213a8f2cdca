"""Supervisors on PostgreSQL while its server is killed or stopped, and while replies of it are lost."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.fixtures import NewServer
from tests.servers.process import Server
from tests.store.postgres.proxy import Proxy
from tests.whole.harness import Place, Process, boottime_ns, is_alive, overlaps, until

TASKS = Path(__file__).with_name("server_tasks.py").read_text()
Room = Callable[[str], Place]


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """`room(location)`: a folder with an app on that store."""
    made = list[Place]()

    def make(location: str) -> Place:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        place = Place(folder, TASKS)
        place.env["STORE_OF_TASKS"] = location
        monkeypatch.setenv("STORE_OF_TASKS", location)
        made.append(place)
        return place

    yield make
    for place in made:
        place.close()
        place.app.engine.dispatcher.store.close_all()


@pytest.fixture
def server(new_server: NewServer) -> Server:
    return new_server("postgres")


def all_ended_once(place: Place, ids: list[int]) -> None:
    """Each job completed, by exactly one of its starts, and none of its executions overlapped."""
    engine = place.app.engine
    assert engine.counts()["completed"] == len(ids)
    for job_id in ids:
        causes = Counter(str(each.cause) for each in engine.attempts(job_id))
        assert causes["completed"] == 1, (job_id, causes)
    assert Counter(job_id for what, job_id, *_ in place.records if what == "end").keys() == set(ids)


def started_once(place: Place, ids: list[int]) -> bool:
    return Counter(job_id for what, job_id, *_ in place.records if what == "start") == Counter(ids)


def supervisors(place: Place, count: int, **settings: object) -> list[Process]:
    return [place.supervise("-c", "2", **settings) for _ in range(count)]


def enqueue_steadily(place: Place, count: int, ids: list[int], pause_s: float = 0.002) -> threading.Thread:
    """Enqueue so many jobs one by one on a thread, whatever happens to the server."""

    def run() -> None:
        for n in range(count):
            ids.append(place.app.quick.enqueue(n).id)
            time.sleep(pause_s)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_server_killed_in_the_middle_of_a_drain_costs_no_job_and_no_outcome(
    server: Server, room: Room
) -> None:
    place = room(server.dsn)
    ids = list(place.app.quick.enqueue_many({"n": n} for n in range(3000)))
    running = supervisors(place, 2)
    thread = enqueue_steadily(place, 200, ids)
    for least in (500, 2500):
        until(lambda least=least: len(place.records) >= least, "some jobs have run", within=60)
        server.kill()
        server.restart()
    thread.join(60)
    assert not thread.is_alive()
    until(lambda: place.counts()["completed"] == 3200, "all jobs have completed", within=60)
    all_ended_once(place, ids)
    assert [each.err[-3000:] for each in running if not is_alive(each.pid)] == []
    for each in running:
        each.kill(signal.SIGTERM)
    assert [each.ended() for each in running] == [0, 0]


def test_a_stopped_server_delays_everything_and_loses_nothing(server: Server, room: Room) -> None:
    place = room(server.dsn)
    ids = [place.app.quick.enqueue(n).id for n in range(300)]
    supervisors(place, 2)
    until(lambda: len(place.records) >= 100, "some jobs have run", within=60)
    server.stop()
    try:
        time.sleep(2.0)
    finally:
        server.cont()
    until(lambda: place.counts()["completed"] == 300, "all jobs have completed", within=60)
    all_ended_once(place, ids)
    assert not overlaps(place.records, {})
    # It was silent for less than the lease: nothing was started over.
    assert started_once(place, ids)


def test_a_timeout_kills_in_time_while_the_server_is_stopped(server: Server, room: Room) -> None:
    place = room(server.dsn)
    job = place.app.until_file.options(timeout=1.5, max_retries=0).enqueue("never")
    (running,) = supervisors(place, 1)
    place.started(job.id)
    server.stop()
    try:
        time.sleep(4.0)
    finally:
        server.cont()
    assert str(place.ended(job.id).state) == "failed"
    (attempt,) = place.app.engine.attempts(job.id)
    assert str(attempt.cause) == "timeout"
    assert 1.0 < attempt.duration_s < 3
    assert is_alive(running.pid)


def test_a_server_that_is_silent_for_longer_than_the_lease_has_workers_killed_before_it_ends(
    server: Server, room: Room
) -> None:
    place = room(server.dsn)
    job = place.app.until_file.enqueue("go")
    supervisors(place, 2, heartbeat_interval=0.5, stale_job_threshold=2.0)
    pid = place.started(job.id)[3]
    server.stop()
    stopped_ns = boottime_ns()
    try:
        until(lambda: not is_alive(pid), "its worker is dead", within=10)
        took_s = (boottime_ns() - stopped_ns) / 1e9
        # A lease may be as old as a heartbeat when the server stops.
        assert took_s < 2.0
        time.sleep(1.0)
    finally:
        server.cont()
    again = place.started(job.id, 2, within=30)
    (place.folder / "go").touch()
    place.complete(job.id)
    assert not overlaps(place.records, {pid: stopped_ns + int(took_s * 1e9)})
    assert again[2] == 2
    causes = [str(each.cause) for each in place.app.engine.attempts(job.id)]
    assert causes == ["lease_lost", "completed"]


def test_lost_replies_cost_no_job_and_record_none_twice(server: Server, room: Room) -> None:
    with tempfile.TemporaryDirectory(prefix="mpd-proxy-", dir="/tmp") as folder:
        proxy = Proxy(server.dsn, Path(folder))
        try:
            place = room(proxy.dsn)
            place.app.engine.dispatcher.store.migrate()
            ids = list[int]()
            running = supervisors(place, 2)
            thread = enqueue_steadily(place, 400, ids, pause_s=0.01)
            trips = 0
            while thread.is_alive():
                proxy.trip(b"COMMIT\0", ["drop reply", "drop request"][trips % 2])
                trips += proxy.tripped.wait(0.5)
                time.sleep(0.1)
            thread.join()
            assert trips >= 5
            until(lambda: place.counts()["completed"] == 400, "all jobs have completed", within=30)
            all_ended_once(place, ids)
            twice = [each for each in ids if len(place.starts_of(each)) > 1]
            assert not twice, (
                [(place.starts_of(each), place.app.engine.attempts(each)) for each in twice[:3]],
                [each.err[-1500:] for each in running],
            )
        finally:
            proxy.close()


def test_a_killed_supervisors_jobs_go_on_while_the_server_comes_back(server: Server, room: Room) -> None:
    place = room(server.dsn)
    ids = [place.app.slow.enqueue(0.02).id for n in range(150)]
    running = supervisors(place, 2, heartbeat_interval=0.5, stale_job_threshold=2.0)
    until(lambda: len(place.records) >= 60, "some jobs have run", within=60)
    deaths = dict.fromkeys(running[0].workers, 0)
    running[0].kill()
    server.kill()
    until(lambda: not any(map(is_alive, deaths)), "its workers are dead")
    deaths = dict.fromkeys(deaths, boottime_ns())
    server.restart()
    until(lambda: place.counts()["completed"] == 150, "all jobs have completed", within=60)
    all_ended_once(place, ids)
    assert not overlaps(place.records, deaths)
