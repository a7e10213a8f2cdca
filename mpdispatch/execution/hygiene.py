"""Puts a worker process back in order after each job. Runs in the worker's main thread, between jobs.

It restores what a handler changed for the whole process: working folder, environment, time zone, umask, signal
handlers, timers, blocked signals, niceness and scheduling, resource limits, the standard descriptors, and the state of
the interpreter (see `interpreter`). After a change that cannot be undone (another user, no_new_privs, threads that would
keep the process alive) the worker asks to be replaced. This runs after every job, and costs about 3 µs if nothing has
changed.

It leaves some changes, because they matter little or cannot be seen cheaply: sys.argv, the name of the process, replaced
functions of modules (time.time, builtins), capabilities and their bounding set, and settings that C code makes.
"""

from __future__ import annotations

import _thread
import os
import resource
import sys
import threading
import time
from collections.abc import Callable

# Bound here, because a job may replace these functions, and we must not call its own.
from os import chdir, getcwd, getpriority, putenv, setpriority, umask, unsetenv
from resource import getrlimit, setrlimit
from sys import getrecursionlimit, setrecursionlimit
from typing import Any

from mpdispatch.execution.descriptors import StandardDescriptors
from mpdispatch.execution.environment import environment
from mpdispatch.execution.identity import Identity
from mpdispatch.execution.interpreter import Interpreter
from mpdispatch.execution.job_context import OWN_THREADS
from mpdispatch.execution.signals import Signals

_ENVIRON = os.environ
_PRIO_PROCESS = os.PRIO_PROCESS
# Without the limit of resident memory, which kernels ignore.
_LIMITS = {
    number: name
    for name, number in vars(resource).items()
    if name.startswith("RLIMIT_") and name not in ("RLIMIT_RSS", "RLIMIT_OFILE")
}
_count_threads, _list_threads, _tzset = _thread._count, threading.enumerate, time.tzset


def _working_folder() -> str | None:
    """The working folder; None: it was deleted, as happens to the folder of a replaced release."""
    try:
        return getcwd()
    except FileNotFoundError:
        return None


def _time_zone() -> tuple[Any, ...]:
    return time.tzname, time.timezone, time.altzone


if sys.platform == "linux":
    from os import sched_getaffinity, sched_getscheduler, sched_param, sched_setaffinity, sched_setscheduler
else:

    def sched_getaffinity(pid: int) -> set[int]:
        return set()

    def sched_getscheduler(pid: int) -> int:
        return 0


