"""Postpones an interrupt at the one instruction of a `with` where it would skip `__exit__`. Runs in the worker process.

Python 3.14 handles signals after it has called `__enter__` and before it has set up the call of `__exit__`. An
exception from a signal handler there leaves a lock held for ever (github.com/python/cpython/issues/148874).
"""

from __future__ import annotations

import _thread
import opcode
import signal
import threading
from types import FrameType

from mpdispatch.clock import sleep

_CALL = opcode.opmap.get("CALL")
# None before 3.14, where entering is one instruction that no signal interrupts.
_LOAD_SPECIAL = opcode.opmap.get("LOAD_SPECIAL")

_SOON_S = 0.001


def postponed(signum: int, frame: FrameType | None) -> bool:
    """Whether the handler of this signal, which came in `frame`, must not raise now. Then the signal comes again soon."""
    if _LOAD_SPECIAL is None or frame is None or not _is_entering(frame):
        return False
    try:
        # A thread sends it again: the body of the `with` may block, and only a signal during that wakes it.
        _thread.start_new_thread(_strike, (signum,))
    except (
        RuntimeError
    ):  # no thread can be started; a lock that stays held is better than a job that never ends
        return False
    return True


def _is_entering(frame: FrameType) -> bool:
    code, at = frame.f_code.co_code, frame.f_lasti
    return at >= 2 and code[at] == _CALL and code[at - 2] == _LOAD_SPECIAL


def _strike(signum: int) -> None:
    sleep(_SOON_S)
    main = threading.main_thread().ident
    assert main is not None  # it runs
    signal.pthread_kill(main, signum)
