"""The references: what is measured beside mpdispatch, in the same run. They know nothing of it but its SQLite."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from inspect import signature
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from app import add
from sizes import WORKERS
from work import nap, noop

from mpdispatch.sqlite3 import connect

Task = tuple[Callable[..., Any], tuple[Any, ...]]

_TABLE = """
    CREATE TABLE IF NOT EXISTS jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, queue TEXT NOT NULL, state TEXT NOT NULL,
        priority INTEGER NOT NULL, run_at_us INTEGER NOT NULL, payload TEXT NOT NULL)
"""
_INSERT = (
    "INSERT INTO jobs (name, queue, state, priority, run_at_us, payload) "
    "VALUES ('noop', 'default', 'pending', 0, ?, ?)"
)


def warm_pool() -> ProcessPoolExecutor:
    """The standard library's pool with both its workers up. Make it before there are threads: it may fork."""
    pool = ProcessPoolExecutor(WORKERS)
    list(pool.map(nap, [0.05] * 2 * WORKERS))
    return pool


def pool_rate(pool: ProcessPoolExecutor, jobs: int) -> float:
    """No-ops per second by `submit`, until the last result is here."""
    began = time.perf_counter()
    for future in [pool.submit(noop) for _ in range(jobs)]:
        future.result()
    return jobs / (time.perf_counter() - began)


class RawTable:
    """A plain table of jobs at `synchronous=FULL` in WAL mode: what durability costs by itself."""

    def __init__(self, path: Path) -> None:
        self._db = connect(path, isolation_level=None, timeout=30)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(_TABLE)

    def insert(self) -> None:
        """One row, one commit, one fsync."""
        self._db.execute(_INSERT, (time.time_ns() // 1000, "{}"))

    def insert_rate(self, rows: int) -> float:
        """Rows per second, each in its own commit."""
        began = time.perf_counter()
        for _ in range(rows):
            self.insert()
        return rows / (time.perf_counter() - began)

    def bound_rate(self, rows: int) -> float:
        """Rows per second of one `executemany`, fed by a loop that binds `add`'s signature and encodes payloads."""
        bind = signature(add).bind

        def fed() -> Iterable[tuple[int, str]]:
            for number in range(rows):
                yield time.time_ns() // 1000, json.dumps(bind(a=number).arguments)

        return self._many(fed(), rows)

    def encoded_rate(self, rows: int) -> float:
        """Rows per second of one `executemany` of ready rows."""
        return self._many([(number, '{"a": 1}') for number in range(rows)], rows)

    def _many(self, parameters: Iterable[tuple[int, str]], rows: int) -> float:
        began = time.perf_counter()
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(_INSERT, parameters)
        self._db.execute("COMMIT")
        return rows / (time.perf_counter() - began)

    def close(self) -> None:
        self._db.close()


class Crowd:
    """Plain processes, up and waiting, that begin a task each at the same moment."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._members = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_member, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._members.append((process, ours))
        self.run([(noop, ())] * count)

    def run(self, tasks: Sequence[Task]) -> tuple[float, list[Any]]:
        """Seconds until the last is done, and what each gave back."""
        began = time.perf_counter()
        for (_, pipe), task in zip(self._members, tasks, strict=True):
            pipe.send(task)
        results = [pipe.recv() for _, pipe in self._members]
        return time.perf_counter() - began, results

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process, pipe in self._members:
            pipe.close()
            process.join(10)
            process.close()


def _member(pipe: Connection) -> None:
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        pipe.send(function(*args))


def pipe_round_trips(count: int) -> list[float]:
    """Milliseconds from a byte into a pipe to another process to the byte it answers."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_echo, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    found = []
    for number in range(count + 1):
        began = time.perf_counter()
        ours.send_bytes(b"!")
        ours.recv_bytes()
        if number:  # it is up
            found.append((time.perf_counter() - began) * 1000)
    ours.close()
    process.join(10)
    return found


def _echo(pipe: Connection) -> None:
    while True:
        try:
            pipe.send_bytes(pipe.recv_bytes())
        except EOFError:
            return


class Metronome:
    """Calls a function at a rate, on a thread, while switched on: a steady load.

    For `LONGEST_S` at most, so that a load the machine turns out not to carry comes to an end.
    """

    LONGEST_S = 15.0

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._pause_s = self._until = 0.0
        self._on, self._off = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def on(self, per_s: float) -> None:
        self._pause_s, self._until = 1 / per_s, time.monotonic() + self.LONGEST_S
        self._on.set()

    def off(self) -> None:
        self._on.clear()

    def _beat(self) -> None:
        due = time.monotonic()
        while not self._off.is_set():
            if not self._on.wait(0.05) or time.monotonic() > self._until:
                self._on.clear()
                due = time.monotonic()
                continue
            self._call()
            due = max(due + self._pause_s, time.monotonic() - 0.05)
            time.sleep(max(0.0, due - time.monotonic()))

    def stop(self) -> None:
        self._off.set()
        self._thread.join()
