"""The program of a command job as a process: how it starts, is heard, and ends. Runs in the worker process.

It leads a process group of its own below the worker. Its end is seen by a pidfd, where there are pidfds.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from mpdispatch.errors import CommandFailedError
from mpdispatch.execution.job_context import JobContext
from mpdispatch.execution.spool import last_line
from mpdispatch.model import Stream

_READ_BYTES = 65536
_LOOK_S = 0.25
"""How often the program's end is looked for, in case no descriptor shows it; without pidfds five times as often."""
_DRAIN_BYTES = 4 << 20
"""The most that is read after the program's end from pipes that a process it left behind keeps open."""


class Listener(Protocol):
    """Sees the end of a program, and what it writes."""

    def read(self, until_s: float | None) -> int | None:
        """Listen until the program ends; gives its exit code. None: it has not ended by `until_s` (monotonic)."""
        ...


def start(
    argv: Sequence[str], cwd: str, env: Mapping[bytes, bytes], *, stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    """Start the program in a process group of its own. `stdout`, `stderr`: as for Popen.

    Raises CommandFailedError: it cannot be started; its exit status is that of a shell (126, 127).
    """
    if not argv or not argv[0]:
        raise CommandFailedError("", exit_status=127, detail="there is no program to run")
    program = argv[0]
    try:
        with _default_interrupt():
            return subprocess.Popen(
                argv,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                bufsize=0,
                process_group=0,
            )
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.filename == cwd:
            detail = f"its folder {cwd} cannot be entered: {error.strerror}"
        elif isinstance(error, FileNotFoundError):
            detail = "there is no such program on its PATH" if "/" not in program else "there is no such file"
        else:
            detail = getattr(error, "strerror", None) or str(error)
        # As in a shell: 127 is not found, 126 is found but cannot be run.
        status = 127 if isinstance(error, FileNotFoundError) else 126
        raise CommandFailedError(program, exit_status=status, detail=detail) from None


@contextlib.contextmanager
def _default_interrupt() -> Iterator[None]:
    """Inside it, a program is started with the default action of SIGINT, which this worker ignores.

    It would inherit that, and a shell cannot trap what it was started to ignore. A handler, however, is not inherited.
    """
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end(process: subprocess.Popen[bytes], listener: Listener, *, patience_s: float) -> None:
    """End the program and its process group, at the latest `patience_s` seconds after SIGTERM. It is heard meanwhile."""
    _signal_group(process, signal.SIGTERM)
    # A stopped process handles SIGTERM only once it continues.
    _signal_group(process, signal.SIGCONT)
    listener.read(time.monotonic() + patience_s)
    _signal_group(process, signal.SIGKILL)
    listener.read(time.monotonic() + patience_s)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    # A group keeps its number while a member lives. macOS refuses groups of zombies (EPERM).
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _pidfd(process: subprocess.Popen[bytes]) -> int | None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.pidfd_open(process.pid)
    return None


class EndListener:
    """Waits for the end of a program that writes into files."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._pidfd = _pidfd(process)
        self._poll = select.poll()
        if self._pidfd is not None:
            self._poll.register(self._pidfd, select.POLLIN)

    def read(self, until_s: float | None) -> int | None:
        look_s = _LOOK_S if self._pidfd is not None else _LOOK_S / 5
        while (code := self._process.poll()) is None:
            left_s = look_s if until_s is None else min(look_s, until_s - time.monotonic())
            if left_s <= 0:
                return None
            self._poll.poll(left_s * 1000)
        return code

    def close(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)


class PipeReader:
    """Reads both pipes of the program, and sees its end."""

    def __init__(self, process: subprocess.Popen[bytes], context: JobContext) -> None:
        self._process, self._context = process, context
        self._selector = selectors.DefaultSelector()
        self._decoders: dict[Stream, codecs.IncrementalDecoder] = {}
        self._silent = {Stream.STDOUT, Stream.STDERR}
        self._last_error = ""
        self._has_ended = False
        for stream, pipe in ((Stream.STDOUT, process.stdout), (Stream.STDERR, process.stderr)):
            assert pipe is not None  # both are pipes
            os.set_blocking(pipe.fileno(), False)
            self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
            self._selector.register(pipe, selectors.EVENT_READ, stream)
        self._pidfd = _pidfd(process)
        if self._pidfd is not None:
            self._selector.register(self._pidfd, selectors.EVENT_READ)

    def read(self, until_s: float | None) -> int | None:
        look_s = _LOOK_S if self._pidfd is not None else _LOOK_S / 5
        while (code := self._process.poll()) is None:
            left_s = look_s if until_s is None else min(look_s, until_s - time.monotonic())
            if left_s <= 0:
                return None
            for key, _ in self._selector.select(left_s):
                if key.data is not None:
                    self._read(key.fileobj, key.data)
        self._has_ended = True
        self._drain()
        return code

    def _drain(self) -> None:
        """Report what it wrote before its end, but not what a process that it left behind goes on writing."""
        for key in list(self._selector.get_map().values()):
            if key.data is None:
                continue
            left = _DRAIN_BYTES
            while left > 0 and (got := self._read(key.fileobj, key.data)):
                left -= got

    def _read(self, pipe: Any, stream: Stream) -> int:
        try:
            data = os.read(pipe.fileno(), _READ_BYTES)
        except BlockingIOError:
            return 0
        text = self._decoders[stream].decode(data, final=not data)
        if not data:
            self._selector.unregister(pipe)
        if text:
            if stream is Stream.STDERR:
                self._last_error = (self._last_error + text)[-1000:]
            self._silent.discard(stream)
            self._context.write(stream, text, is_last=self._has_ended)
        return len(data)

    def last_error_line(self) -> str:
        return last_line(self._last_error)

    def close(self) -> None:
        for stream in self._silent:
            self._context.write(stream, "", is_last=True)  # an unused stream is empty, not unknown
        self._selector.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
