"""A proxy between clients and PostgreSQL that loses messages, as networks and proxies do when they fail.

It listens on a unix socket in a folder of the test's, so `host=FOLDER` is its address.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict


class Proxy:
    """`trip` says what happens to the next message of a client that holds some bytes."""

    def __init__(self, dsn: str, folder: Path) -> None:
        given = conninfo_to_dict(dsn)
        self._upstream = f"{given['host']}/.s.PGSQL.{given.get('port', '5432')}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        options = f"&options={quote(str(given['options']))}" if "options" in given else ""
        self.dsn = f"postgresql://{given['user']}@/{given['dbname']}?host={quote(str(folder))}{options}"
        self._pattern, self._how, self._times = b"", "", 0
        self.tripped = threading.Event()
        """Set once such a message has come."""
        self.release = threading.Event()
        """Lets a message go on that is held."""
        self._is_cut = False
        self._sockets = list[socket.socket]()
        self._threads = list[threading.Thread]()
        self._begin(self._accept)

    def trip(self, pattern: bytes, how: str, times: int = 1) -> None:
        """The next messages of clients that hold `pattern` are treated like this:

        - `drop request`: the server does not get it, and the client is hung up on.
        - `drop reply`: the server gets it and answers, and the client is hung up on instead of being told.
        - `hold`: the client is hung up on at once, and the server gets the message once `release` is set.
        """
        self.tripped.clear()
        self._pattern, self._how, self._times = pattern, how, times

    def cut(self, *, again: bool = False) -> None:
        """Let nothing through any more, in silence; `again`: hang up on all, and let new connections through."""
        self._is_cut = not again
        if again:
            for each in self._sockets:
                _end(each)

    def close(self) -> None:
        self.release.set()
        _end(self._listener)
        for side in self._sockets:
            _end(side)
        for thread in self._threads:
            thread.join(10)
        for side in (self._listener, *self._sockets):
            side.close()

    def _begin(self, work: Callable[..., None], *sides: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=sides, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._upstream)
            except OSError:
                client.close()
                server.close()
                continue
            self._sockets += [client, server]
            self._begin(self._requests, client, server)
            self._begin(self._replies, client, server)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self._times and self._pattern in data:
                    self._times -= 1
                    self._treat(data, client, server)
                    return
                if not self._is_cut:
                    server.sendall(data)
        if not self._is_cut:
            _end(server)

    def _treat(self, data: bytes, client: socket.socket, server: socket.socket) -> None:
        self.tripped.set()
        if self._how == "drop reply":
            _end(client, socket.SHUT_WR)  # what comes from the server goes nowhere
            server.sendall(data)
            # The server has answered once it is ready for the next statement, and then sees the hang-up.
            server.shutdown(socket.SHUT_WR)
            return
        _end(client)
        if self._how == "hold":
            self.release.wait()
            server.sendall(data)
            server.shutdown(socket.SHUT_WR)
        else:
            _end(server)

    def _replies(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if not self._is_cut:
                    with contextlib.suppress(OSError):
                        client.sendall(data)
        if not self._is_cut:
            _end(client)


def _end(side: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    with contextlib.suppress(OSError):
        side.shutdown(how)
