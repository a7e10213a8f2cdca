"""Stands between a store and its server: it can lose a reply, after the server has carried the call out."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path


class Proxy:
    """Listens on a unix socket. Each connection to it is one to the server."""

    def __init__(self, path: Path, server: Path) -> None:
        self.path, self.server = path, server
        self._loses = 0
        """So many replies are lost; each ends its connection."""
        self._word = b""
        self.lost = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, word: bytes, count: int = 1) -> None:
        """Lose the replies to the next calls in which this word stands."""
        self._word, self._loses = word, count

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(str(self.server))
                except OSError:
                    client.close()
                    server.close()
                    continue
                self._sockets += [client, server]
                threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        is_doomed = False
        with contextlib.suppress(OSError), client, server:
            while True:
                for each in select.select([client, server], [], [])[0]:
                    data = each.recv(1 << 20)
                    if not data:
                        return
                    if each is client:
                        is_doomed = is_doomed or bool(self._loses and self._word in data)
                        server.sendall(data)
                    elif is_doomed:
                        self._loses -= 1
                        self.lost += 1
                        return
                    else:
                        client.sendall(data)

    def end_connections(self) -> None:
        for each in self._sockets[1:]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.end_connections()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
