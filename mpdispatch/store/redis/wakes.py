"""Wake-ups of a Redis store: the server publishes them in the very call that is their cause.

`{prefix}:work` says that there may be work, `{prefix}:ends` that jobs have ended.
"""

from __future__ import annotations

import contextlib
from typing import Any

from mpdispatch.store.redis import client as clients
from mpdispatch.store.redis.link import Link

_QUICK_S = 1.0
"""A supervisor that begins to listen does not wait longer than this for the server."""


class RedisListener:
    """A connection that subscribed to one channel."""

    def __init__(self, link: Link, channel: str) -> None:
        """Raises an error of the client library."""
        self._subscription = link.client.pubsub(ignore_subscribe_messages=True)
        self._subscription.subscribe(channel)
        self._subscription.get_message(timeout=_QUICK_S)
        self._is_lost = False

    def fileno(self) -> int:
        connection = self._subscription.connection
        socket = None if connection is None else getattr(connection, "_sock", None)
        return -1 if socket is None else int(socket.fileno())

    def drain(self) -> None:
        errors = clients.module().exceptions
        try:
            while self._subscription.get_message(timeout=0) is not None or self._has_more():
                pass
        except (errors.RedisError, OSError):
            self._is_lost = True

    def _has_more(self) -> bool:
        return self.fileno() >= 0 and bool(self._subscription.connection.can_read(timeout=0))

    def is_in_place(self) -> bool:
        return not self._is_lost and self.fileno() >= 0

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._subscription.close()


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
            self._link.client.execute_command("PUBLISH", f"{self._link.tag}:{channel}", "")

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
