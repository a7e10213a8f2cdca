"""The app of the tests with several hosts. The yard copies it into its folder; nothing imports it here.

Every handler notes its start, that it is still there, and its end: one line, one write, into a file of all hosts.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from mpdispatch import Dispatcher, Engine, QueueConfig, backoff, current_job, open_store

HERE = Path(__file__).resolve().parent

engine = Engine.build(
    Dispatcher(store=open_store(os.environ.get("YARD_STORE", "jobs.db")), queues=["default", "single"]),
    backoff=backoff.Constant(0),
    queue_configs=[QueueConfig("single", max_concurrency=1)],
)


def note(what: str) -> None:
    job, now = current_job(), time.monotonic_ns()
    line = f"{what} {job.id} {job.fencing_token} {job.queue} {os.uname().nodename} {os.getpid()} {now}\n"
    with open(HERE / "records", "ab", buffering=0) as records:
        records.write(line.encode())


@engine.job(max_retries=100)
def nap(s: float = 0.0) -> str:
    """Sleeps, and notes every few ms that it is still there."""
    note("start")
    until_s = time.monotonic() + s
    while (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(left_s, 0.005))
        note("on")
    note("end")
    return os.uname().nodename


@engine.job(max_retries=5)
def until_file(name: str) -> str:
    """Runs until somebody creates the file."""
    note("start")
    current_job().log(f"waiting for {name} on {os.uname().nodename}")
    while not (HERE / name).exists():
        time.sleep(0.005)
        note("on")
    note("end")
    return os.uname().nodename
