"""Undoes what a job changed of signal handlers, blocked signals and timers. Runs in the worker's main thread."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of `signal`; typeshed has no stub for it
import signal
from collections.abc import Callable

# Bound here, because a job may replace these functions.
from signal import getitimer, setitimer, sigpending
from typing import Any

from mpdispatch.host.processes import status_of

_SIGNALS = tuple(
    int(getattr(signal, name))
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGPIPE")
)
_OTHER_SIGNALS = tuple(
    sorted(set(map(int, signal.valid_signals())) - {*_SIGNALS, int(signal.SIGKILL), int(signal.SIGSTOP)})
)
_NAMES = {int(each): each.name for each in signal.Signals}
_ITIMER_REAL = signal.ITIMER_REAL
_OTHER_TIMERS = {
    signal.ITIMER_VIRTUAL: "a timer of its CPU time",
    signal.ITIMER_PROF: "a timer of all CPU time",
}
# The C functions: `signal.getsignal` wraps each answer in an enum (0.8 µs instead of 0.07).
_get_handler, _set_handler, _sigmask = _signal.getsignal, _signal.signal, _signal.pthread_sigmask
_SIG_BLOCK, _SIG_SETMASK = int(signal.SIG_BLOCK), int(signal.SIG_SETMASK)
_SIG_DFL, _SIG_IGN = int(signal.SIG_DFL), int(signal.SIG_IGN)


def _handlers(signals: tuple[int, ...] = _SIGNALS) -> list[Any]:
    return list(map(_get_handler, signals))


def _not_pythons() -> frozenset[int]:
    """Signals with a handler that C code has set, such as faulthandler. Python shows none for them."""
    caught = int(status_of("SigCgt") or "0", 16)  # not Linux: there is no way to see them
    return frozenset(
        number
        for number in _SIGNALS + _OTHER_SIGNALS
        if caught >> number - 1 & 1 and _get_handler(number) == _SIG_DFL
    )


class Signals:
    """Handlers, blocked signals and timers as they were when this was made. Each method adds words for each change."""

    def __init__(self, recycle: Callable[[str], None]) -> None:
        """`recycle` is called with what cannot be undone."""
        self._recycle = recycle
        self._handlers, self._other_handlers = _handlers(), _handlers(_OTHER_SIGNALS)
        self._not_pythons = _not_pythons()
        self._blocked: set[int] = _sigmask(_SIG_BLOCK, ())
        self._has_alarm = getitimer(_ITIMER_REAL)[0] > 0
        self._other_timers = [timer for timer in _OTHER_TIMERS if not getitimer(timer)[0]]

    def restore(self, changed: list[str]) -> None:
        """The handlers that jobs are most likely to set."""
        if _handlers() != self._handlers:
            # A pending alarm would meet the default action, which ends the process.
            setitimer(_ITIMER_REAL, 0)
            self._put_handlers(changed, _SIGNALS, self._handlers)

    def restore_between_handlers(self, changed: list[str]) -> None:
        """Blocked signals, and an alarm."""
        if (blocked := _sigmask(_SIG_BLOCK, ())) != self._blocked:
            changed.append("blocked signals " + ", ".join(map(str, sorted(blocked ^ self._blocked))))
            self._unblock()
        if not self._has_alarm and setitimer(_ITIMER_REAL, 0)[0]:
            changed.append("an alarm")

    def restore_the_rest(self, changed: list[str]) -> None:
        """The other timers and handlers."""
        for timer in self._other_timers:
            if getitimer(timer)[0]:
                changed.append(_OTHER_TIMERS[timer])
                setitimer(timer, 0)
        # After the timers: their signals could otherwise meet the default action, which ends the process.
        if _handlers(_OTHER_SIGNALS) != self._other_handlers:
            self._put_handlers(changed, _OTHER_SIGNALS, self._other_handlers)

    def _unblock(self) -> None:
        # A pending signal whose default action ends the process must not end it now.
        waiting = [number for number in sigpending() if _get_handler(number) == _SIG_DFL]
        for number in waiting:
            _set_handler(number, _SIG_IGN)
        _sigmask(_SIG_SETMASK, self._blocked)
        for number in waiting:
            _set_handler(number, _SIG_DFL)

    def _put_handlers(self, changed: list[str], signals: tuple[int, ...], handlers: list[Any]) -> None:
        for number, then, now in zip(signals, handlers, _handlers(signals), strict=True):
            if then == now:
                continue
            name = _NAMES.get(number, f"signal {number}")
            changed.append(f"handler of {name}")
            if then is None or number in self._not_pythons:
                self._recycle(f"the handler of {name} was not Python's and cannot be put back")
            else:
                _set_handler(number, then)
