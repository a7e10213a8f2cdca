"""How a worker process comes to life. Runs in the supervisor.

The worker is exec'ed, never forked from us: a fork would copy our locks and SQLite handles. It is our own
child, so its exit status is ours to read, and it leads its own session, so Ctrl-C in a terminal never reaches it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mpdispatch.ids import ProcessId, process_start
from mpdispatch.pool.channel import Channel, channel_pair
from mpdispatch.pool.kill import WORKER_VARIABLE

__all__ = ["Launched", "launch"]

# -c and not -m: the package must be found even where only our sys.path knows it (a checkout, a zip).
_MAIN = "import sys; sys.path.append(sys.argv[1]); from mpdispatch.pool.worker import main; main()"
_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A fresh worker process and what binds us to it."""

    process: ProcessId
    popen: subprocess.Popen[bytes]
    pidfd: int | None
    channel: Channel
    spare: Channel | None
    """A duplicate of the worker's end, to take back what it has not read; None where that cannot be done."""
    death_fd: int
    """The only write end of the worker's death pipe; the kernel kills the worker when it closes."""


def launch(mark: str) -> Launched:
    """Start a worker. It waits for its Boot frame.

    Raises OSError if no process or descriptor can be had.
    """
    with ExitStack() as undo:
        channel, theirs = channel_pair()
        undo.callback(channel.close)
        undo.callback(theirs.close)
        death_read, death_write = os.pipe()
        undo.callback(os.close, death_write)
        try:
            popen = _exec(theirs, death_read, mark)
        finally:
            os.close(death_read)
        undo.callback(_undo, popen)
        pidfd = os.pidfd_open(popen.pid) if sys.platform == "linux" else None
        undo.pop_all()
    spare: Channel | None = None
    if sys.platform == "linux":
        spare = Channel(theirs)
    else:
        theirs.close()
    return Launched(
        process=ProcessId(popen.pid, process_start(popen.pid) or 0),
        popen=popen,
        pidfd=pidfd,
        channel=channel,
        spare=spare,
        death_fd=death_write,
    )


def _undo(popen: subprocess.Popen[bytes]) -> None:
    popen.kill()
    popen.wait()


def _exec(theirs: socket.socket, death_read: int, mark: str) -> subprocess.Popen[bytes]:
    arguments = [str(theirs.fileno()), str(death_read), str(os.getpid())]
    return subprocess.Popen(
        [sys.executable, "-c", _MAIN, _PACKAGE_PARENT, *arguments],
        pass_fds=(theirs.fileno(), death_read),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, WORKER_VARIABLE: mark},
    )
