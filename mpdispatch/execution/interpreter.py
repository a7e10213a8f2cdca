"""Restores the state of the interpreter that all jobs of a worker share. Runs in the worker's main thread.

Streams, hooks, the search path, the garbage collector, default timeouts and the like. A look costs 0.4 µs if nothing has
changed.
"""

from __future__ import annotations

import _locale
import faulthandler
import functools
import gc
import logging
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from decimal import Context, DefaultContext, getcontext, setcontext
from typing import Any

# Bound here, because a job may replace these functions.
_getprofile, _setprofile = sys.getprofile, sys.setprofile
_getswitchinterval, _setswitchinterval = sys.getswitchinterval, sys.setswitchinterval
_gc_is_on, _gc_on, _gc_off = gc.isenabled, gc.enable, gc.disable
_get_digits, _set_digits = sys.get_int_max_str_digits, sys.set_int_max_str_digits
_get_debug, _set_debug = gc.get_debug, gc.set_debug
_get_threshold, _set_threshold = gc.get_threshold, gc.set_threshold
_getdefaulttimeout, _setdefaulttimeout = socket.getdefaulttimeout, socket.setdefaulttimeout
_faults_are_enabled, _enable_faults, _disable_faults = (
    faulthandler.is_enabled,
    faulthandler.enable,
    faulthandler.disable,
)
_setlocale, _resetwarnings, _disable_logging = _locale.setlocale, warnings.resetwarnings, logging.disable
_root = logging.root


def _look() -> tuple[Any, ...]:
    """The values that `_PARTS` restores, in its order. One expression, which is the quickest way."""
    # Without the flags of the decimal context: every other sum raises some, and they do not concern the next job.
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
        _getprofile(),
        _getswitchinterval(),
        _gc_is_on(),
        _get_threshold(),
        _getdefaulttimeout(),
        _faults_are_enabled(),
        context.prec,
        context.rounding,
        context.traps,
    )


def _put_filters(filters: list[Any]) -> None:
    _resetwarnings()  # it also invalidates caches of the filters
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
    ("the profile function", _setprofile),
    ("the switch interval", _setswitchinterval),
    ("whether gc is on", lambda is_on: _gc_on() if is_on else _gc_off()),
    ("the thresholds of gc", lambda thresholds: _set_threshold(*thresholds)),
    ("the default timeout of sockets", _setdefaulttimeout),
    ("faulthandler", lambda is_on: _enable_faults() if is_on else _disable_faults()),
    ("the decimal context", lambda digits: setattr(getcontext(), "prec", digits)),
    ("the decimal context", lambda rounding: setattr(getcontext(), "rounding", rounding)),
    ("the decimal context", lambda traps: setattr(getcontext(), "traps", traps)),
)


def _values(context: Context) -> tuple[Any, ...]:
    return context.prec, context.rounding, context.Emin, context.Emax, context.capitals, context.clamp


class Interpreter:
    """The state at the moment when this was made."""

    def __init__(self) -> None:
        self._decimal = getcontext().copy()
        # Of mutable values a copy is kept.
        kept = [list(each) if isinstance(each, list) else each for each in _look()]
        self._then = (*kept[:-1], self._decimal.traps)
        self._locale = _setlocale(_locale.LC_ALL, None)
        self._policy = _event_loop_policy()
        self._decimal_values = _values(self._decimal)
        self._default_decimal = DefaultContext.copy()
        self._debug, self._digits = _get_debug(), _get_digits()
        self._logging = _root.manager.disable, _root.level
        self._finders, self._handlers = list(sys.meta_path), list(_root.handlers)
        self._modules = frozenset(sys.modules)

    def restore(self, changed: list[str]) -> None:
        """Restore what even a brief job may change; adds a few words for each change to `changed`."""
        try:
            is_same = _look() == self._then
        except BaseException:  # noqa: BLE001 - deleted by the job, or its own class that does not compare
            is_same = False
        if not is_same:
            self._put_back(changed)

    def restore_between_handlers(self, changed: list[str]) -> None:
        """Restore what jobs seldom change."""
        if _values(getcontext()) != self._decimal_values:
            changed.append("the decimal context")
            setcontext(self._decimal.copy())
        policy = _event_loop_policy()
        # asyncio makes its default policy at the first use, which is no change.
        if policy is not self._policy and not type(policy).__module__.startswith("asyncio."):
            changed.append("the event loop policy")
            vars(sys.modules["asyncio.events"])["_event_loop_policy"] = self._policy

    def restore_the_rest(self, changed: list[str]) -> None:
        """Restore what takes longer to look at."""
        if (name := _setlocale(_locale.LC_ALL, None)) != self._locale:
            changed.append(f"locale {name}")
            _setlocale(_locale.LC_ALL, self._locale)
        if _get_debug() != self._debug:
            changed.append("the debug flags of gc")
            _set_debug(self._debug)
        if _get_digits() != self._digits:
            changed.append("the most digits of an int")
            _set_digits(self._digits)
        if (_root.manager.disable, _root.level) != self._logging:
            changed.append("the levels of logging")
            _disable_logging(self._logging[0])
            _root.setLevel(self._logging[1])
        default, then = DefaultContext, self._default_decimal
        if _values(default) != _values(then) or default.traps != then.traps:
            changed.append("the default decimal context")
            default.prec, default.rounding, default.Emin, default.Emax = _values(then)[:4]
            default.capitals, default.clamp, default.traps = then.capitals, then.clamp, then.traps
        if _root.handlers != self._handlers:
            changed.append("the handlers of logging")
            self._handlers = self._without_the_jobs(_root.handlers, self._handlers)
            _root.handlers = list(self._handlers)
        if sys.meta_path != self._finders:
            changed.append("sys.meta_path")
            self._finders = self._without_the_jobs(sys.meta_path, self._finders)
            sys.meta_path = list(self._finders)

    def _without_the_jobs(self, now: Sequence[Any], then: list[Any]) -> list[Any]:
        """What was in the list, and what a module has added that the job was the first to import.

        That module is imported once: without its part it would not work in any job to come (six.moves, for one).
        """
        kept = [each for each in now if _is_in(each, then) or _module_of(each) not in self._modules]
        if list(map(id, (each for each in kept if _is_in(each, then)))) == list(map(id, then)):
            return kept
        return [each for each in kept if not _is_in(each, then)] + then

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


def _is_in(one: object, several: list[Any]) -> bool:
    return any(one is each for each in several)


def _module_of(one: object) -> str:
    return (one if isinstance(one, type) else type(one)).__module__


def _event_loop_policy() -> Any:
    """The policy of asyncio's event loops; None: none was used."""
    return getattr(sys.modules.get("asyncio.events"), "_event_loop_policy", None)
