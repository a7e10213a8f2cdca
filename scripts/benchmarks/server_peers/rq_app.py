"""RQ: a job stands in a registry while it runs, and is retried or kept as failed when its worker is gone."""

from __future__ import annotations

import os

import stamps
from redis import Redis
from rq import Queue
from rq.registry import StartedJobRegistry

URL = os.environ["BENCH_SERVER"]
COMMANDS = [["rq", "worker", "--url", URL, "--quiet"]] * 2


def _stamp() -> None:
    # Each job has a process of its own; its parent is the worker.
    stamps.stamp(os.getppid())


def prepare() -> None:
    global queue
    queue = Queue(connection=Redis.from_url(URL))


def fill(count: int) -> None:
    queue.enqueue_many([Queue.prepare_data("stamps.noop") for _ in range(count)])


def stamp() -> None:
    queue.enqueue("rq_app._stamp")


def left() -> int:
    return len(queue) + StartedJobRegistry(queue=queue).get_job_count(cleanup=False)
