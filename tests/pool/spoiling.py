"""What a handler can change for the whole process, by name, and how the process is. Runs in worker processes."""

from __future__ import annotations

import asyncio
import ctypes
import decimal
import faulthandler
import gc
import io
import locale
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from typing import Any

__all__ = ["PATCHES", "RENEWING", "RENEWING_SELDOM", "SELDOM", "SPOILS", "state_of_process"]


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


def _set_policy() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.14 on, but it still works
        asyncio.set_event_loop_policy(type("_Policy", (asyncio.DefaultEventLoopPolicy,), {})())


def _set_zone() -> None:
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def _set_zone_of_c() -> None:
    os.putenv("TZ", "Asia/Tokyo")
    time.tzset()


def _redirect(number: int) -> None:
    null = os.open(os.devnull if number else "/dev/zero", os.O_RDWR)
    os.dup2(null, number)
    os.close(null)


def _cut_limit(limit: int) -> None:
    soft, hard = resource.getrlimit(limit)
    now = 64 << 20 if soft == resource.RLIM_INFINITY else soft - 1 if soft > 0 else soft + 1
    resource.setrlimit(limit, (now, hard))


class _Blocker:
    """A finder of modules that finds none."""

    def find_spec(self, *_: object) -> None:
        return None


def _arm(timer: int, number: signal.Signals) -> None:
    """To come soon, and not while nothing is done."""
    signal.signal(number, lambda *_: None)
    signal.setitimer(timer, 0.2)


_SIGNALS = ("SIGQUIT", "SIGTTIN", "SIGCONT", "SIGTSTP", "SIGXCPU", "SIGWINCH", "SIGTTOU", "SIGRTMIN")
_LIMITS = ("MEMLOCK", "AS", "NOFILE", "CORE", "MSGQUEUE", "SIGPENDING", "STACK")

# Found where the costlier looks are.
SELDOM: dict[str, Any] = {
    "affinity": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    "time zone of C": _set_zone_of_c,
    "gc debug": lambda: gc.set_debug(gc.DEBUG_SAVEALL),
    "default decimal precision": lambda: setattr(decimal.DefaultContext, "prec", 3),
    "default decimal traps": lambda: decimal.DefaultContext.traps.__setitem__(decimal.Inexact, True),
    **{
        f"{name} ignored": (lambda name=name: signal.signal(getattr(signal, name), signal.SIG_IGN))
        for name in _SIGNALS
    },
    "a timer of its CPU time": lambda: _arm(signal.ITIMER_VIRTUAL, signal.SIGVTALRM),
    "a timer of all CPU time": lambda: _arm(signal.ITIMER_PROF, signal.SIGPROF),
    "descriptor 0 redirected": lambda: _redirect(0),
    "descriptor 1 redirected": lambda: _redirect(1),
    "descriptor 2 redirected": lambda: _redirect(2),
    "descriptors closed": lambda: os.closerange(0, 3),
    "logging disabled": lambda: logging.disable(50),
    "level of the root logger": lambda: logging.getLogger().setLevel(7),
    "a handler of the root logger": lambda: logging.getLogger().addHandler(logging.NullHandler()),
    "no handler of the root logger": lambda: logging.getLogger().handlers.clear(),
    "a finder of modules": lambda: sys.meta_path.insert(0, _Blocker()),
    "no finder of modules": lambda: setattr(sys, "meta_path", []),
    "digits of an int": lambda: sys.set_int_max_str_digits(1000),
    **{
        f"limit {name}": (lambda name=name: _cut_limit(getattr(resource, f"RLIMIT_{name}"))) for name in _LIMITS
    },
    "scheduling policy": lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)),
}

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
    "umask": lambda: os.umask(0o007),
    "folder": lambda: os.chdir("/"),
    "environment": lambda: os.environ.__setitem__("MADE_BY_JOB", "1"),
    "event loop policy": _set_policy,
    "time zone": _set_zone,
    "another os.environ": lambda: setattr(os, "environ", dict(os.environ, MADE_BY_JOB="1")),
    **SELDOM,
}

