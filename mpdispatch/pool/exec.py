"""Starts worker processes by exec. Runs in the supervisor.

The worker is exec'ed and not forked from us, because a fork would copy our locks and SQLite handles. It is our child, so
we can read its exit status. It leads its own session, so Ctrl-C in a terminal does not reach it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mpdispatch.host.kill import WORKER_VARIABLE
from mpdispatch.host.processes import ProcessId, process_start
from mpdispatch.pool.channel import Channel, channel_pair
from mpdispatch.pool.job_channel import StartPermits
from mpdispatch.pool.sigterm import sigterm_blocked

_MAIN = "from mpdispatch.pool.worker import main; main()"
# -c and not -m, so that the package is found even if only our sys.path has it (a checkout, a zip).
_FIND_PACKAGE = "import sys; sys.path.append(sys.argv[1]); "
_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A new worker process, and the descriptors that connect us to it."""

    process: ProcessId
    pidfd: int | None
    channel: Channel
    spare: Channel | None
    """A duplicate of the worker's end, so that its last messages can be read after its death; None: no duplicate."""
    permits: StartPermits | None
    """It takes a permit before it begins a job; None: this system has no permits."""
    death_fd: int
    """The only write end of the worker's death pipe; the kernel kills the worker when it closes."""


def launch(tag: str, main: str = _MAIN) -> Launched:
    """Start a worker (or what else `main` runs). It waits for its Boot frame.

    Raises OSError if the system has no free process or descriptor.
    """
    with ExitStack() as undo:
        channel, theirs = channel_pair()
        undo.callback(channel.close)
        undo.callback(theirs.close)
        death_read, death_write = os.pipe()
        undo.callback(os.close, death_write)
        permits = StartPermits.make()
        if permits is not None:
            undo.callback(permits.close)
        try:
            popen = exec_python(main, (theirs.fileno(), death_read, fd_of(permits)), tag)
        finally:
            os.close(death_read)
        # We reap it ourselves, by its pidfd. subprocess must not reap it, nor warn that nobody did.
        popen.returncode = 0
        launched = assemble(
            popen.pid, channel, Channel(theirs) if sys.platform == "linux" else None, permits, death_write
        )
        undo.pop_all()
    if launched.spare is None:
        theirs.close()
    return launched


def fd_of(permits: StartPermits | None) -> int:
    """The descriptor as an argument for a process; -1: none."""
    return -1 if permits is None else permits.fd


def assemble(
    pid: int, channel: Channel, spare: Channel | None, permits: StartPermits | None, death_fd: int
) -> Launched:
    """The `Launched` of a process that is our child now. Raises OSError; then the process was ended."""
    try:
        start = process_start(pid) or 0
        pidfd = os.pidfd_open(pid) if sys.platform == "linux" else None
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return Launched(
        process=ProcessId(pid, start),
        pidfd=pidfd,
        channel=channel,
        spare=spare,
        permits=permits,
        death_fd=death_fd,
    )


def exec_python(code: str, descriptors: Sequence[int], tag: str) -> subprocess.Popen[bytes]:
    """Run `code` in a new interpreter, in a session of its own, with these descriptors (-1: none) and no others.

    Its `sys.argv[2:]` are their numbers, and our pid.
    """
    arguments = [_PACKAGE_PARENT, *map(str, descriptors), str(os.getpid())]
    with sigterm_blocked():
        return subprocess.Popen(
            [sys.executable, "-c", _FIND_PACKAGE + code, *arguments],
            pass_fds=[descriptor for descriptor in descriptors if descriptor >= 0],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, WORKER_VARIABLE: tag},
        )
