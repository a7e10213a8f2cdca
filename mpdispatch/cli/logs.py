"""Log records as lines on stderr: `12:00:01 info  mpdispatch.supervisor: worker died pid=41 signal=SIGKILL`."""

from __future__ import annotations

import logging
import sys

from mpdispatch.cli.output import escape

__all__ = ["LineFormatter", "log_to_stderr"]

# What every record has; whatever else it carries came by `extra`.
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """One line per record, the facts of `extra` as key=value; it cannot break the line or steer a terminal.

    Only a traceback has lines of its own; they are indented, so none can pass for a record.
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logger = logging.getLogger("mpdispatch")
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    return logger
