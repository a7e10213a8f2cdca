"""Leaves SIGTERM to the supervisor. Runs in the worker, the zygote and the hook process, and where they are started.

Service managers send SIGTERM to every process of a service. Processes that we start ignore it: the supervisor lets
running jobs finish, and ends the processes itself.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def sigterm_blocked() -> Iterator[None]:
    """In the supervisor: SIGTERM does not end a process that is started inside it, until that process calls
    `leave_sigterm_to_supervisor`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_sigterm_to_supervisor() -> None:
    """From now on SIGTERM does nothing in this process. Call it again after code of the app may have changed that.

    It sets a handler, not SIG_IGN, which exec'ed programs would inherit, so that SIGTERM could not end them.
    """
    signal.signal(signal.SIGTERM, _leave_it)
    # System calls of native code are restarted, because not all code handles EINTR.
    signal.siginterrupt(signal.SIGTERM, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def restore_sigterm_in_forks() -> None:
    """From now on SIGTERM ends forks of this process: a job makes them, and may want to end them in that way."""
    # Blocked meanwhile, or a SIGTERM sent right after a fork would meet our handler in the child, and be lost.
    os.register_at_fork(before=_hold_back, after_in_parent=_let_come, after_in_child=_let_come_to_fork)


def _leave_it(number: int, frame: FrameType | None) -> None:
    return None


_before = threading.local()
"""The signals that the forking thread had blocked."""


def _hold_back() -> None:
    _before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _let_come() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _before.mask)


def _let_come_to_fork() -> None:
    if signal.getsignal(signal.SIGTERM) is _leave_it:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _let_come()
