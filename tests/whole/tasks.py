"""The app under test. The harness writes this file as `tasks.py` into each test's folder; nothing imports it here.

Every handler that matters to the checker notes its start and its end in the records: one line, one write.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from itertools import repeat
from pathlib import Path
from typing import Any

from mpdispatch import (
    Cancel,
    Dispatcher,
    Engine,
    QueueConfig,
    Retry,
    Snooze,
    SQLiteStore,
    backoff,
    current_engine,
    current_job,
)

HERE = Path(__file__).resolve().parent
RECORDS = HERE / "records"

engine = Engine.build(
    Dispatcher(store=SQLiteStore(HERE / "jobs.db")),
    backoff=backoff.Constant(0),
    queue_configs=[QueueConfig("narrow", max_concurrency=3), QueueConfig("rated", rate_limit=50)],
)


def note(what: str) -> None:
    """One record. Opens it each time: handlers here close whatever is open."""
    job = current_job()
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    records = os.open(RECORDS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(records, f"{what} {job.id} {job.fencing_token} {os.getpid()} {now}\n".encode())
    finally:
        os.close(records)


@engine.job()
def quick(n: int = 0) -> int:
    note("start")
    note("end")
    return n


@engine.job()
def plain(n: int = 0) -> int:
    return n


@engine.job()
def nap(s: float = 0.01) -> None:
    note("start")
    time.sleep(s)
    note("end")


@engine.job(max_retries=0)
def once(s: float = 0.01) -> None:
    note("start")
    time.sleep(s)
    note("end")


@engine.job()
def until_file(name: str, size: int = 0) -> str:
    """Runs until somebody creates the file. Gives its name, at least so many characters long."""
    note("start")
    while not (HERE / name).exists():
        time.sleep(0.005)
    note("end")
    return name.ljust(size)


@engine.job()
def shell(script: str, argument: str) -> int:
    """Runs a shell in a session of its own, as a handler may."""
    return subprocess.run(["sh", "-c", script, HERE / argument], start_new_session=True).returncode


@engine.job(max_retries=0)
def measure(path: str) -> dict[str, int]:
    return measured(path)


def measured(path: str) -> dict[str, int]:
    """What `measure` gives, also when called plainly."""
    try:
        tree = ast.parse(Path(path).read_bytes(), path)
    except (SyntaxError, ValueError):  # some files are there to be wrong
        return {"error": 1}
    counts: dict[str, int] = {}
    for node in ast.walk(tree):
        kind = type(node).__name__
        counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items()))


class StrRaises(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")

    __repr__ = __str__


@engine.job(max_retries=0)
def end_badly(how: str) -> Any:  # noqa: C901 - a table of ends, one line each
    note("start")
    match how:
        case "sigkill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sigsegv":
            ctypes.string_at(0)
        case "sigabrt":
            os.abort()
        case "exit0":
            os._exit(0)
        case "sys.exit":
            sys.exit(0)
        case "interrupt":
            raise KeyboardInterrupt
        case "generator_exit":
            raise GeneratorExit
        case "bad_str":
            raise StrRaises
        case "group":
            raise BaseExceptionGroup("all of it", [KeyboardInterrupt(), ValueError("one")])
        case "big_result":
            return "x" * 20_000_000
        case "not_json":
            return object()
        case "nan":
            return float("nan")
        case "surrogate":
            return "\ud800"
        case "recursion":
            return end_badly_deep()
        case "close_fds":
            os.closerange(3, 4096)
        case "close_all_fds":
            os.closerange(0, 4096)
        case "fork_return":
            if os.fork() == 0:
                return "the child came back into the worker"
            time.sleep(0.2)
            return "parent"
        case _:
            raise ValueError(how)
    return how


def end_badly_deep() -> Any:
    return end_badly_deep()


@engine.job(max_retries=0)
def hold_gil(s: int) -> str:
    """A C call that keeps the GIL."""
    note("start")
    ctypes.PyDLL(None).sleep(s)
    note("end")
    return "held"


@engine.job(max_retries=0)
def spin_in_c() -> None:
    """Minutes in a C loop that keeps the GIL and looks at no signal (a sleep would end at the first one)."""
    note("start")
    deque(repeat(None, 10**11), maxlen=0)


@engine.job(max_retries=0)
def stop_self() -> None:
    note("start")
    os.kill(os.getpid(), signal.SIGSTOP)
    note("end")


@engine.job(max_retries=0)
def die_first_time(marker: str) -> str:
    """Stays until killed the first time, then completes."""
    is_first = not (HERE / marker).exists()
    (HERE / marker).touch()  # before the note: whoever reads that one may kill us at once
    note("start")
    if is_first:
        time.sleep(60)
    note("end")
    return "second time"


@engine.job(max_retries=0)
def daemonise(then_sleep: float = 0.0) -> int:
    """Leaves a grandchild: double fork, own session, empty environment."""
    note("start")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(write, f"{os.getpid()}\n".encode())
            os.execve(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(300)"], {})
        os._exit(0)
    os.waitpid(child, 0)
    pid = int(os.read(read, 100))
    os.close(read)
    os.close(write)
    (HERE / "grandchild").write_text(str(pid))
    time.sleep(then_sleep)
    note("end")
    return pid


@engine.job(max_retries=0)
def leave_child(own_session: bool = True) -> int:
    return subprocess.Popen(["sleep", "300"], start_new_session=own_session).pid


@engine.job(max_retries=0)
def stay_with_child() -> None:
    """Has a child, and waits for it whatever it is told."""
    child = subprocess.Popen(["sleep", "300"])
    (HERE / "child").write_text(str(child.pid))
    while child.returncode is None:
        with contextlib.suppress(BaseException):
            child.wait()


@engine.job(max_retries=0)
def kill_own_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@engine.job(max_retries=0)
def ignore_everything(s: float = 60.0) -> None:
    """Answers to no signal and no exception."""
    note("start")
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    end = time.monotonic() + s
    while time.monotonic() < end:
        try:
            while time.monotonic() < end:
                time.sleep(0.01)
        except BaseException:
            continue
    note("end")


@engine.job(max_retries=2)
def fail(text: str = "no") -> None:
    note("start")
    raise ValueError(text)


@engine.job(max_retries=3)
def fail_until(attempt: int) -> int:
    note("start")
    if current_job().attempt < attempt:
        raise ValueError(f"attempt {current_job().attempt}")
    return current_job().attempt


@engine.job(max_retries=3)
def raise_retry(delay: float = 0.0) -> str:
    note("start")
    if current_job().attempt == 1:
        raise Retry(delay=delay)
    return "retried"


@engine.job(max_retries=0)
def snooze_once(delay: float = 0.1) -> int:
    note("start")
    if current_job().fencing_token == 1:
        raise Snooze(delay)
    return current_job().attempt


@engine.job(max_retries=3)
def raise_cancel() -> None:
    note("start")
    raise Cancel("not needed any more")


@engine.job(max_retries=50)
def join(s: float = 0.0, gives_up: bool = False) -> int:
    """One more than its parents' results together."""
    note("start")
    found = current_engine().parent_results(current_job().id)
    time.sleep(s)
    note("end")
    if gives_up:
        raise Cancel("as told")
    return 1 + sum(found.values())


@engine.job()
def enqueue_more(n: int) -> list[int]:
    """A handler may enqueue."""
    return [quick.enqueue(n=i).id for i in range(n)]


@engine.job(max_retries=0)
def chatter(size: int) -> None:
    """Writes to stdout past any buffer."""
    os.write(1, b"x" * size)


@engine.job(max_retries=0)
async def later(n: int) -> int:
    note("start")
    await asyncio.sleep(0.01)
    note("end")
    return n


@engine.job(max_retries=0)
async def linger() -> None:
    """Waits for ever; on the loop."""
    note("start")
    await asyncio.sleep(3600)


@engine.job(max_retries=0)
async def linger_stubbornly() -> None:
    """Will not be cancelled."""
    note("start")
    while True:
        try:
            await asyncio.sleep(3600)
        except BaseException:
            continue


@engine.job(max_retries=0)
async def leave_tasks() -> int:
    """Returns with work of its own still on the loop."""
    kept.append(asyncio.create_task(asyncio.sleep(3600)))
    return 1


kept: list[Any] = []
