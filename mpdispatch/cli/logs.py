"""Log records as lines on stderr: `12:00:01 info  mpdispatch.supervisor: worker died pid=41 signal=SIGKILL`."""

from __future__ import annotations

import logging
import os
import select
import sys

from mpdispatch.cli.output import escape

# A pipe that is ready takes this many bytes at once without blocking (POSIX: PIPE_BUF, 4096 on Linux, at least 512).
_CHUNK_BYTES = select.PIPE_BUF

# The attributes of every record. All others came by `extra`.
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """One line per record, with the facts of `extra` as key=value. No text can break the line or control a terminal.

    Only a traceback has lines of its own. They are indented, so that none looks like a record.
    """

    default_time_format = "%H:%M:%S"
    default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        line = f"{self.formatTime(record)} {record.levelname.lower():<7} {record.name}: {record.getMessage()}"
        for key, value in vars(record).items():
            if key not in _OWN_FIELDS:
                line += f" {key}={_fact(value)}"
        line = escape(line)
        if record.exc_info:
            line += "".join(
                f"\n    {escape(text)}" for text in self.formatException(record.exc_info).splitlines()
            )
        return line


class PatientHandler(logging.Handler):
    """Writes to a descriptor if its reader keeps up. Otherwise it drops lines and counts them.

    A supervisor that waited for a hung reader of its log (a stopped pager, a full pipe) would renew no lease and end
    no job.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks. If the reader has gone, it does nothing."""
        lost, text = "", self.format(record) + "\n"
        if self._dropped:
            lost = f"({self._dropped} lines of the log were dropped: its reader did not keep up)\n"
        try:
            is_whole = self._wrote((lost + text).encode(errors="backslashreplace"))
        except OSError:
            return
        self._dropped = 0 if is_whole else self._dropped + 1

    def _wrote(self, left: bytes) -> bool:
        while left:
            if not any(event & select.POLLOUT for _, event in self._poll.poll(0)):
                return False
            left = left[os.write(self._descriptor, left[:_CHUNK_BYTES]) :]
        return True


def _fact(value: object) -> str:
    """
    >>> _fact(3), _fact("a b"), _fact("ab")
    ('3', '"a b"', 'ab')
    """
    text = str(value)
    if text and not any(c.isspace() or c in '"=' for c in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def log_to_stderr(*, verbose: bool) -> logging.Logger:
    """Send the log of mpdispatch (and warnings of everything else) to stderr; gives mpdispatch's logger."""
    handler: logging.Handler
    try:
        handler = PatientHandler(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        handler = logging.StreamHandler(sys.stderr)  # replaced by an object that is no file (in a test)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logger = logging.getLogger("mpdispatch")
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    return logger