class Hygiene:
    """The state that the process should have between jobs: that at the moment when this was made."""

    def __init__(self) -> None:
        self._cwd = _working_folder()
        self._umask = umask(0o077)
        umask(self._umask)
        self._environment = dict(environment())
        self._text_environment = dict(_ENVIRON)
        self._time_zone = _time_zone()
        self._signals = Signals(self._recycle)
        self._recursion_limit = getrecursionlimit()
        self._niceness = getpriority(_PRIO_PROCESS, 0)
        self._identity = Identity()
        self._cpus, self._policy = sched_getaffinity(0), sched_getscheduler(0)
        self._descriptors = StandardDescriptors()
        self._interpreter = Interpreter()
        self._limits = [(limit, getrlimit(limit)) for limit in _LIMITS]
        self._threads = frozenset(_list_threads())
        self._thread_count = _count_threads()
        self._was_brief = False
        self.recycle_reasons: list[str] = []
        """Why this worker should be replaced; empty: it should not."""

    def restore(self, *, was_brief: bool = False, goes_on: bool = False) -> list[str]:
        """Restore what has changed since this was made; gives a few words for each change.

        `was_brief`: skip this time what is expensive to look at, and what takes a job longer to change. `goes_on`: skip
        also what jobs seldom change, because the next job is of the same handler; it is restored after that one.
        """
        changed: list[str] = []
        try:
            self._restore(changed)
            if not (was_brief and goes_on):
                self._restore_between_handlers(changed)
            if not was_brief:
                self._restore_the_rest(changed)
                # Not after every few brief jobs while more come: it costs as much as all the rest.
                if not (goes_on and self._was_brief):
                    self._restore_limits(changed)
            self._was_brief = was_brief
        except BaseException as error:  # noqa: BLE001 - by what the job left: it is over, and its outcome is to be said
            self._recycle(f"it could not be put in order: {type(error).__name__}: {error}")
        return changed

    def _restore(self, changed: list[str]) -> None:
        identity = self._identity
        if identity.may_change and identity.acts_as_other():  # first, because the rest may need these rights
            self._restore_identity(changed)
        if (mask := umask(self._umask)) != self._umask:
            changed.append(f"umask {mask:04o}")
        if (cwd := _working_folder()) != self._cwd:
            self._restore_cwd(changed, cwd)
        if os.environ is not _ENVIRON:
            changed.append("os.environ")
            os.environ = _ENVIRON  # noqa: B003 - its content is compared below
        if environment() != self._environment:
            changed.append(self._restore_environment())
        self._signals.restore(changed)
        if (limit := getrecursionlimit()) != self._recursion_limit:
            changed.append(f"recursion limit {limit}")
            setrecursionlimit(self._recursion_limit)
        self._interpreter.restore(changed)
        # Not threading.active_count(), which takes a lock and builds lists: 0.05 instead of 0.4 µs.
        if _count_threads() > self._thread_count:
            self._look_at_threads()

    def _restore_between_handlers(self, changed: list[str]) -> None:
        if self._identity.is_changed():
            self._restore_identity(changed)
        if (niceness := getpriority(_PRIO_PROCESS, 0)) != self._niceness:
            changed.append(f"niceness {niceness}")
            self._undo(
                lambda: setpriority(_PRIO_PROCESS, 0, self._niceness),
                f"cannot go back from niceness {niceness} to {self._niceness}",
            )
        self._signals.restore_between_handlers(changed)
        self._interpreter.restore_between_handlers(changed)

    def _restore_the_rest(self, changed: list[str]) -> None:
        self._signals.restore_the_rest(changed)
        if self._descriptors.is_changed():
            self._restore_descriptors(changed)
        self._interpreter.restore_the_rest(changed)
        if _time_zone() != self._time_zone:
            changed.append("time zone")
            self._restore_time_zone()
        if (cpus := sched_getaffinity(0)) != self._cpus:
            changed.append(f"affinity {sorted(cpus)}")
            self._undo(lambda: sched_setaffinity(0, self._cpus), f"cannot go back to CPUs {sorted(self._cpus)}")

    def _restore_limits(self, changed: list[str]) -> None:
        if (policy := sched_getscheduler(0)) != self._policy:
            changed.append(f"scheduling policy {policy}")
            self._undo(
                lambda: sched_setscheduler(0, self._policy, sched_param(0)),
                f"cannot go back to scheduling policy {self._policy}",
            )
        if self._identity.is_held_down():
            self._recycle("no_new_privs was set")
        for limit, then in self._limits:
            if getrlimit(limit) == then:
                continue
            changed.append(_LIMITS[limit])
            try:
                setrlimit(limit, then)
            except (OSError, ValueError) as error:
                self._recycle(f"cannot put back {_LIMITS[limit]}: {error}")

    def _restore_identity(self, changed: list[str]) -> None:
        """Change back as far as allowed. No other job runs here, because one has run as another user."""
        changed.append(self._identity.go_back())
        self._recycle("its user or group was changed")

    def _restore_cwd(self, changed: list[str], now: str | None) -> None:
        changed.append(f"working folder {now or '(deleted)'}")
        if (before := self._cwd) is None:
            self._recycle("there was no working folder to go back to")
        else:
            self._undo(lambda: chdir(before), f"cannot go back to {before}")

    def _restore_environment(self) -> str:
        now, then = dict(_ENVIRON), self._text_environment
        names = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
        for name in now.keys() - then.keys():
            del _ENVIRON[name]
        for name, value in then.items():
            if now.get(name) != value:
                _ENVIRON[name] = value
        if "TZ" in names:
            _tzset()
        return "environment " + ", ".join(names[:10])

    def _restore_time_zone(self) -> None:
        """Also in C, where a job may have set another zone than in os.environ."""
        if (name := self._text_environment.get("TZ")) is None:
            unsetenv("TZ")
        else:
            putenv("TZ", name)
        _tzset()

    def _restore_descriptors(self, changed: list[str]) -> None:
        back, lost = self._descriptors.go_back()
        changed.extend(f"descriptor {number}" for number in back)
        if lost:
            self._recycle("cannot open again: descriptor " + ", ".join(map(str, lost)))

    def _look_at_threads(self) -> None:
        left = [
            thread
            for thread in _list_threads()
            if thread not in self._threads and not thread.daemon and not thread.name.startswith(OWN_THREADS)
        ]
        if left:
            self._recycle("threads left running: " + ", ".join(thread.name for thread in left[:5]))

    def _undo(self, undo: Callable[[], object], failure: str) -> None:
        try:
            undo()
        except OSError as error:
            self._recycle(f"{failure}: {error.strerror}")

    def _recycle(self, reason: str) -> None:
        if reason not in self.recycle_reasons:
            self.recycle_reasons.append(reason)
