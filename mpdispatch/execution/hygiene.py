"""Puts a worker process back in order after each job. Runs in the worker's main thread, between jobs.

What a handler changed for the whole process is put back: working folder, environment, umask, signal handlers, blocked
signals, niceness, and the state of the interpreter (see `interpreter`). What cannot be (another user, threads that would
keep the process alive, resource limits) makes the worker ask to be replaced. Looking costs about 3 µs if nothing was
changed: it is done after every job.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of `signal`; typeshed has no stub for it
import _thread
import os
import resource
import signal
import sys
import threading
from typing import Any

from mpdispatch.execution.descendants import has_children, kill_children
from mpdispatch.execution.identity import Identity
from mpdispatch.execution.interpreter import Interpreter
from mpdispatch.execution.jobcontext import OWN_THREADS

__all__ = ["Hygiene", "has_children", "kill_children"]

_SIGNALS = tuple(
    int(getattr(signal, name))
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGPIPE")
)
_ALL_LIMITS = tuple(
    getattr(resource, name)
    for name in (
        "RLIMIT_AS",
        "RLIMIT_NOFILE",
        "RLIMIT_CPU",
        "RLIMIT_FSIZE",
        "RLIMIT_DATA",
        "RLIMIT_STACK",
        "RLIMIT_NPROC",
        "RLIMIT_CORE",
    )
)


def _environment() -> dict[Any, Any]:
    # The mapping beneath: `dict(os.environ)` decodes every entry anew (20 µs for 30 of them).
    raw: dict[Any, Any] | None = getattr(os.environ, "_data", None)
    return dict(os.environ) if raw is None else raw


def _working_folder() -> str | None:
    """None: it was deleted, as that of a release that has been replaced."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


# The C function: `signal.getsignal` wraps each answer in an enum (0.8 µs instead of 0.07).
_get_handler = _signal.getsignal


def _handlers() -> list[Any]:
    return list(map(_get_handler, _SIGNALS))


def _blocked() -> set[int]:
    # The C function, as above.
    found: set[int] = _signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return found


def _cpus() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


