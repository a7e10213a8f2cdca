"""Files for the whole output of a command job, in a folder that its enqueuer chose. Runs in the worker, and in readers.

A program writes straight into the files; nobody reads pipes. What a completed job wrote becomes part of its result, if it
is short text; else the files stay, on disk, for whoever made the folder: `map` prints and removes them.
"""

from __future__ import annotations

import contextlib
import os

from mpdispatch.errors import CommandFailedError
from mpdispatch.model import KEPT_BYTES, Stream

INLINE_BYTES = 4096
"""The most bytes of a stream that travel in the result."""
_LINE_BYTES = 1000


def spool_file(folder: str, job_id: int, starts: int, stream: Stream) -> str:
    """The path of what this start wrote to the stream. There may be no such file: then it wrote nothing.

    >>> spool_file("/spool", 7, 1, Stream.STDERR)
    '/spool/7.1.stderr'
    """
    return f"{folder}/{job_id}.{starts}.{stream.value}"


class Spool:
    """The two files of one start, open for its program."""

    def __init__(self, folder: str, job_id: int, starts: int) -> None:
        """Raises CommandFailedError: they cannot be made."""
        self._paths = {s: spool_file(folder, job_id, starts, s) for s in (Stream.STDOUT, Stream.STDERR)}
        self._files: dict[Stream, int] = {}
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            for stream, path in self._paths.items():
                self._files[stream] = os.open(path, flags, 0o600)
        except OSError as error:
            self.close()
            # EX_CANTCREAT: nothing is wrong with the program.
            detail = f"no file for its output: {error.strerror}: {error.filename}"
            raise CommandFailedError("", exit_status=73, detail=detail) from None

    @property
    def stdout(self) -> int:
        return self._files[Stream.STDOUT]

    @property
    def stderr(self) -> int:
        return self._files[Stream.STDERR]

    def take(self) -> dict[str, str | None]:
        """What a completed program wrote, by stream; None: it stays in the file, and is on disk."""
        return {stream.value: self._take(stream, file) for stream, file in self._files.items()}

    def _take(self, stream: Stream, file: int) -> str | None:
        size = os.fstat(file).st_size
        if size <= INLINE_BYTES:
            with contextlib.suppress(UnicodeDecodeError):
                text = os.pread(file, size, 0).decode() if size else ""
                os.unlink(self._paths[stream])
                return text
        os.fsync(file)
        return None

    def keep(self) -> dict[Stream, str]:
        """Leave the files where they are, on disk, and give the last 64 KiB of each. Removes empty ones."""
        tails: dict[Stream, str] = {}
        for stream, file in self._files.items():
            size = os.fstat(file).st_size
            if not size:
                os.unlink(self._paths[stream])
                continue
            os.fsync(file)
            tails[stream] = os.pread(file, KEPT_BYTES, max(0, size - KEPT_BYTES)).decode(errors="replace")
        return tails

    def last_error_line(self) -> str:
        """The last line on stderr that is not blank, of the last 1000 bytes."""
        size = os.fstat(self.stderr).st_size
        return last_line(
            os.pread(self.stderr, _LINE_BYTES, max(0, size - _LINE_BYTES)).decode(errors="replace")
        )

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()


def last_line(text: str) -> str:
    """The last line that is not blank, without space around it.

    >>> last_line("first\\n no such file \\n\\n")
    'no such file'
    """
    return next((line.strip() for line in reversed(text.split("\n")) if line.strip()), "")
