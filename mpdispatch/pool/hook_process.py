"""A process that imports the app and calls its hooks, for a supervisor that does not. The parent's side, and its main.

    supervisor: hook thread ──frames of events──▶ hook process: imports the app, calls its hooks in order

The thread may wait for a full channel, as its queue is bounded and the loop never waits for it. If the process
dies (a hook calls os._exit) it is started again for the next events. The events that it had read are lost, which is
logged.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec

from mpdispatch.clock import boot_us
from mpdispatch.errors import DispatchError
from mpdispatch.events.notices import Notice, decode_events, encode_events, events_of
from mpdispatch.execution.app_reference import AppReference
from mpdispatch.execution.loading import complete_logging, load
from mpdispatch.execution.process_context import set_current_engine
from mpdispatch.hooks import HOOKS, Event
from mpdispatch.pool.channel import Channel, ChannelBroken
from mpdispatch.pool.exec import launch
from mpdispatch.pool.frames import HookBoot, decode_hook_boot, encode
from mpdispatch.pool.process import WorkerProcess, wait_for_ends
from mpdispatch.pool.sigterm import leave_sigterm_to_supervisor, restore_sigterm_in_forks
from mpdispatch.pool.started import receive, settle_in, ties_of_exec
from mpdispatch.repeated import Repeated

_MAIN = "from mpdispatch.pool.hook_process import main; main()"
_EVENTS_PER_FRAME = 500
_RESTART_AFTER_S = 5.0
_EXIT_BOOT_FAILED = 3
_END = b"[]"
"""A frame without events: the last one, at which the process ends."""


class HookProcess:
    """The supervisor's side of the hook process. `deliver` and `close` are called from different threads, never at once."""

    def __init__(
        self,
        app: AppReference,
        *,
        wanted: frozenset[str],
        store: str | None,
        token: str,
        helper_pids: set[int],
        log: logging.Logger,
        log_level: int,
    ) -> None:
        """Start it. `store`: the store that it enqueues into, if not the app's own. Its pid is added to `helper_pids`.

        Raises OSError.
        """
        self._boot = encode(HookBoot(app=app, log_level=log_level, store=store))
        self._wanted = frozenset(kind for kind, hook in HOOKS.items() if hook in wanted)
        self._token, self._helper_pids, self._log = token, helper_pids, log
        self._repeats = Repeated(log)
        self._number = 0
        self._started_at_s = 0.0
        self._process: WorkerProcess | None = None
        self._is_closing = False
        self._start()

    def _start(self) -> None:
        self._number += 1
        self._started_at_s = time.monotonic()
        # A tag that no rescuer looks for: it belongs to this process, not to a registration.
        tag = f"hooks-{self._token}.{self._number}"
        launched = launch(tag, _MAIN, takes_jobs=False)
        self._process = WorkerProcess(launched=launched, tag=tag, started_boot_us=boot_us())
        self._helper_pids.add(self._process.pid)
        self._process.send(self._boot)

    def deliver(self, notices: Sequence[Notice]) -> None:
        """Send the wanted events of these notices. Waits while the process is behind."""
        events = [event for notice in notices for event in events_of(notice) if type(event) in self._wanted]
        for start in range(0, len(events), _EVENTS_PER_FRAME):
            chunk = events[start : start + _EVENTS_PER_FRAME]
            if not self._send(encode_events(chunk)):
                self._repeats.log(
                    "gone",
                    logging.ERROR,
                    "the hook process is gone: %d events are lost",
                    len(chunk),
                    extra={"lost": len(chunk)},
                    count=len(chunk),
                )

    def _send(self, frame: bytes) -> bool:
        if self._process is None and not self._may_start():
            return False
        assert self._process is not None
        try:
            return self._process.launched.channel.send(frame, wait=True)
        except ChannelBroken:
            if self._is_closing:
                return False
            self._bury()
            return self._may_start() and self._send(frame)

    def _may_start(self) -> bool:
        """Start it again, unless it was started only a moment ago."""
        if self._is_closing or time.monotonic() - self._started_at_s < _RESTART_AFTER_S:
            return False
        try:
            self._start()
        except OSError as error:
            self._repeats.log(
                ("start", error.errno),
                logging.ERROR,
                "cannot start the hook process",
                extra={"error": str(error)},
            )
            return False
        return True

    def _bury(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        if not wait_for_ends([process], 1.0):
            self._repeats.log(
                "ended", logging.ERROR, "the hook process %s", process.exit_status, extra={"pid": process.pid}
            )
        self._forget(process)

    def _forget(self, process: WorkerProcess) -> None:
        self._helper_pids.discard(process.pid)
        process.close()

    def close(self, timeout_s: float) -> None:
        """Let it finish its events, for at most this long, and end it."""
        self._is_closing = True
        self._repeats.close()
        process = self._process
        if process is None:
            return
        deadline = time.monotonic() + timeout_s
        try:
            # Without waiting: a process with a full buffer is too far behind, or stuck.
            is_sent = process.launched.channel.send(_END, wait=False)
        except ChannelBroken:
            is_sent = False
        # A process that has already ended needs no message and no time.
        wait_s = max(0.0, deadline - time.monotonic()) if is_sent else 0.1
        if wait_for_ends([process], wait_s):
            self._log.error("the hook process did not end in time; its events are lost")
            process.kill()
            wait_for_ends([process], 1.0)
        elif process.exit_status is not None and process.exit_status.code != 0:
            self._log.error("the hook process %s; its events are lost", process.exit_status)
        # The end of the process wakes a hook thread that still waits in send(), before the channel closes here.
        self._process = None
        self._forget(process)


# ---------------------------------------------------------------- the child


def main() -> NoReturn:
    """Entry point of a process started by `exec.launch`."""
    ties = ties_of_exec()
    settle_in(ties)
    restore_sigterm_in_forks()
    channel = Channel(socket.socket(fileno=ties.channel_fd))
    status = 0
    try:
        status = _serve(channel)
    except ChannelBroken:
        status = 70  # the supervisor has ended
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _serve(channel: Channel) -> int:
    boot = decode_hook_boot(receive(channel))
    log = logging.getLogger("mpdispatch.hooks")
    try:
        app = load(boot.app)
    except DispatchError as error:
        complete_logging(boot.log_level)
        log.error("the hook process cannot import the app: %s", error)
        return _EXIT_BOOT_FAILED
    complete_logging(boot.log_level)
    leave_sigterm_to_supervisor()
    if boot.store is not None:
        app.use_store(boot.store)
    set_current_engine(app)
    # A job that a hook enqueues is an event, too. The same thread handles it, after the events that came before.
    own: deque[bytes] = deque()
    app.hooks.route(lambda events, count: own.append(events))
    subscribers = app.hooks.subscribers()
    while subscribers is not None:
        frame = receive(channel)
        if frame == _END:
            break
        own.append(frame)
        while own:
            _call_all(own.popleft(), subscribers.call, log)
    app.telemetry.flush()
    return 0


def _call_all(frame: bytes, call: Callable[[Event], None], log: logging.Logger) -> None:
    try:
        events = decode_events(frame)
    except msgspec.DecodeError as error:
        log.error("events that cannot be read", extra={"error": str(error)})
        return
    for event in events:
        call(event)
