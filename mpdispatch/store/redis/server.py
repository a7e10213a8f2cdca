"""A Redis server: commands to it, again while it is lost, and on the node of a cluster that has the keys."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from mpdispatch.clock import sleep
from mpdispatch.errors import StoreUnreachable
from mpdispatch.store.redis import client as clients
from mpdispatch.store.redis.location import Location

T = TypeVar("T")

PATIENCE_S = 30.0
"""A client waits as long for a server that is lost; a supervisor does not wait."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_FOLLOWS_AT_MOST = 3
"""Nodes of a cluster that a call is sent on to."""


class Server:
    """Thread-safe; connects on first use."""

    def __init__(self, location: Location, arguments: dict[str, Any] | None) -> None:
        """`arguments`: of an app's own connections."""
        self.location, self._arguments = location, arguments
        self._client: Any = None
        self._lock = threading.Lock()
        self._is_elsewhere = False
        """The client is that of another node than the one that the location names."""

    @property
    def client(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = clients.connect(self.location.url, self._arguments)
            return self._client

    def execute(self, *words: Any) -> Any:
        """A command, once. Raises errors of the client library."""
        return self.client.execute_command(*words)

    def command(self, *words: Any, patience_s: float = PATIENCE_S) -> Any:
        """A command that may be repeated."""
        return self.patiently(lambda: self.execute(*words), patience_s)

    def patiently(self, ask: Callable[[], T], patience_s: float, unknown: str = "") -> T:
        """What this gives, asked again with growing pauses while the server is lost.

        Raises StoreUnreachable after that time, with `unknown` added to its text; another StoreError if the server
        refuses it.
        """
        until_s, pause_s, follows = time.monotonic() + patience_s, _FIRST_PAUSE_S, 0
        while True:
            try:
                return ask()
            except clients.module().exceptions.RedisError as error:
                if clients.is_elsewhere(error) and follows < _FOLLOWS_AT_MOST:
                    self._follow(error)
                    follows += 1
                    continue
                if not clients.is_lost(error):
                    raise clients.translated(error, self.location.display) from error
                if self._is_elsewhere:
                    self.close()  # that node may be gone for good: the first one knows which has taken its place
                wait_s = pause_s * random.uniform(0.5, 1.0)
                if time.monotonic() + wait_s >= until_s:
                    text = f"the server cannot be reached: {error}{unknown}"
                    raise StoreUnreachable(self.location.display, text) from error
            sleep(wait_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _follow(self, error: Any) -> None:
        """Go on with the node of a cluster that has our keys."""
        self.close()
        client = clients.connect(self.location.url, self._arguments)
        client.connection_pool.connection_kwargs |= {"host": error.host, "port": error.port}
        with self._lock:
            self._client, self._is_elsewhere = client, True

    def close(self) -> None:
        """Close the connections that nobody uses at this moment; the next call opens others."""
        with self._lock:
            client, self._client, self._is_elsewhere = self._client, None, False
        if client is not None:
            client.connection_pool.disconnect(inuse_connections=False)
