"""Prints what the jobs of `map` wrote: stdout as it is, stderr with the name of the input before each line. Effects."""

from __future__ import annotations

import contextlib
import heapq
import io
import json
import os
import select
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from mpdispatch.cli.map.ends import End
from mpdispatch.cli.map.folder import Printed
from mpdispatch.execution.spool import spool_file
from mpdispatch.model import Stream
from mpdispatch.store.contract import Store

_PIECE_BYTES = 1 << 18
_HELD_BYTES = 16 << 20
"""The most bytes of results that wait in memory for their turn. Further ones are read from the store again."""
_STDERR = 2


class Outputs:
    """What ended jobs wrote, in their results or in the spool."""

    def __init__(self, store: Store, spool: Path) -> None:
        self._store, self._spool = store, str(spool)

    def texts(self, end: End) -> tuple[bytes | None, bytes | None]:
        """What the job wrote to stdout and stderr; None: it is in the spool."""
        if not end.is_success:
            return None, None
        result = self._store.get(end.job_id).result if end.result is None else json.loads(end.result)
        found = [result.get(stream.value) for stream in (Stream.STDOUT, Stream.STDERR)]
        stdout, stderr = (None if text is None else text.encode() for text in found)
        return stdout, stderr

    def size(self, end: End) -> int:
        """How many bytes it wrote to stdout."""
        text = self.texts(end)[0]
        if text is not None:
            return len(text)
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self.path(end, Stream.STDOUT)).st_size
        return 0

    @contextlib.contextmanager
    def opened(self, end: End, stream: Stream) -> Iterator[BinaryIO | None]:
        """The file of a stream in the spool; None: there is none, because nothing was written."""
        try:
            file = open(self.path(end, stream), "rb", buffering=0)  # noqa: SIM115 - closed below
        except FileNotFoundError:
            yield None
            return
        with file:
            yield file

    def path(self, end: End, stream: Stream) -> str:
        return spool_file(self._spool, end.job_id, end.starts, stream)

    def remove(self, end: End) -> None:
        """All of it is printed: remove its files, and those of starts that were retried."""
        for starts in range(1, end.starts + 1):
            for stream in (Stream.STDOUT, Stream.STDERR):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(spool_file(self._spool, end.job_id, starts, stream))


class Printer:
    """Prints outputs in the order of the inputs as they become ready, or each as it comes (`keeps_order=False`)."""

    def __init__(
        self,
        outputs: Outputs,
        printed: Printed,
        stdout: int,
        name_of: Callable[[int], str],
        *,
        keeps_order: bool,
        total: int,
    ) -> None:
        """`name_of`: the input of a job, by its position."""
        self._outputs, self._printed, self._stdout = outputs, printed, stdout
        self._name_of, self._keeps_order, self._total = name_of, keeps_order, total
        self._waiting: list[tuple[int, int]] = []
        self._ends: dict[int, End] = {}
        self._held_bytes = 0
        self._next = 0
        self._poll: select.poll | None = None
        if not stat.S_ISREG(os.fstat(stdout).st_mode):
            self._poll = select.poll()
            self._poll.register(stdout, 0)  # errors are reported without being asked for

    def add(self, position: int, end: End) -> None:
        """A job has ended: print it, and what waits for it, if it is its turn.

        Raises BrokenPipeError: nobody reads stdout any more. OSError: it cannot be written.
        """
        if position in self._printed:
            return
        if not self._keeps_order:
            self._print(position, end)
            return
        size = len(end.result or b"")
        if self._held_bytes + size > _HELD_BYTES:
            end, size = end.without_result(), 0
        self._held_bytes += size
        self._ends[position] = end
        heapq.heappush(self._waiting, (position, size))
        self.print_ready()

    def print_ready(self) -> None:
        """Print what has its turn now. Raises as `add`."""
        while True:
            while self._next < self._total and self._next in self._printed:
                self._next += 1
            if not self._waiting or self._waiting[0][0] != self._next:
                return
            position, size = heapq.heappop(self._waiting)
            self._held_bytes -= size
            self._print(position, self._ends.pop(position))

    def check(self) -> None:
        """Raises BrokenPipeError: nobody reads stdout any more."""
        if self._poll is not None and any(event & select.POLLERR for _, event in self._poll.poll(0)):
            raise BrokenPipeError

    def _print(self, position: int, end: End) -> None:
        done = self._printed.begin(position)
        stdout, stderr = self._outputs.texts(end)
        if stdout is not None:
            self._write_stdout(stdout[done:], done)
        else:
            with self._outputs.opened(end, Stream.STDOUT) as file:
                if file is not None:
                    file.seek(done)
                    while piece := file.read(_PIECE_BYTES):
                        done = self._write_stdout(piece, done)
        if stderr is None:
            with self._outputs.opened(end, Stream.STDERR) as file:
                if file is not None:
                    self._write_stderr(position, _lines_of(file))
        elif stderr:
            self._write_stderr(position, io.BytesIO(stderr))
        self._printed.end(position)
        if stdout is None or stderr is None or end.starts > 1:  # else there are no files
            self._outputs.remove(end)

    def _write_stdout(self, data: bytes, done: int) -> int:
        """Write all of it; gives how many bytes of this output are printed now."""
        left = memoryview(data)
        while left:
            count = os.write(self._stdout, left)
            done += count
            self._printed.wrote(done)
            left = left[count:]
        return done

    def _write_stderr(self, position: int, lines: Iterable[bytes]) -> None:
        name = os.fsencode(self._name_of(position)).replace(b"\n", b" ")
        gathered = bytearray()
        is_start = True
        for piece in lines:
            gathered += name + b": " + piece if is_start else piece
            is_start = piece.endswith(b"\n")
            if len(gathered) > _PIECE_BYTES:
                _write_all(_STDERR, gathered)
                gathered.clear()
        _write_all(_STDERR, gathered if is_start else gathered + b"\n")


def _lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Its lines; longer ones than 64 KiB in pieces, so that memory stays bounded."""
    reader = io.BufferedReader(file)  # type: ignore[type-var]
    while line := reader.readline(1 << 16):
        yield line


def _write_all(descriptor: int, data: bytes | bytearray) -> None:
    left = memoryview(bytes(data))
    while left:
        left = left[os.write(descriptor, left) :]
