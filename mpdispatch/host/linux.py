"""The few kernel calls that the standard library lacks. Both sides; no-ops where the kernel lacks them."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2

have_recall = sys.platform == "linux"
"""Whether unstarted jobs can be recalled from a worker (needs SOCK_SEQPACKET, eventfds and pidfds)."""


def _prctl(option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))


def become_subreaper() -> None:
    """Orphaned descendants become children of this process, not of init, so it can find and reap them."""
    if sys.platform == "linux":
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(supervisor_pid: int, death_fd: int) -> None:
    """Have the kernel SIGKILL this process when its supervisor dies, whatever this process is doing then.

    The read end of a pipe whose only write end is the supervisor's raises SIGKILL on hang-up (measured: dead in
    0–10 ms, even inside a C call that holds the GIL). PDEATHSIG alone is not enough: it belongs to the creating
    *thread* and is lost over some execs.
    """
    if sys.platform != "linux":
        return
    fcntl.fcntl(death_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(death_fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(death_fd, fcntl.F_SETFL, fcntl.fcntl(death_fd, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Neither acts if the supervisor died before: check once.
    try:
        hung_up = os.read(death_fd, 1) == b""
    except BlockingIOError:
        hung_up = False
    if hung_up or os.getppid() != supervisor_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def set_oom_score(score: int) -> None:
    """Make the kernel prefer this process when memory runs out (workers: +500, so the supervisor survives)."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(score))
    except OSError:
        return  # Not Linux, or not allowed: a preference only.


def give_back_memory() -> None:
    """Return memory freed by start-up to the system (0.4 MiB in a supervisor). Only for processes of ours."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def punch_hole(descriptor: int, start: int, length: int) -> bool:
    """Free the disk blocks of this part of a file, which then reads as zeros. False if the file system cannot."""
    fallocate = getattr(
        ctypes.CDLL(None), "fallocate64", None
    )  # `fallocate` takes 32-bit offsets on a 32-bit machine
    if fallocate is None:
        return False
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return bool(fallocate(descriptor, _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE, start, length) == 0)
