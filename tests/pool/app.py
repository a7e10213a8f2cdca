"""The app the workers of these tests import: handlers that do as they are told. Runs in worker processes.

Environment: BOOT_GATE: importing waits until this file is there. BOOT_ACTION: what importing does (see mischief).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from mpdispatch.config import Config
from mpdispatch.errors import Cancel, Retry, Snooze
from mpdispatch.events.publish import Hooks
from mpdispatch.execution.middleware import Middleware
from mpdispatch.execution.process_context import current_job
from mpdispatch.execution.telemetry import Telemetry
from mpdispatch.handlers.description import AppDescription, describe
from mpdispatch.handlers.registry import JobDefinition, Registry
from mpdispatch.policy.backoff import Constant
from tests.host import tree
from tests.pool.mischief import act
from tests.pool.spoiling import SPOILS, state_of_process


class App:
    """As much of an engine as a worker needs."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.used_store: str | None = None
        self.middleware: tuple[Middleware, ...] = ()
        self.telemetry = Telemetry()
        self.hooks = Hooks((), self.telemetry, logging.getLogger("tests"))

    def describe(self) -> AppDescription:
        return describe(self.registry, store="", config=Config())

    def use_store(self, location: str) -> None:
        self.used_store = location

    def job(self, **options: Any) -> Any:
        def register(function: Any) -> Any:
            self.registry.add(JobDefinition(name=function.__name__, function=function, **options))
            return function

        return register


engine = App()


def wait_for(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.001)


def sign(path: str) -> None:
    """Append our pid to a file, in one write."""
    with open(path, "ab", buffering=0) as file:
        file.write(f"{os.getpid()}\n".encode())


@engine.job()
def noop() -> None:
    pass


@engine.job()
def echo(value: Any) -> Any:
    return value


@engine.job()
def whoami(path: str) -> int:
    sign(path)
    return os.getpid()


@engine.job()
def hold(started: str, gate: str = "/nonexistent") -> int:
    """Runs until there is a file at `gate`."""
    sign(started)
    wait_for(gate)
    return os.getpid()


@engine.job()
def stubborn(started: str, gate: str = "/nonexistent") -> None:
    """As `hold`, and swallows what should end it."""
    sign(started)
    while True:
        try:
            wait_for(gate)
        except BaseException:
            continue
        return


@engine.job()
def mischief(action: str, lasts: bool = False) -> str:
    """`lasts`: if it survives that, it goes on for ever."""
    act(action)
    if lasts:
        wait_for("/nonexistent")
    return action


@engine.job()
def mischief_later(gate: str, action: str) -> str:
    """Returns, and does it from a thread once there is a file at `gate`."""

    def later() -> None:
        wait_for(gate)
        act(action)

    threading.Thread(target=later, daemon=True).start()
    return action


@engine.job()
def leave(folder: str, kinds: list[str], gate: str = "", action: str = "") -> None:
    tree.leave_behind(folder, kinds)
    act(action)
    if gate:
        wait_for(gate)


@engine.job()
def leave_thread(gate: str = "/nonexistent") -> None:
    """Makes its worker tired."""
    threading.Thread(target=wait_for, args=(gate,)).start()


@engine.job()
def large(size: int) -> str:
    return "x" * size


@engine.job()
def sleep(seconds: float, signature: str = "") -> None:
    if signature:
        sign(signature)
    time.sleep(seconds)


@engine.job()
def uneven(seconds: float = 0.0) -> None:
    time.sleep(seconds)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


@engine.job(backoff=Constant(0.05))
def boom(how: str = "plain") -> None:
    match how:
        case "plain":
            raise ValueError("as told")
        case "unprintable":
            raise Unprintable
        case "sys.exit":
            sys.exit(0)
        case "retry":
            raise Retry(delay=0.2)
        case "retry as usual":
            raise Retry
        case "snooze":
            raise Snooze(0.2)
        case "cancel":
            raise Cancel("no need")
        case "no json":
            raise_no_json()


def raise_no_json() -> None:
    raise OSError(5, "an error with an errno")


@engine.job()
def no_json() -> object:
    return object()


@engine.job(backoff=Constant(0.05))
def fails_then_works(path: str, failures: int) -> int:
    sign(path)
    with open(path, "rb") as file:
        starts = len(file.readlines())
    if starts <= failures:
        raise ValueError(f"start {starts}")
    return starts


@engine.job()
def report(gate: str) -> None:
    current_job().progress(1, total=2, message="half")
    sign(gate + ".reported")
    wait_for(gate)


@engine.job()
def take_sigterm() -> str:
    """Takes one itself, and leaves its handler behind."""
    taken: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: taken.append(number))
    os.kill(os.getpid(), signal.SIGTERM)
    while not taken:
        time.sleep(0.001)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return "taken"


@engine.job()
def terminate(how: str) -> int | None:
    """Starts a process, ends it by SIGTERM, and gives its exit code."""
    if how == "program":
        program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        program.terminate()
        return program.wait(10)
    process = multiprocessing.get_context(how).Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join(10)
    return process.exitcode


@engine.job()
def spoil(how: str) -> None:
    """Changes something for the whole process, and leaves it so."""
    SPOILS[how]()


@engine.job()
def state() -> dict[str, Any]:
    """What a job finds."""
    return state_of_process()


if gate := os.environ.get("BOOT_GATE"):
    sign(os.environ["BOOT_GATE"] + ".waiting")
    wait_for(gate)
act(os.environ.get("BOOT_ACTION", ""))


@engine.job()
def snooze_once(seconds: float) -> None:
    """Puts itself off at its first start."""
    if current_job().fencing_token == 1:
        raise Snooze(seconds)
