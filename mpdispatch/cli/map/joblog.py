"""Lines of a joblog in the format of GNU parallel: one per job that has ended. Pure: no I/O, no clock.

Seq  Host  Starttime  JobRuntime  Send  Receive  Exitval  Signal  Command
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import NamedTuple

from mpdispatch.errors import UsageError
from mpdispatch.policy.names import shown

HEADER = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"
_FIELDS = HEADER.count("\t") + 1


class JobLogLine(NamedTuple):
    """How one job ended, in its last start."""

    number: int
    """Which input, from 1."""
    started_s: float
    """Seconds since the epoch."""
    duration_s: float
    received_bytes: int
    """How much it wrote to stdout."""
    exit_status: int
    signal: int
    """The signal that ended it; 0: none did."""
    command: str
    """Quoted for a shell."""
    host: str = ":"

    def __str__(self) -> str:
        r"""The line, without its newline.

        >>> str(JobLogLine(1, 1700000000.25, 0.0036, 2, 0, 0, "echo a")).split("\t")
        ['1', ':', '1700000000.250', '     0.004', '0', '2', '0', '0', 'echo a']
        """
        return "\t".join(
            (
                str(self.number),
                self.host,
                f"{self.started_s:.3f}",
                f"{self.duration_s:10.3f}",
                "0",
                str(self.received_bytes),
                str(self.exit_status),
                str(self.signal),
                self.command.replace("\n", " "),  # as GNU parallel: a line per job
            )
        )

    @property
    def is_success(self) -> bool:
        return self.exit_status == 0 and self.signal == 0


def parse_line(text: str) -> JobLogLine:
    """The line that this is. Raises UsageError: it is none."""
    fields = text.split("\t", _FIELDS - 1)
    try:
        number, host, started, duration, _, received, status, ended_by, command = fields
        return JobLogLine(
            int(number),
            float(started),
            float(duration),
            int(received),
            int(status),
            int(ended_by),
            command,
            host,
        )
    except ValueError:
        raise UsageError(f"joblog: this is no line of one: {shown(text[:100])}") from None


def parse_joblog(lines: Iterable[str]) -> dict[int, JobLogLine]:
    """By number: the last line of each job.

    Raises UsageError: a line is none of a joblog.
    """
    found: dict[int, JobLogLine] = {}
    for text in lines:
        text = text.rstrip("\n")
        if text and text != HEADER:
            line = parse_line(text)
            found[line.number] = line
    return found


def signal_number(name: str | None) -> int:
    """The number of a signal by its name; 0 for None, or for a name that this system does not have.

    >>> signal_number("SIGKILL"), signal_number(None)
    (9, 0)
    """
    if name is None:
        return 0
    found = getattr(signal, name, None)
    return int(found) if isinstance(found, signal.Signals) else 0
