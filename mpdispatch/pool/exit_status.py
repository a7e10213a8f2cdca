"""How a worker process ended. Effects: reaps it."""

from __future__ import annotations

import os
import signal
import sys
from typing import NamedTuple


class ExitStatus(NamedTuple):
    """How a process ended: an exit status, or the name of a signal."""

    code: int | None
    signal: str | None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"was killed by {self.signal}"
        if self.code is None:
            return "ended (somebody else in this process took its exit status)"
        return f"exited with status {self.code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"  # a real-time signal


def exit_status_of(pid: int, pidfd: int | None) -> ExitStatus | None:
    """How this child of ours ended, which is reaped by that; None: it has not ended."""
    if pidfd is not None and sys.platform == "linux":
        try:
            info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            # Other code in the host's process reaped it, by waitpid(-1). Its status is lost, but it has ended.
            return ExitStatus(None, None)
        if info is None:
            return None
        if info.si_code == os.CLD_EXITED:
            return ExitStatus(info.si_status, None)
        return ExitStatus(None, _signal_name(info.si_status))
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended == 0:
        return None
    code = os.waitstatus_to_exitcode(status)
    return ExitStatus(code, None) if code >= 0 else ExitStatus(None, _signal_name(-code))
