"""Keeps an interrupt from a `with` that has entered and would not leave. Runs in the worker process.

Python 3.14 handles signals after it has called `__enter__` and before it knows that `__exit__` is to be called; what
a signal handler raises there leaves a lock held for ever (github.com/python/cpython/issues/148874).
"""

from __future__ import annotations

import _thread
import opcode
import signal
import threading
import time
from types import FrameType

__all__ = ["postponed"]

_CALL = opcode.opmap.get("CALL")
# None before 3.14: entering is one instruction there, and no signal comes between.
_LOAD_SPECIAL = opcode.opmap.get("LOAD_SPECIAL")

_SOON_S = 0.001


def postponed(signum: int, frame: FrameType | None) -> bool:
    """Whether the handler of this signal, which struck in `frame`, must not raise; the signal comes again soon."""
    if _LOAD_SPECIAL is None or frame is None or not _is_entering(frame):
        return False
    try:
        # By a thread: the body of the `with` may wait, and only a signal that comes then wakes it.
        _thread.start_new_thread(_strike, (signum,))
    except RuntimeError:  # there is no thread to be had: better a lock that is held than a job that never ends
        return False
    return True


def _is_entering(frame: FrameType) -> bool:
    code, at = frame.f_code.co_code, frame.f_lasti
    return at >= 2 and code[at] == _CALL and code[at - 2] == _LOAD_SPECIAL


def _strike(signum: int) -> None:
    time.sleep(_SOON_S)
    main = threading.main_thread().ident
    assert main is not None  # it runs
    signal.pthread_kill(main, signum)
