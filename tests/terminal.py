"""The command line on a pseudo-terminal of some width."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[1])
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A command that runs on a terminal; use it in `with`. What it prints is text without colours and movements."""

    def __init__(self, folder: Path, *args: str, columns: int = 80, stdout: int | None = None) -> None:
        """`stdout`: a descriptor in place of the terminal, which then shows stderr only."""
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("MPDISPATCH_") and key not in ("COLUMNS", "LINES", "NO_COLOR")
        }
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mpdispatch", *args],
                cwd=folder,
                env={**clean, "PYTHONPATH": ROOT, "TERM": "xterm", "PYTHONUTF8": "1"},
                stdin=slave,
                stdout=slave if stdout is None else stdout,
                stderr=slave,
                start_new_session=True,
            )
        finally:
            os.close(slave)
        self._raw = b""
        self.text = ""
        """All that was printed so far."""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def read_until(self, is_there: Callable[[str], object]) -> str:
        """Read on until this holds of the text, or the command has ended; gives the text."""
        while not is_there(self.text):
            try:
                part = os.read(self._master, 65536)
            except OSError:  # the last process on it has ended
                break
            if not part:
                break
            self._raw += part
            self.text = _ESCAPES.sub("", self._raw.decode(errors="replace")).replace("\r\n", "\n")
        return self.text

    def rest(self) -> str:
        """All that the command has printed, once it has ended."""
        self.read_until(lambda _: False)
        self.process.wait(30)
        return self.text


def on_terminal(folder: Path, *args: str, columns: int = 80) -> list[str]:
    """The lines that a command prints on a terminal of this many columns; it exits with 0."""
    with Terminal(folder, *args, columns=columns) as terminal:
        lines = terminal.rest().splitlines()
        assert terminal.process.returncode == 0, lines
        return lines
