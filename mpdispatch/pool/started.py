"""What every process does first that a supervisor starts. Runs in the worker, the zygote and the hook process."""

from __future__ import annotations

import os
import signal
import sys
from typing import NamedTuple

from mpdispatch.execution.process_context import enter_worker
from mpdispatch.host.linux import die_with
from mpdispatch.pool.channel import Channel
from mpdispatch.pool.sigterm import leave_sigterm_to_supervisor


class Ties(NamedTuple):
    """What ties a process to its supervisor: descriptors, and the supervisor's pid."""

    channel_fd: int
    death_fd: int
    permits_fd: int
    """-1: it has no permits."""
    supervisor_pid: int


def ties_of_exec() -> Ties:
    """Those of a process started by `exec.launch`, from its command line. No program that it starts inherits them."""
    ties = Ties(*map(int, sys.argv[2:6]))
    for descriptor in ties[:3]:
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
    return ties


def settle_in(ties: Ties) -> None:
    """Ignore Ctrl-C, leave SIGTERM to the supervisor, and die with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_sigterm_to_supervisor()
    die_with(ties.supervisor_pid, ties.death_fd)
    enter_worker()


def receive(channel: Channel) -> bytes:
    """Wait for the next frame. Raises ChannelBroken."""
    frame = channel.receive(wait=True)
    assert frame is not None  # a waiting receive gives a frame or raises
    return frame
