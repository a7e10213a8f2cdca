"""What a handler can change for the whole process, by name, and how the process is. Runs in worker processes."""

from __future__ import annotations

import asyncio
import decimal
import faulthandler
import gc
import io
import locale
import os
import signal
import socket
import sys
import threading
import warnings
from typing import Any

__all__ = ["RENEWING", "SPOILS", "state_of_process"]


class _Unequal:
    """Stands in for anything, and does not let itself be compared."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")

    __hash__ = object.__hash__


def _take_buffer() -> None:
    """As one does to change its encoding. Freed, it closes what is below."""
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="latin-1")


def _block_and_wait() -> None:
    """With a signal that would end the process, were it let through."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    os.kill(os.getpid(), signal.SIGALRM)


SPOILS: dict[str, Any] = {
    "blocked signals": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM}),
    "a signal that waits": _block_and_wait,
    "niceness": lambda: os.nice(5),
    "an alarm": lambda: signal.alarm(1),
    "stdout": lambda: setattr(sys, "stdout", io.StringIO()),
    "stderr": lambda: setattr(sys, "stderr", _Unequal()),
    "stdin": lambda: setattr(sys, "stdin", None),
    "no stdout at all": lambda: delattr(sys, "stdout"),
    "sys.path": lambda: sys.path.insert(0, "/nowhere"),
    "another sys.path": lambda: setattr(sys, "path", ["/nowhere"]),
    "gc off": gc.disable,
    "gc thresholds": lambda: gc.set_threshold(7, 7, 7),
    "decimal precision": lambda: setattr(decimal.getcontext(), "prec", 3),
    "decimal rounding": lambda: setattr(decimal.getcontext(), "rounding", decimal.ROUND_UP),
    "decimal traps": lambda: decimal.getcontext().traps.__setitem__(decimal.Inexact, True),
    "another decimal context": lambda: decimal.setcontext(decimal.ExtendedContext),
    "decimal exponents": lambda: setattr(decimal.getcontext(), "Emax", 9),
    "socket timeout": lambda: socket.setdefaulttimeout(0.25),
    "excepthook": lambda: setattr(sys, "excepthook", print),
    "threads' excepthook": lambda: setattr(threading, "excepthook", print),
    "warnings": lambda: warnings.simplefilter("error"),
    "profile": lambda: sys.setprofile(lambda *_: None),
    "recursion limit": lambda: sys.setrecursionlimit(777),
    "switch interval": lambda: sys.setswitchinterval(0.5),
    "faulthandler": faulthandler.disable,
    "locale": lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"),
    "affinity": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    "umask": lambda: os.umask(0o007),
    "folder": lambda: os.chdir("/"),
    "environment": lambda: os.environ.__setitem__("MADE_BY_JOB", "1"),
    "event loop policy": lambda: asyncio.set_event_loop_policy(_Policy()),
}

RENEWING: dict[str, Any] = {
    "user": lambda: os.setuid(65534),
    "effective user": lambda: os.seteuid(65534),
    "real user": lambda: os.setreuid(65534, -1),
    "group": lambda: os.setgid(65534),
    "groups": lambda: os.setgroups([65534]),
    "closed stdout": lambda: sys.stdout.close(),
    "another stdout on its buffer": _take_buffer,
}
"""What cannot be put back."""
SPOILS |= RENEWING


class _Policy(asyncio.DefaultEventLoopPolicy):  # type: ignore[misc, unused-ignore]
    pass


def state_of_process() -> dict[str, Any]:
    context = decimal.getcontext()
    return {
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "alarm": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "streams": [getattr(stream, "name", repr(stream)) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "path": sys.path,
        "gc": [gc.isenabled(), *gc.get_threshold()],
        "decimal": [
            context.prec,
            context.rounding,
            context.Emax,
            context.Emin,
            context.capitals,
            context.clamp,
        ],
        "traps": sorted(each.__name__ for each, is_on in context.traps.items() if is_on),
        "timeout": socket.getdefaulttimeout(),
        "hooks": [repr(hook) for hook in (sys.excepthook, threading.excepthook, sys.unraisablehook)],
        "warnings": [repr(each) for each in warnings.filters],
        "tracing": [repr(sys.gettrace()), repr(sys.getprofile())],
        "limits": [sys.getrecursionlimit(), sys.getswitchinterval()],
        "faulthandler": faulthandler.is_enabled(),
        "locale": locale.setlocale(locale.LC_ALL),
        "affinity": sorted(os.sched_getaffinity(0)),
        "umask": _umask(),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "policy": _policy(),
        "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
    }


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _policy() -> str:
    return repr(getattr(asyncio.events, "_event_loop_policy", None))
