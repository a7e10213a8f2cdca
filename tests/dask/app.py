"""An app whose handlers run on a cluster. Runs in dask workers and in the test."""

from __future__ import annotations

import asyncio
import os
import time

from mpdispatch import Engine, current_job
from mpdispatch.backoff import Constant
from mpdispatch.errors import JobCancelled

engine = Engine.open("mpdispatch.db")


def sign(path: str) -> None:
    with open(path, "ab", buffering=0) as file:
        file.write(f"{os.getpid()}\n".encode())


@engine.job
def add(a: int, b: int) -> int:
    return a + b


@engine.job
def spawn(count: int) -> list[int]:
    """Enqueues further jobs, and says so."""
    current_job().log("spawning")
    return [add.enqueue(each, 1).id for each in range(count)]


@engine.job(backoff=Constant(0.05))
async def fail_once() -> int:
    if current_job().attempt == 1:
        raise ValueError("the first time")
    return current_job().attempt


@engine.job(backoff=Constant(0.05))
def wait(folder: str) -> int:
    """Runs until there is a file `gate` in the folder; signs when it begins, and when it is cancelled."""
    sign(f"{folder}/began")
    try:
        while not os.path.exists(f"{folder}/gate"):
            time.sleep(0.01)
    except JobCancelled:
        sign(f"{folder}/cancelled")
        raise
    return os.getpid()


@engine.job
async def doze(folder: str) -> None:
    """As `wait`, on an event loop, and without a gate."""
    sign(f"{folder}/began")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        sign(f"{folder}/cancelled")
        raise
