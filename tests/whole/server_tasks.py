"""The app of the tests of stores on servers. The harness writes it as `tasks.py` into each test's folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mpdispatch import Dispatcher, Engine, backoff, current_job, open_store

HERE = Path(__file__).resolve().parent
RECORDS = HERE / "records"

engine = Engine.build(
    Dispatcher(store=open_store(os.environ.get("STORE_OF_TASKS", ":memory:"))),
    backoff=backoff.Constant(0),
)


def note(what: str) -> None:
    """One record: what, job, fencing token, pid, time."""
    job = current_job()
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    records = os.open(RECORDS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(records, f"{what} {job.id} {job.fencing_token} {os.getpid()} {now}\n".encode())
    finally:
        os.close(records)


@engine.job(max_retries=10)
def quick(n: int = 0) -> int:
    note("start")
    note("end")
    return n


@engine.job(max_retries=10)
def slow(seconds: float = 0.05) -> None:
    note("start")
    time.sleep(seconds)
    note("end")


@engine.job(max_retries=10)
def until_file(name: str) -> None:
    """Pure CPU in short steps, so that a soft timeout would end it: it ignores that."""
    note("start")
    while not (HERE / name).exists():
        time.sleep(0.01)
    note("end")
