"""A proxy that pools transactions, as PgBouncer does: between two transactions a client has no connection of its own."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import struct
import threading
from pathlib import Path
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

_SSL_REQUEST, _GSS_REQUEST, _CANCEL = 80877103, 80877104, 80877102


class Pooler:
    """Shares two connections of a server among all clients. Listens on a unix socket in a folder of the test's."""

    def __init__(self, dsn: str, folder: Path) -> None:
        given = conninfo_to_dict(dsn)
        self._given = given
        self._upstream = f"{given['host']}/.s.PGSQL.{given.get('port', '5432')}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self.dsn = f"postgresql://{given['user']}@/{given['dbname']}?host={quote(str(folder))}"
        self._sockets, self._threads = [self._listener], list[threading.Thread]()
        self._greeting = b""
        self._free: queue.Queue[socket.socket] = queue.Queue()
        for _ in range(2):
            self._free.put(self._connected())
        self._begin(self._accept)

    def _connected(self) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._upstream)
        self._sockets.append(server)
        pairs = {"user": self._given["user"], "database": self._given["dbname"], "client_encoding": "UTF8"}
        body = struct.pack("!I", 196608) + b"".join(f"{k}\0{v}\0".encode() for k, v in pairs.items()) + b"\0"
        server.sendall(struct.pack("!I", len(body) + 4) + body)
        greeting = b""
        while True:
            kind, frame = _frame(server)
            if kind == b"K":
                frame = b"K" + struct.pack("!II", 12, 1) + os.urandom(4)  # the pooler's own
            greeting += frame
            if kind == b"Z":
                self._greeting = greeting
                return server

    def _begin(self, work: object, *sides: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=sides, daemon=True))  # type: ignore[arg-type]
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                self._begin(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            while (code := _startup(client)) in (_SSL_REQUEST, _GSS_REQUEST):
                client.sendall(b"N")
            if code == _CANCEL:
                return
            client.sendall(self._greeting)
            while True:
                kind, frame = _frame(client)
                if kind == b"X":
                    break
                server = self._free.get()
                self._transaction(client, server, kind, frame)
                self._free.put(server)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _transaction(self, client: socket.socket, server: socket.socket, kind: bytes, frame: bytes) -> None:
        """Pass on until the server is idle again."""
        while True:
            server.sendall(frame)
            if kind in (b"Q", b"S"):
                while True:
                    answer, reply = _frame(server)
                    client.sendall(reply)
                    if answer == b"Z":
                        break
                if reply[-1:] == b"I":
                    return
            kind, frame = _frame(client)

    def close(self) -> None:
        for side in self._sockets:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for side in self._sockets:
            side.close()


def _startup(client: socket.socket) -> int:
    (length,) = struct.unpack("!I", _exactly(client, 4))
    return int(struct.unpack("!I", _exactly(client, length - 4)[:4])[0])


def _frame(side: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(side, 5)
    (length,) = struct.unpack("!I", head[1:])
    return head[:1], head + _exactly(side, length - 4)


def _exactly(side: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        if not (some := side.recv(count - len(found))):
            raise EOFError
        found += some
    return found
