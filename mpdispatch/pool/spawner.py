"""Starts worker processes, by exec or as a fork of the zygote. Runs in the supervisor.

Exec always works. A zygote makes a worker start fast (see `zygote`). If it is not ready or fails, exec is used.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence

from mpdispatch.execution.app_reference import AppReference
from mpdispatch.host.kill import kill_tree
from mpdispatch.pool import frames
from mpdispatch.pool.channel import ChannelBroken
from mpdispatch.pool.exec import Launched, connected, launch, launch_zygote
from mpdispatch.pool.selector import Selector

_WARM_S = 5.0
"""The longest wait for the zygote to import the app."""
_PATIENCE_S = 0.1
"""The longest wait for a fork. Then the zygote is given up."""
_BAD_FORKS = 2
"""This many consecutive failed forks are blamed on the app. A single failure may be an OOM kill or a stray signal."""


class ZygoteFailedError(OSError):
    """The zygote cannot be used any more."""


class Zygote:
    """The zygote process, and the channel to it. Not thread-safe."""

    def __init__(self, launched: Launched) -> None:
        """`launched`: a process just started by `launch_zygote`."""
        self._launched = launched
        self.channel, self.pid = self._launched.channel, self._launched.process.pid
        self.asked_at = time.monotonic()
        self.was_asked = self.is_ready = False
        """Whether it was asked to import the app; and whether it can fork now, which it cannot during an import."""
        self.hazards: tuple[str, ...] | None = None
        """Why workers must not be forked with the app imported; empty: they may; None: it is not imported."""

    def read(self) -> bool:
        """Read one message of it. False: it has ended, or sent junk."""
        try:
            if (frame := self.channel.receive(wait=False)) is None:
                return True
            message = frames.decode_from_zygote(frame)
        except (ChannelBroken, frames.FrameError):
            return False
        if isinstance(message, frames.Preloaded):
            self.hazards = message.hazards
        # Its ZygoteReady may arrive after it was asked to import the app.
        self.is_ready = isinstance(message, frames.Preloaded) or (
            isinstance(message, frames.ZygoteReady) and not self.was_asked
        )
        return True

    def preload(self, app: AppReference) -> bool:
        """Ask it to import the app. It forks nothing until that is done. False: it has ended."""
        self.was_asked, self.is_ready = True, False
        self.asked_at = time.monotonic()
        try:
            return self.channel.send(frames.encode(frames.Preload(app=app)), wait=False)
        except ChannelBroken:
            return False

    def fork(self, tag: str, descriptors: Sequence[int]) -> int:
        """The pid of a new worker, which is our child. Raises ZygoteFailedError."""
        try:
            self.channel.send_with(frames.encode(frames.Fork(tag)), descriptors)
            if not self.channel.has_frame(_PATIENCE_S):
                raise ZygoteFailedError(f"the zygote did not fork within {_PATIENCE_S:g} s")
            frame = self.channel.receive(wait=False)
            message = None if frame is None else frames.decode_from_zygote(frame)
        except (OSError, ChannelBroken, frames.FrameError) as error:
            raise ZygoteFailedError(str(error)) from error
        if not isinstance(message, frames.Forked):
            raise ZygoteFailedError("the zygote answered out of turn")
        return message.pid

    def close(self) -> None:
        """End it, and the processes that the app's import started in it, but not its forks, which are our children."""
        with contextlib.suppress(OSError, ImportError):  # no free descriptor to look for them
            kill_tree(self._launched.process)
        self._launched.signal(signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self._launched.close_channels()
        self._launched.close_pidfd()


class Spawner:
    """Starts workers, in the fastest way that is ready."""

    def __init__(
        self,
        token: str,
        selector: Selector,
        log: logging.Logger,
        *,
        zygote: bool,
        launched: Launched | None = None,
    ) -> None:
        """`zygote`: use one, `launched` if it is started already. Requires that this process adopts its orphans."""
        self._token, self._selector, self._log = token, selector, log
        self._wants_zygote = zygote and sys.platform == "linux"
        self._start_method = "forkserver"
        self._zygote: Zygote | None = None
        self._launched = launched
        self._number = self._bad_forks = 0
        self._may_preload = True
        """Whether the zygote may import the app, as far as is known."""

    @property
    def zygote_pid(self) -> int | None:
        return None if self._zygote is None else self._zygote.pid

    @property
    def is_warming(self) -> bool:
        """Whether the zygote will be ready in a moment, so that waiting for it is worthwhile."""
        zygote = self._zygote
        return zygote is not None and not zygote.is_ready and time.monotonic() - zygote.asked_at < _WARM_S

    @property
    def has_app(self) -> bool:
        """Whether a worker started now would be forked with the app imported: it is up at once, and shares memory."""
        zygote = self._zygote
        return zygote is not None and zygote.is_ready and zygote.hazards == ()

    def use(self, start_method: str) -> None:
        """Start workers in this way from now on, see `Config.start_method`."""
        self._start_method = start_method
        if start_method == "spawn":
            self.close()

    def warm_up(self) -> None:
        """Start the zygote, if one is wanted."""
        if not self._wants_zygote or self._start_method == "spawn" or self._zygote is not None:
            return
        try:
            self._zygote = Zygote(self._launched or launch_zygote(self._token))
            self._launched = None
        except OSError as error:
            self._log.debug("no zygote, workers are exec'ed", extra={"error": str(error)})
            return
        self._selector.register(self._zygote.channel, self, urgent=False)

    def preload(self, app: AppReference, hazards: tuple[str, ...]) -> None:
        """A worker has imported the app. Have the zygote import it too, unless there are hazards."""
        if self._zygote is None or not self._may_preload or self._zygote.was_asked:
            return
        if hazards:
            self._may_preload = False
            self._log.debug("the zygote does not import the app", extra={"why": "; ".join(hazards)})
            return
        if not self._zygote.preload(app):
            self._give_up("it ended", blames_app=False)

    def read(self) -> None:
        """Read a message of the zygote, or notice its end."""
        zygote = self._zygote
        if zygote is None:
            return
        was_importing = zygote.was_asked and not zygote.is_ready
        if not zygote.read():
            self._give_up("it ended", blames_app=was_importing)
        elif zygote.hazards:
            self._give_up("; ".join(zygote.hazards), blames_app=True)

    def spawn(self) -> tuple[Launched, str]:
        """A new worker and its tag. Raises OSError if the system has no free process or descriptor."""
        self._number += 1
        tag = f"{self._token}.{self._number}"
        if self._zygote is not None and self._zygote.is_ready:
            try:
                zygote = self._zygote
                return connected(lambda descriptors: zygote.fork(tag, descriptors)), tag
            except ZygoteFailedError as error:
                self._bad_forks += 1
                self._give_up(str(error), blames_app=self._bad_forks >= _BAD_FORKS)
        return launch(tag), tag

    def fork_worked(self) -> None:
        """A worker that was forked with the app imported is ready."""
        self._bad_forks = 0

    def fork_failed(self) -> None:
        """A worker that was forked with the app ended before it was ready. The app may not survive a fork."""
        self._bad_forks += 1
        if self._bad_forks >= _BAD_FORKS and self.has_app:
            self._give_up("workers forked from it do not start", blames_app=True)

    def _give_up(self, why: str, *, blames_app: bool) -> None:
        """Replace the zygote; until it is ready workers start by exec. `blames_app`: the new one does not import the app.

        After one that fails before it was asked to import anything, no other is started.
        """
        zygote = self._zygote
        assert zygote is not None
        self._log.debug("gave the zygote up", extra={"why": why, "blames_app": blames_app})
        self._selector.unregister(zygote.channel)
        zygote.close()
        self._zygote = None
        self._may_preload = self._may_preload and not blames_app
        self._wants_zygote = self._wants_zygote and zygote.was_asked
        self.warm_up()

    def renew(self, token: str) -> None:
        """Use another token for processes started from now on. The zygote is started again, because the processes that
        it forks show the tag with which it was started."""
        self.close()
        self._token, self._number, self._bad_forks, self._may_preload = token, 0, 0, True
        self.warm_up()

    def close(self) -> None:
        if self._launched is not None:
            Zygote(self._launched).close()
            self._launched = None
        if self._zygote is not None:
            self._selector.unregister(self._zygote.channel)
            self._zygote.close()
            self._zygote = None
