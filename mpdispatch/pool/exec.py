"""Starts processes by exec, ties them to us, and sees how they end. Runs in the supervisor.

The worker is exec'ed and not forked from us, because a fork would copy our locks and SQLite handles. It is our child, so
we can read its exit status. It leads its own session, so Ctrl-C in a terminal does not reach it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec

from mpdispatch.host.kill import WORKER_VARIABLE
from mpdispatch.host.processes import ProcessId, process_start, signal_name
from mpdispatch.pool.channel import Channel, channel_pair
from mpdispatch.pool.permits import StartPermits
from mpdispatch.pool.sigterm import sigterm_blocked

_MAIN = "from mpdispatch.pool.worker import main; main()"
_ZYGOTE = "from mpdispatch.pool.zygote import main; main()"
# -c and not -m, so that the package is found even if only our sys.path has it (a checkout, a zip).
_FIND_PACKAGE = "import sys; sys.path.append(sys.argv[1]); "
_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])


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


class Launched(msgspec.Struct, frozen=True, kw_only=True):
    """A new process, which is our child, and the descriptors that connect us to it."""

    process: ProcessId
    pidfd: int | None
    channel: Channel
    spare: Channel | None
    """A duplicate of the worker's end, so that its last messages can be read after its death; None: no duplicate."""
    permits: StartPermits | None
    """It takes a permit before it begins a job; None: this system has no permits."""
    death_fd: int
    """The only write end of its death pipe; the kernel kills the process when it closes."""

    def signal(self, number: int) -> None:
        """Send it a signal. Not after it was reaped, when its pid may be another process's."""
        with contextlib.suppress(ProcessLookupError):
            if self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, number)
            else:
                os.kill(self.process.pid, number)

    def reap(self) -> ExitStatus | None:
        """How it ended; None: it has not. Not after it was reaped."""
        if self.pidfd is not None and sys.platform == "linux":
            try:
                info = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                # Other code in the host's process reaped it, by waitpid(-1). Its status is lost, but it has ended.
                return ExitStatus(None, None)
            if info is None:
                return None
            code = info.si_status if info.si_code == os.CLD_EXITED else -info.si_status
        else:
            ended, status = os.waitpid(self.process.pid, os.WNOHANG)
            if ended == 0:
                return None
            code = os.waitstatus_to_exitcode(status)
        return ExitStatus(code, None) if code >= 0 else ExitStatus(None, signal_name(-code))

    def close_channels(self) -> None:
        """Close all descriptors but the pidfd. That of the death pipe kills the process, should it still live."""
        self.channel.close()
        if self.spare is not None:
            self.spare.close()
        if self.permits is not None:
            self.permits.close()
        os.close(self.death_fd)

    def close_pidfd(self) -> None:
        if self.pidfd is not None:
            os.close(self.pidfd)


def launch(tag: str, main: str = _MAIN, *, takes_jobs: bool = True) -> Launched:
    """Start a worker by exec, or what else `main` runs. It waits for its Boot frame.

    Raises OSError if the system has no free process or descriptor.
    """
    return connected(lambda descriptors: _exec(main, descriptors, tag), takes_jobs=takes_jobs)


def launch_zygote(token: str) -> Launched:
    """Start the zygote of a supervisor with this token. Raises OSError."""
    return launch(f"{token}.0", _ZYGOTE, takes_jobs=False)


class EarlyZygote(NamedTuple):
    """A zygote that imports what workers need while this process still imports what its supervisor needs."""

    token: str
    """That of the supervisor to be."""
    launched: Launched


def launch_early() -> EarlyZygote | None:
    """Start a zygote for a supervisor that this process will have; None: this system has none, or no process is free.

    It ends with this process.
    """
    if sys.platform != "linux":
        return None
    token = os.urandom(16).hex()
    try:
        return EarlyZygote(token, launch_zygote(token))
    except OSError:
        return None  # the supervisor tries again, and says why


def connected(start: Callable[[tuple[int, int, int]], int], *, takes_jobs: bool = True) -> Launched:
    """A process that `start` makes, given its ends of channel, death pipe and permits (-1: none), and gives the pid of.

    Without `takes_jobs` there is neither a spare nor permits, and the channel shows the end of the process.
    Raises what `start` raises, and OSError if the system has no free process or descriptor.
    """
    with ExitStack() as undo:
        channel, theirs = channel_pair()
        undo.callback(channel.close)
        undo.callback(theirs.close)
        death_read, death_write = os.pipe()
        undo.callback(os.close, death_write)  # closing it kills the process, if there is one
        try:
            permits = StartPermits.make() if takes_jobs else None
            if permits is not None:
                undo.callback(permits.close)
            pid = start((theirs.fileno(), death_read, -1 if permits is None else permits.fd))
        finally:
            os.close(death_read)
        try:
            process = ProcessId(pid, process_start(pid) or 0)
            pidfd = os.pidfd_open(pid) if sys.platform == "linux" else None
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        undo.pop_all()
    spare = Channel(theirs) if takes_jobs and sys.platform == "linux" else None
    if spare is None:
        theirs.close()
    return Launched(
        process=process,
        pidfd=pidfd,
        channel=channel,
        spare=spare,
        permits=permits,
        death_fd=death_write,
    )


def _exec(code: str, descriptors: tuple[int, int, int], tag: str) -> int:
    """Run `code` in a new interpreter, in a session of its own, with these descriptors and no others; gives its pid.

    Its `sys.argv[2:]` are their numbers, and our pid.
    """
    arguments = [_PACKAGE_PARENT, *map(str, descriptors), str(os.getpid())]
    with sigterm_blocked():
        popen = subprocess.Popen(
            [sys.executable, "-c", _FIND_PACKAGE + code, *arguments],
            pass_fds=[descriptor for descriptor in descriptors if descriptor >= 0],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, WORKER_VARIABLE: tag},
        )
    # We reap it ourselves, by its pidfd. subprocess must not reap it, nor warn that nobody did.
    popen.returncode = 0
    return popen.pid
