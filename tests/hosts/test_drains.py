"""Two hosts drain a queue while their server, their workers, a supervisor and the network fail."""

from __future__ import annotations

import os
import signal
import threading
import time
from urllib.parse import urlsplit

from tests.hosts.lossy import Lossy
from tests.hosts.yard import THRESHOLD_S, Yard
from tests.servers.process import Server
from tests.whole.harness import children, until

AnyServer = tuple[str, Server]


class Enqueuer:
    """A client that enqueues job after job on a thread until it is stopped, and knows which were acknowledged."""

    def __init__(self, yard: Yard) -> None:
        self._yard, self._is_over = yard, threading.Event()
        self.ids = list[int]()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        nap = self._yard.app.nap
        try:
            while not self._is_over.wait(0.01):
                self.ids.append(nap.enqueue(s=0.03).id)
                self.ids.append(nap.options(queue="single").enqueue(s=0.005).id)
        except BaseException as error:  # told by `ended`
            self._error = error

    def ended(self) -> list[int]:
        self._is_over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self._error is None, self._error
        return self.ids


def some_more(yard: Yard, count: int = 10) -> None:
    """Wait until so many more jobs have completed."""
    enough = yard.states().get("completed", 0) + count
    yard.until(lambda: yard.states().get("completed", 0) >= enough, f"{count} more jobs complete", within=40)


def test_a_drain_outlives_whatever_is_killed(yard: Yard, server: AnyServer) -> None:
    running = server[1]
    east, west = yard.host("east"), yard.host("west")
    first, second = yard.supervising(east), yard.supervising(west)
    enqueuer = Enqueuer(yard)
    some_more(yard)
    os.kill(until(lambda: children(first.pid), "workers")[-1], signal.SIGKILL)
    running.kill()
    running.restart()
    some_more(yard)
    second.kill()
    yard.supervise(west)
    some_more(yard)
    running.stop()
    time.sleep(THRESHOLD_S + 0.5)  # all supervisors give their jobs up meanwhile
    running.cont()
    some_more(yard)
    east.cut()
    time.sleep(THRESHOLD_S / 2)
    east.mend()
    some_more(yard)
    os.kill(until(lambda: children(first.pid), "workers")[-1], signal.SIGKILL)
    ids = enqueuer.ended()
    yard.until(yard.is_drained, "all jobs end", within=60)
    assert len(ids) == len(set(ids))
    yard.judge(ids)


def test_no_lost_reply_is_a_lost_or_a_second_job(yard: Yard, server: AnyServer) -> None:
    parts = urlsplit(yard.location)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = Lossy((parts.hostname, parts.port), seed=14)
    try:
        yard.location = yard.location.replace(f":{parts.port}/", f":{proxy.port}/")
        for name in ("east", "west"):
            yard.supervising(yard.host(name), stale_job_threshold=20)
        client = yard.app_at(yard.location).engine
        proxy.losses = 0.05
        ids = [client.enqueue("nap", s=0.01).id for _ in range(40)]
        ids += [client.options(queue="single").enqueue("nap", s=0.005).id for _ in range(20)]
        yard.until(yard.is_drained, "all jobs end", within=60)
        client.store.close_all()
        assert proxy.lost > 5
    finally:
        proxy.close()
    yard.judge(ids)
    assert sorted(each.job for each in yard.runs) == ids, "some ran twice, and nothing had failed"
