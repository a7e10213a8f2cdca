"""Wake-ups of a Redis store: the server publishes them in the very call that is their cause.

`{prefix}:work` says that there may be work, `{prefix}:ends` that jobs have ended.
"""

from __future__ import annotations

import contextlib
import os
import select
from typing import Any

from mpdispatch.store.redis import client as clients
from mpdispatch.store.redis.link import Link

_QUICK_S = 1.0
"""Who begins to listen does not wait longer than this for the server's word."""


class RedisListener:
    """A connection that subscribed to one channel. What comes is never looked at: that it comes is the wake-up."""

    def __init__(self, link: Link, channel: str) -> None:
        """Raises an error of the client library, or OSError."""
        self._connection = link.server.client.connection_pool.make_connection()
        self._connection.connect()
        try:
            self._connection.send_command("SUBSCRIBE", channel)
            # A descriptor of our own, which stays what it is when the library closes its socket.
            self._fd = os.dup(self._connection._sock.fileno())
        except BaseException:
            self._connection.disconnect()
            raise
        os.set_blocking(self._fd, False)
        self._is_lost = False
        if not select.select([self._fd], [], [], _QUICK_S)[0] or os.read(self._fd, 4096).startswith(b"-"):
            self.close()
            raise OSError(f"the server gives no wake-ups of {channel}")

    def fileno(self) -> int:
        return self._fd

    def drain(self) -> None:
        if self._is_lost:
            return
        try:
            while data := os.read(self._fd, 4096):
                if len(data) < 4096:
                    return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._lose()

    def _lose(self) -> None:
        """The server is gone. A descriptor at its end is readable for ever: one that never is takes its place."""
        self._is_lost = True
        quiet, other = os.pipe()
        os.dup2(quiet, self._fd, inheritable=False)
        os.close(quiet)
        self._other = other  # open, or the first were at its end

    def is_in_place(self) -> bool:
        return not self._is_lost

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._connection.disconnect()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._is_lost and self._other >= 0:
            os.close(self._other)
            self._other = -1


class RedisWakes:
    """A `Wake` over publish and subscribe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def notify(self) -> None:
        self._publish("work")

    def notify_of_ends(self) -> None:
        self._publish("ends")

    def _publish(self, channel: str) -> None:
        with contextlib.suppress(clients.module().exceptions.RedisError, OSError):
            self._link.server.client.execute_command("PUBLISH", f"{self._link.tag}:{channel}", "")

    def listen(self, owner: int) -> RedisListener | None:
        return self._listen("work")

    def listen_for_ends(self) -> RedisListener | None:
        return self._listen("ends")

    def _listen(self, channel: str) -> RedisListener | None:
        errors: Any = clients.module().exceptions
        try:
            return RedisListener(self._link, f"{self._link.tag}:{channel}")
        except (errors.RedisError, OSError):
            return None

    def close(self) -> None:
        """It keeps nothing open but its listeners, which are closed by those who have them."""