class Hygiene:
    """How the process should be between jobs, as it was when `snapshot` was called."""

    def __init__(self) -> None:
        self._cwd = _working_folder()
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._environment = dict(_environment())
        self._text_environment = dict(os.environ)
        self._handlers = _handlers()
        self._recursion_limit = sys.getrecursionlimit()
        self._blocked = _blocked()
        self._niceness = os.getpriority(os.PRIO_PROCESS, 0)
        self._identity = Identity()
        self._has_alarm = signal.getitimer(signal.ITIMER_REAL)[0] > 0
        self._cpus = _cpus()
        self._interpreter = Interpreter()
        self._limits = {limit: resource.getrlimit(limit) for limit in _ALL_LIMITS}
        self._threads = frozenset(threading.enumerate())
        self._thread_count = _thread._count()
        self.recycle_reasons: list[str] = []
        """Why this worker should be replaced; empty: it should not."""

    @classmethod
    def snapshot(cls) -> Hygiene:
        """Remember the state of this process now."""
        return cls()

    @property
    def wants_recycle(self) -> bool:
        return bool(self.recycle_reasons)

    def restore(self, *, was_brief: bool = False, goes_on: bool = False) -> list[str]:
        """Put back what was changed since the snapshot; says what that was, in a few words each.

        `was_brief`: leave out for this time what costs more to look at, and what takes longer to change; `goes_on`,
        too: another job of the same handler is the next, so what is seldom changed can wait until after that one.
        """
        changed: list[str] = []
        identity = self._identity
        if identity.may_change and identity.acts_as_other():  # first: the rest may need its rights
            self._restore_identity(changed)
        if (umask := os.umask(self._umask)) != self._umask:
            changed.append(f"umask {umask:04o}")
        self._restore_cwd(changed)
        if _environment() != self._environment:
            changed.append(self._restore_environment())
        if _handlers() != self._handlers:
            self._restore_handlers(changed)
        if sys.getrecursionlimit() != self._recursion_limit:
            changed.append(f"recursion limit {sys.getrecursionlimit()}")
            sys.setrecursionlimit(self._recursion_limit)
        self._interpreter.restore(changed)
        # Without the lock and the lists of threading.active_count(): 0.05 instead of 0.4 µs.
        if _thread._count() > self._thread_count:
            self._look_at_threads()
        if not (was_brief and goes_on):
            self._restore_between_handlers(changed)
        if not was_brief:
            self._restore_the_rest(changed)
        return changed

    def _restore_between_handlers(self, changed: list[str]) -> None:
        if self._identity.is_changed():
            self._restore_identity(changed)
        if _blocked() != self._blocked:
            self._restore_blocked(changed)
        if (niceness := os.getpriority(os.PRIO_PROCESS, 0)) != self._niceness:
            self._restore_niceness(changed, niceness)
        if not self._has_alarm and signal.setitimer(signal.ITIMER_REAL, 0)[0]:
            changed.append("an alarm")
        self._interpreter.restore_between_handlers(changed)

    def _restore_the_rest(self, changed: list[str]) -> None:
        self._interpreter.restore_the_rest(changed)
        if (cpus := _cpus()) != self._cpus:
            changed.append(f"affinity {sorted(cpus)}")
            try:
                os.sched_setaffinity(0, self._cpus)
            except OSError as error:
                self._recycle(f"cannot go back to CPUs {sorted(self._cpus)}: {error.strerror}")
        self._look_at_limits()

    def _restore_identity(self, changed: list[str]) -> None:
        """Go back as far as it may; but a job has run as somebody else here, so no other does."""
        changed.append(self._identity.go_back())
        self._recycle("its user or group was changed")

    def _restore_blocked(self, changed: list[str]) -> None:
        blocked = _blocked()
        changed.append("blocked signals " + ", ".join(map(str, sorted(blocked ^ self._blocked))))
        # One that waits, and whose default is to end the process, is not to end it now.
        waiting = [number for number in signal.sigpending() if signal.getsignal(number) is signal.SIG_DFL]
        for number in waiting:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        for number in waiting:
            signal.signal(number, signal.SIG_DFL)

    def _restore_niceness(self, changed: list[str], niceness: int) -> None:
        changed.append(f"niceness {niceness}")
        try:
            os.setpriority(os.PRIO_PROCESS, 0, self._niceness)
        except OSError as error:
            self._recycle(f"cannot go back from niceness {niceness} to {self._niceness}: {error.strerror}")

    def _restore_cwd(self, changed: list[str]) -> None:
        cwd = _working_folder()
        if cwd == self._cwd:
            return
        changed.append(f"working folder {cwd or '(deleted)'}")
        if self._cwd is None:
            self._recycle("there was no working folder to go back to")
            return
        try:
            os.chdir(self._cwd)
        except OSError as error:
            self._recycle(f"cannot go back to {self._cwd}: {error.strerror}")

    def _restore_environment(self) -> str:
        now, then = dict(os.environ), self._text_environment
        names = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
        for name in now.keys() - then.keys():
            del os.environ[name]
        for name, value in then.items():
            if now.get(name) != value:
                os.environ[name] = value
        return "environment " + ", ".join(names[:10])

    def _restore_handlers(self, changed: list[str]) -> None:
        # An alarm still to come would meet the default action, which ends the process.
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, then, now in zip(_SIGNALS, self._handlers, _handlers(), strict=True):
            if then == now:
                continue
            changed.append(f"handler of {signal.Signals(number).name}")
            if then is None:
                self._recycle(
                    f"the handler of {signal.Signals(number).name} was not Python's and cannot be put back"
                )
            else:
                signal.signal(number, then)

    def _look_at_threads(self) -> None:
        left = [
            thread
            for thread in threading.enumerate()
            if thread not in self._threads and not thread.daemon and not thread.name.startswith(OWN_THREADS)
        ]
        if left:
            self._recycle("threads left running: " + ", ".join(thread.name for thread in left[:5]))

    def _look_at_limits(self) -> None:
        for limit, then in self._limits.items():
            if resource.getrlimit(limit) != then:
                self._recycle("a resource limit was changed")

    def _recycle(self, reason: str) -> None:
        if reason not in self.recycle_reasons:
            self.recycle_reasons.append(reason)
