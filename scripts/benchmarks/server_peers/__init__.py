"""Peers on the server that our stores are on: `APP_app.py` is the app of each, `driver.py` measures it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from peers import Paths, Peer, environment
from servers import Server
from sizes import Size

DRIVER = Path(__file__).with_name("driver.py")


class Known(NamedTuple):
    """What is known of a peer."""

    kind: str
    """Of the server that it is on."""
    packages: tuple[str, ...]
    limit: float
    """How many times as many jobs we mean to drain."""
    notes: str
    """How it is set up, and what of that keeps a job from being lost."""
    latency_limit: float | None = None
    is_quick: bool = False
    """Whether it drains as many jobs as we do, so that a block takes its time."""


KNOWN = {
    "pgqueuer": Known(
        "postgres",
        ("pgqueuer[asyncpg]",),
        2.0,
        "two consumers, async handlers, batches of 1000, its quickest (default: 10); tables logged (durable); a job "
        "whose worker's heartbeat stops is picked again",
        1.0,
        is_quick=True,
    ),
    "procrastinate": Known(
        "postgres",
        ("procrastinate", "psycopg[binary]"),
        20.0,
        "two workers, async tasks, 10 at once; a job stays in the state doing until it is done, one of a dead worker is "
        "found by get_stalled_jobs",
    ),
    "taskiq": Known(
        "redis",
        ("taskiq", "taskiq-redis"),
        3.0,
        "two workers, async tasks; RedisStreamBroker, acknowledged once executed, claimed anew if nobody acknowledges; no "
        "results",
        1.0,
        is_quick=True,
    ),
    "rq": Known(
        "redis",
        ("rq",),
        10.0,
        "two workers, which fork for each job; a job stands in the registry of started ones until it is done",
    ),
    "celery": Known(
        "redis",
        ("celery[redis]", "packaging"),
        10.0,
        "-c 2; acks_late, reject_on_worker_lost, prefetches 100 a worker; no results",
    ),
    "dramatiq": Known(
        "redis",
        ("dramatiq[redis]",),
        10.0,
        "two processes of 8 threads; a message is acknowledged once executed, and put back if its worker is gone",
    ),
}


class ServerPeer(Peer):
    """A queue on a server, in its durable setting, with a database of its own in each block."""

    def __init__(self, name: str, python: Path, version: str, known: Known, server: Server) -> None:
        super().__init__(name, python, version, {"durable": known.limit}, known.notes)
        self.latency_limit = known.latency_limit
        self._is_quick, self._server = known.is_quick, server

    def jobs_of(self, size: Size) -> int:
        return size.drain_jobs if self._is_quick else size.peer_jobs

    def _drive(self, paths: Paths, mode: str, setting: str, count: int) -> Any:
        with self._server.peer_place() as url:
            return self._output(DRIVER, self.name, mode, url, str(count))


def server_peer(name: str, folder: Path, server: Server) -> ServerPeer:
    """One of `KNOWN`, in an environment of its own."""
    known = KNOWN[name]
    return ServerPeer(name, *environment(folder / f"{name}-env", *known.packages), known, server)
