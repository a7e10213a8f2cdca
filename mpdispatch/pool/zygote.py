"""The zygote: a process that has imported all that workers need, and forks them. Runs in the zygote.

Measured: a worker started by exec is ready in 120–180 ms, one forked from here in 5–13 ms, and it shares our memory
until it writes. Each worker is forked twice, so that it is orphaned at once and the supervisor, a subreaper, adopts it
and can read its exit status. So there is a zygote only where the supervisor may be a subreaper: under
`mpdispatch supervise`, never in the process of a host application.

mpdispatch is imported before the first fork. The app is imported only after a worker has shown that its import leaves
one thread and no connections. Threads do not survive a fork; an SQLite connection copied by a fork can drop locks or
checkpoint when it is finalised; and all workers would share a connection to a server.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from mpdispatch.clock import sleep
from mpdispatch.execution.app_reference import AppEngine
from mpdispatch.execution.loading import load
from mpdispatch.host.kill import WORKER_VARIABLE
from mpdispatch.host.linux import give_back_memory
from mpdispatch.pool.fork_safety import fork_hazards, open_descriptors
from mpdispatch.pool.frames import Forked, Preload, Preloaded, ZygoteReady, decode_to_zygote, encode
from mpdispatch.pool.sigterm import leave_sigterm_to_supervisor
from mpdispatch.pool.started import Ties, settle_in, ties_of_exec
from mpdispatch.pool.worker import serve

_WARM = ("mpdispatch.engine", "mpdispatch.dispatcher", "mpdispatch.store")
"""Modules that every app imports. By name, because they are on floors above."""
_FDS_PER_FORK = 3
_ADOPTION_S = 1.0


def main() -> NoReturn:
    """Entry point of a process started by `exec.launch`."""
    ties = ties_of_exec()
    settle_in(ties)
    for name in _WARM:
        importlib.import_module(name)
    control = socket.socket(fileno=ties.channel_fd)
    control.setblocking(True)  # whatever the default is
    _send(control, encode(ZygoteReady()))
    app: AppEngine | None = None
    while True:
        frame, descriptors = _receive(control)
        message = decode_to_zygote(frame)
        if isinstance(message, Preload):
            before = open_descriptors()
            app = load(message.app)
            leave_sigterm_to_supervisor()
            hazards = fork_hazards(before)
            _send(control, encode(Preloaded(hazards=tuple(hazards))))
            # Present objects are exempt from garbage collection in children, which would write to shared pages.
            gc.collect()
            gc.freeze()
            give_back_memory()
            continue
        channel_fd, death_fd, permits_fd = descriptors
        of_worker = Ties(channel_fd, death_fd, permits_fd, ties.supervisor_pid)
        pid = _fork_twice(functools.partial(_become_worker, message.tag, of_worker, ties, app))
        for descriptor in descriptors:
            os.close(descriptor)
        _send(control, encode(Forked(pid)))


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """The next message and its descriptors. Ends this process at the end of the channel."""
    # It is reset, and not just at its end, if the supervisor ended before it had read all from us.
    frame, descriptors = b"", list[int]()
    with contextlib.suppress(ConnectionResetError):
        frame, descriptors, _, _ = socket.recv_fds(control, 64 * 1024, _FDS_PER_FORK)
    if not frame:
        os._exit(0)
    return frame, descriptors


def _send(control: socket.socket, frame: bytes) -> None:
    """Send a message. Ends this process at the end of the channel."""
    try:
        control.send(frame)
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)


def _fork_twice(body: Callable[[], None]) -> int:
    """Fork a grandchild that runs `body`; gives its pid. Its parent ends at once, so the subreaper adopts it."""
    read, write = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.close(read)
        worker = os.fork()
        if worker == 0:
            os.close(write)
            body()
            os._exit(70)  # not reached, because a worker never returns
        os.write(write, str(worker).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        pid = int(pipe.read())
    with contextlib.suppress(ChildProcessError):  # the app ignores SIGCHLD, so the kernel has reaped it
        os.waitpid(middle, 0)
    return pid


def _become_worker(tag: str, ties: Ties, of_zygote: Ties, app: AppEngine | None) -> None:
    """In the grandchild: close the zygote's descriptors, then be a worker like any other."""
    os.close(of_zygote.channel_fd)
    os.close(of_zygote.death_fd)
    os.setsid()
    # Wait for the adoption, because what ties us to our parent must tie us to the supervisor.
    deadline = time.monotonic() + _ADOPTION_S
    while os.getppid() != ties.supervisor_pid and time.monotonic() < deadline:
        sleep(0.0002)
    os.environ[WORKER_VARIABLE] = tag
    _reseed()
    serve(ties, app)


def _reseed() -> None:
    """Seed NumPy, so that workers do not draw the same numbers. Python's `random` does it itself after a fork."""
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()
