"""A proxy for any protocol on TCP that hangs up now and then, when the server has answered and the client not heard it."""

from __future__ import annotations

import contextlib
import random
import socket
import threading


class Lossy:
    """Between hosts and a server. Threads of this process."""

    def __init__(self, server: tuple[str, int], *, seed: int) -> None:
        """Listens on the server's address, on another port."""
        self._server, self._dice, self._lock = server, random.Random(seed), threading.Lock()
        self.losses = 0.0
        """The share of replies that are lost from now on."""
        self.lost = 0
        """How many were lost so far."""
        self._listener = socket.create_server((server[0], 0))
        self.port: int = self._listener.getsockname()[1]
        self._sides = list[socket.socket]()
        self._threads = list[threading.Thread]()
        self._start(self._accept)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for each in self._sides:
            _hang_up(each)
        for thread in self._threads[1:]:
            thread.join()
        for each in self._sides:
            each.close()

    def _start(self, work: object, *sides: socket.socket) -> None:
        thread = threading.Thread(target=work, args=sides, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                self._sides.append(client)
                server = socket.create_connection(self._server)
                self._sides.append(server)
            except OSError:
                return
            self._start(self._requests, client, server)
            self._start(self._replies, client, server)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        _hang_up(server)

    def _replies(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if self._loses():
                    break
                client.sendall(data)
        _hang_up(client)
        _hang_up(server)

    def _loses(self) -> bool:
        with self._lock:
            is_lost = self._dice.random() < self.losses
            self.lost += is_lost
            return is_lost


def _hang_up(side: socket.socket) -> None:
    with contextlib.suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)
