"""What a start of a job writes: a command's streams, a handler's log. Values only."""

from __future__ import annotations

from enum import StrEnum

import msgspec

KEPT_BYTES = 64 * 1024
"""This much of each stream of a start is kept, the last of it."""


class Stream(StrEnum):
    """What the text was written to."""

    STDOUT = "stdout"
    STDERR = "stderr"
    LOG = "log"
    """`current_job().log(text)`, a line each."""


class Output(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The end of what one start has written to one stream so far."""

    job_id: int
    starts: int
    stream: Stream
    text: str
    written: int
    """Characters written in total; `text` holds the last of them."""


def tail(text: str) -> str:
    """The last KEPT_BYTES bytes of the text in UTF-8, without half a character at the cut.

    >>> tail("short"), len(tail("x" * 100_000)), tail("é" * 40_000)[0]
    ('short', 65536, 'é')
    """
    if len(text) * 4 <= KEPT_BYTES:
        return text
    data = text.encode("utf-8", "replace")
    return text if len(data) <= KEPT_BYTES else data[-KEPT_BYTES:].decode("utf-8", "ignore")