RENEWING_SELDOM: dict[str, Any] = {
    "no new rights": lambda: ctypes.CDLL(None).prctl(38, *map(ctypes.c_ulong, (1, 0, 0, 0))),
    "what cannot be looked at": lambda: setattr(time, "tzname", _Unequal()),
    "SIGABRT ignored": lambda: signal.signal(signal.SIGABRT, signal.SIG_IGN),
}
"""What cannot be put back, and is found where the costlier looks are."""

RENEWING: dict[str, Any] = {
    "SIGUSR2 ignored": lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
    "user": lambda: os.setuid(65534),
    "effective user": lambda: os.seteuid(65534),
    "real user": lambda: os.setreuid(65534, -1),
    "group": lambda: os.setgid(65534),
    "groups": lambda: os.setgroups([65534]),
    "user for files": lambda: ctypes.CDLL(None).setfsuid(65534),
    "group for files": lambda: ctypes.CDLL(None).setfsgid(65534),
    "closed stdout": lambda: sys.stdout.close(),
    "another stdout on its buffer": _take_buffer,
}
"""What cannot be put back."""
SPOILS |= RENEWING | RENEWING_SELDOM


def _fail(*_: object, **__: object) -> None:
    raise ZeroDivisionError("what a job has put in the place of a function")


_FUNCTIONS = (
    (time, "time time_ns monotonic monotonic_ns clock_gettime_ns sleep"),
    (os, "getpid _exit eventfd_read"),
    (os, "getcwd umask getpriority fstat geteuid getgroups sched_getaffinity sched_getscheduler waitid"),
    (signal, "getsignal signal setitimer getitimer pthread_sigmask"),
    (sys, "getrecursionlimit getprofile getswitchinterval get_int_max_str_digits"),
    (gc, "isenabled get_threshold get_debug"),
    (resource, "getrlimit"),
    (threading, "enumerate active_count"),
    (socket, "getdefaulttimeout"),
    (faulthandler, "is_enabled"),
    (decimal, "getcontext"),
)
PATCHES: dict[str, Any] = {
    f"{module.__name__}.{name}": (lambda module=module, name=name: setattr(module, name, _fail))
    for module, names in _FUNCTIONS
    for name in names.split()
}
"""Left as it is: no other job is kept from it, but the worker does not depend on it."""
SPOILS |= PATCHES


def state_of_process() -> dict[str, Any]:
    context = decimal.getcontext()
    return {
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "timers": [signal.getitimer(timer)[0] > 0 for timer in range(3)],
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
        "kind of environment": type(os.environ).__name__,
        "policy": _policy(),
        "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
        "kernel's": _status("Uid", "Gid", "NoNewPrivs", "SigIgn", "SigCgt"),
        "time zone": [*time.tzname, time.localtime(0).tm_gmtoff],
        "gc debug": gc.get_debug(),
        "default decimal": [repr(decimal.DefaultContext)],
        "descriptors": [_file(number) for number in range(3)],
        "logging": [logging.root.manager.disable, logging.root.level, *map(_kind, logging.root.handlers)],
        "finders": [_kind(each) for each in sys.meta_path],
        "digits": sys.get_int_max_str_digits(),
        "rlimits": [resource.getrlimit(limit) for limit in range(16)],
        "scheduling": os.sched_getscheduler(0),
    }


def _status(*names: str) -> list[str]:
    with open("/proc/self/status") as file:
        return [line for line in file if line.partition(":")[0] in names]


def _file(number: int) -> list[int] | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return [found.st_dev, found.st_ino]


def _kind(one: object) -> str:
    return (one if isinstance(one, type) else type(one)).__qualname__


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _policy() -> str:
    return repr(getattr(asyncio.events, "_event_loop_policy", None))
