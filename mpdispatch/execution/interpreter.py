"""The state of the interpreter that all jobs of a worker share, and how it is put back. Runs in the worker's main thread.

Streams, hooks, the search path, the collector, default timeouts and the like: all of it can be put back. Looking costs
0.4 µs if nothing was changed.
"""

from __future__ import annotations

import _locale
import faulthandler
import functools
import gc
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from decimal import Context, getcontext, setcontext
from typing import Any

__all__ = ["Interpreter"]


def _look() -> tuple[Any, ...]:
    """All that `_PARTS` puts back, in its order. One expression: it is the quickest way to look."""
    # Not its flags: they are raised by every other sum, and say nothing to the next job.
    context = getcontext()
    return (
        sys.stdin,
        sys.stdout,
        sys.stderr,
        sys.path,
        sys.excepthook,
        sys.unraisablehook,
        threading.excepthook,
        warnings.filters,
        sys.getprofile(),
        sys.getswitchinterval(),
        gc.isenabled(),
        gc.get_threshold(),
        socket.getdefaulttimeout(),
        faulthandler.is_enabled(),
        context.prec,
        context.rounding,
        context.traps,
    )


def _put_filters(filters: list[Any]) -> None:
    warnings.resetwarnings()  # it also tells those who remember what the filters said
    warnings.filters.extend(filters)  # type: ignore[attr-defined]


def _put(module: Any, name: str) -> tuple[str, Callable[[Any], object]]:
    return f"{module.__name__}.{name}", functools.partial(setattr, module, name)


_PARTS: tuple[tuple[str, Callable[[Any], object]], ...] = (
    _put(sys, "stdin"),
    _put(sys, "stdout"),
    _put(sys, "stderr"),
    ("sys.path", lambda path: setattr(sys, "path", list(path))),
    _put(sys, "excepthook"),
    _put(sys, "unraisablehook"),
    _put(threading, "excepthook"),
    ("the warning filters", _put_filters),
    ("the profile function", sys.setprofile),
    ("the switch interval", sys.setswitchinterval),
    ("whether gc is on", lambda is_on: gc.enable() if is_on else gc.disable()),
    ("the thresholds of gc", lambda thresholds: gc.set_threshold(*thresholds)),
    ("the default timeout of sockets", socket.setdefaulttimeout),
    ("faulthandler", lambda is_on: faulthandler.enable() if is_on else faulthandler.disable()),
    ("the decimal context", lambda digits: setattr(getcontext(), "prec", digits)),
    ("the decimal context", lambda rounding: setattr(getcontext(), "rounding", rounding)),
    ("the decimal context", lambda traps: setattr(getcontext(), "traps", traps)),
)


class Interpreter:
    """How it was when this was made."""

    __slots__ = ("_decimal", "_locale", "_policy", "_then")

    def __init__(self) -> None:
        self._decimal = getcontext().copy()
        # What can be changed in its place is kept as a copy.
        kept = [list(each) if isinstance(each, list) else each for each in _look()]
        self._then = (*kept[:-1], self._decimal.traps)
        self._locale = _locale.setlocale(_locale.LC_ALL, None)
        self._policy = _event_loop_policy()

    def restore(self, changed: list[str]) -> None:
        """Put back what a job may have changed in no time; adds to `changed` what that was, in a few words each."""
        try:
            is_same = _look() == self._then
        except BaseException:  # noqa: BLE001 - deleted by the job, or its own class that does not compare
            is_same = False
        if not is_same:
            self._put_back(changed)

    def restore_between_handlers(self, changed: list[str]) -> None:
        """Put back what is seldom changed."""
        if _limits(getcontext()) != _limits(self._decimal):
            changed.append("the decimal context")
            setcontext(self._decimal.copy())
        policy = _event_loop_policy()
        # asyncio makes its own one when somebody first asks for it: that is no change.
        if policy is not self._policy and not type(policy).__module__.startswith("asyncio."):
            changed.append("the event loop policy")
            vars(sys.modules["asyncio.events"])["_event_loop_policy"] = self._policy

    def restore_the_rest(self, changed: list[str]) -> None:
        """Put back what takes longer to look at."""
        if (name := _locale.setlocale(_locale.LC_ALL, None)) != self._locale:
            changed.append(f"locale {name}")
            _locale.setlocale(_locale.LC_ALL, self._locale)

    def _put_back(self, changed: list[str]) -> None:
        try:
            now = _look()
        except AttributeError:
            now = (object(),) * len(_PARTS)
        for (name, put), value, then in zip(_PARTS, now, self._then, strict=True):
            if not _are_equal(value, then):
                put(then)
                changed.append(name)


def _are_equal(one: object, other: object) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # noqa: BLE001 - the job's own class compares
        return False


def _limits(context: Context) -> tuple[int, ...]:
    return context.Emin, context.Emax, context.capitals, context.clamp


def _event_loop_policy() -> Any:
    """None: nobody has asked for one."""
    return getattr(sys.modules.get("asyncio.events"), "_event_loop_policy", None)
