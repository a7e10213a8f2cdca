"""What travels between the pool and a dask worker, beside the frames of `pool.frames`. Both sides."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from mpdispatch.pool.frames import FromWorker, encode


class Began(msgspec.Struct, frozen=True, tag="began", array_like=True):
    """The job begins now."""

    id: int
    starts: int


FromCluster: TypeAlias = FromWorker | Began

NOT_BEGUN = b""
"""The answer of a task that did not begin its job: another process got it, another job runs there, or it was revoked."""


class Booted(msgspec.Struct, frozen=True):
    """The answer of the task that imports the app."""

    process: str
    """Names this very process of the cluster; random."""
    frame: msgspec.Raw
    """`WorkerReady` or `BootFailed`."""


_lines: msgspec.json.Decoder[FromCluster] = msgspec.json.Decoder(FromCluster)
_booted = msgspec.json.Decoder(Booted)


def decode_lines(lines: bytes) -> list[FromCluster]:
    """The messages in these lines. Raises msgspec.DecodeError, UnicodeDecodeError, RecursionError: they are none."""
    return _lines.decode_lines(lines)


def decode_booted(answer: bytes) -> tuple[str, FromCluster]:
    """The process, and what it says of the app. Raises as `decode_lines`."""
    booted = _booted.decode(answer)
    return booted.process, _lines.decode(booted.frame)


def encode_booted(process: str, frame: bytes) -> bytes:
    return encode(Booted(process, msgspec.Raw(frame)))
