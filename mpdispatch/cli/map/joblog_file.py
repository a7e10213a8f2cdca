"""The joblog that `map` writes, and reads when it is resumed. Effects: a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import ExitStack

from mpdispatch.cli.map.ends import End
from mpdispatch.cli.map.joblog import HEADER, JobLogLine, parse_joblog, signal_number
from mpdispatch.errors import UsageError


class JobLog:
    """A joblog to which lines are added, one per job as it ends."""

    def __init__(self, path: str, line_of: Callable[[int], str], *, is_resumed: bool) -> None:
        """Open it, anew or to go on with it. `line_of`: the command of a job, quoted, by its position.

        Only a file is read, and only a joblog is written to: another file that is not empty is kept as it is.

        Raises UsageError: it cannot be written, or is no joblog.
        """
        self._path, self._line_of = path, line_of
        self._known = set[int]()
        with ExitStack() as undo:
            try:
                # Not to be read: a pipe or a terminal would be waited for.
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
                undo.callback(os.close, self._file)
                found = os.fstat(self._file)
                if stat.S_ISREG(found.st_mode) and found.st_size:
                    self._known = _known(path)
                    if not is_resumed:
                        os.truncate(self._file, 0)
                        self._known.clear()
                if not stat.S_ISREG(found.st_mode) or os.fstat(self._file).st_size == 0:
                    self._write(HEADER)
            except OSError as error:
                raise UsageError(f"--joblog: {path} cannot be written: {error.strerror}") from error
            undo.pop_all()

    def __contains__(self, position: int) -> bool:
        """Whether it has a line of this job."""
        return position + 1 in self._known

    def runs_again(self, position: int) -> None:
        """A further line of this job will follow."""
        self._known.discard(position + 1)

    def add(self, position: int, end: End, received_bytes: int) -> None:
        """A job has ended, and has written so much to stdout. Raises OSError: the line cannot be written."""
        status = end.exit_status
        if status is None:
            status = 0 if end.is_success or end.signal is not None else -1  # as GNU parallel after a timeout
        line = JobLogLine(
            number=position + 1,
            started_s=end.started_s,
            duration_s=end.duration_s,
            received_bytes=received_bytes,
            exit_status=status,
            signal=signal_number(end.signal),
            command=self._line_of(position),
        )
        try:
            self._write(str(line))
        except OSError as error:
            # No BrokenPipeError, which would say that nobody reads stdout.
            raise OSError(f"--joblog: {self._path} cannot be written: {error.strerror}") from error

    def _write(self, text: str) -> None:
        os.write(self._file, os.fsencode(text) + b"\n")

    def close(self) -> None:
        os.close(self._file)


def _known(path: str) -> set[int]:
    """The numbers of the jobs that a joblog has lines of. Raises UsageError: the file is none."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        if lines.readline(len(HEADER) + 1) != f"{HEADER}\n":
            raise UsageError(
                f"--joblog: {path} is not empty and does not begin as a joblog does; name another file, or remove it"
            )
        # Without the end of a line that a kill or a full disk has cut.
        return set(parse_joblog(line for line in lines if line.endswith("\n")))
