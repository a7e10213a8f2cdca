"""Waiting for things to become true, and looking at processes. No bare sleeps: every wait has a condition."""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mpdispatch.host.processes import process_start

T = TypeVar("T")


def until(probe: Callable[[], T], *, timeout_s: float = 10.0, what: str = "") -> T:
    """What `probe` gives as soon as that is true; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what or probe}")
        time.sleep(0.001)
    return found


def lives(pid: int) -> bool:
    """Whether there is such a process; a zombie is none."""
    return process_start(pid) is not None


def state_of(pid: int) -> str:
    """The kernel's letter for it: R, S, T (stopped), Z …; empty if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return chr(file.read().rpartition(b")")[2].split()[0][0])
    except OSError:
        return ""


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Nothing can be opened in this process meanwhile; what is open stays so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_descriptors() -> dict[int, str]:
    """This process's descriptors and what they are; not those of what only waits to be collected."""
    gc.collect()
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue  # the one that listed the folder
    return found


def children(pid: int) -> list[int]:
    """Children of a process with one thread, zombies included."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return list(map(int, file.read().split()))


def zombies() -> list[int]:
    """Children of this process that nobody has reaped."""
    return [pid for pid in children(os.getpid()) if state_of(pid) == "Z"]


def pid_in(path: os.PathLike[str] | str) -> int:
    """The pid somebody wrote into this file, once it is there."""

    def read() -> int:
        try:
            with open(path) as file:
                text = file.read()
        except FileNotFoundError:
            return 0
        return int(text) if text.endswith("\n") else 0

    return until(read, what=f"a pid in {path}")
