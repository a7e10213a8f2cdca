"""Celery: acknowledged late and given back when a worker is lost; no results."""

from __future__ import annotations

import os

import stamps
from celery import Celery
from redis import Redis

URL = os.environ["BENCH_SERVER"]
_QUIET = ("--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat")
COMMANDS = [["celery", "--app", "celery_app", "worker", "--concurrency", "2", *_QUIET]]
app = Celery("celery_app", broker=URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=100,
)


@app.task(name="noop")
def _noop() -> None:
    stamps.noop()


@app.task(name="stamp")
def _stamp() -> None:
    stamps.stamp()


def prepare() -> None:
    global client
    client = Redis.from_url(URL)


def fill(count: int) -> None:
    with app.producer_or_acquire() as producer:
        for _ in range(count):
            _noop.apply_async(producer=producer)


def stamp() -> None:
    _stamp.delay()


def left() -> int:
    """Not yet fetched, and fetched but not acknowledged."""
    return client.llen("celery") + client.hlen("unacked")
