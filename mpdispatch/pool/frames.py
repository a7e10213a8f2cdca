"""What travels between supervisor and worker: JSON, one message a frame, never unpickled. Both sides.

Jobs have frames of their own: see `jobframes`.
A decoded frame is typed data or a `FrameError`; a handler that writes junk into the channel ends as a broken channel.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from mpdispatch.execution.appref import AppReference
from mpdispatch.execution.describe import AppDescription
from mpdispatch.model import Cancelled, Raised, RetryAsked, Run, Snoozed, Stream

__all__ = [
    "BELL",
    "PARCEL",
    "Attach",
    "Boot",
    "BootFailed",
    "Done",
    "Dropped",
    "Ended",
    "FrameError",
    "FromWorker",
    "Noted",
    "Parcel",
    "Reported",
    "Stop",
    "Tired",
    "Up",
    "Wrote",
    "decode_from_worker",
    "decode_lines",
    "decode_stop",
    "encode",
    "is_parcel",
    "open_parcel",
    "parcel",
]


class FrameError(Exception):
    """Bytes that are no frame of this protocol."""


class Boot(msgspec.Struct, frozen=True, kw_only=True, tag="boot"):
    """First to a new worker: import this."""

    app: AppReference
    log_level: int


class Attach(msgspec.Struct, frozen=True, kw_only=True, tag="attach"):
    """Second, once the store is open: where to leave marks, and how to behave."""

    marks_path: str
    ring: int
    store: str | None
    """The store handlers enqueue into, if it is another than the app's own."""
    max_payload_bytes: int
    max_result_bytes: int
    kills_children: bool


class Stop(msgspec.Struct, frozen=True, tag="stop", array_like=True):
    """No more jobs: end."""


class Up(msgspec.Struct, frozen=True, kw_only=True, tag="up", array_like=True):
    """The app is imported."""

    pid: int
    app: AppDescription
    hazards: tuple[str, ...] = ()
    """What speaks against importing the app in a process that is to be forked."""


class BootFailed(msgspec.Struct, frozen=True, kw_only=True, tag="boot_failed", array_like=True):
    """The app does not import, or names no engine; or, after `Up`, the start marks cannot be opened."""

    reason: str
    traceback: str


class Done(msgspec.Struct, frozen=True, tag="done", array_like=True, gc=False):
    """The handler returned."""

    id: int
    starts: int
    run: Run
    result: msgspec.Raw


class Ended(msgspec.Struct, frozen=True, tag="ended", array_like=True):
    """The handler ended otherwise."""

    id: int
    starts: int
    outcome: Raised | RetryAsked | Snoozed | Cancelled


class Reported(msgspec.Struct, frozen=True, tag="reported", array_like=True):
    """The handler says how far it is."""

    id: int
    starts: int
    data: msgspec.Raw


class Noted(msgspec.Struct, frozen=True, tag="noted", array_like=True):
    """The handler enqueued something: events for the supervisor's extensions, and how many."""

    events: msgspec.Raw
    count: int


class Wrote(msgspec.Struct, frozen=True, tag="wrote", array_like=True):
    """What the job wrote since the last of these; with it, `written` characters in all."""

    id: int
    starts: int
    stream: Stream
    text: str
    written: int


class Tired(msgspec.Struct, frozen=True, tag="tired", array_like=True):
    """The last job left something behind that cannot be undone: replace this worker."""

    reason: str


class Preload(msgspec.Struct, frozen=True, kw_only=True, tag="preload"):
    """To the zygote: import this, so that workers are forked with it."""

    app: AppReference


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """To the zygote, with the worker's two descriptors: fork one. `mark` is for its environment."""

    mark: str


class Hatched(msgspec.Struct, frozen=True, tag="hatched"):
    """From the zygote: it can fork."""


class Preloaded(msgspec.Struct, frozen=True, kw_only=True, tag="preloaded"):
    """From the zygote: the app is imported. With `hazards` it must not be forked any more."""

    hazards: tuple[str, ...]


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """From the zygote: the pid of the worker."""

    pid: int


class Parcel(msgspec.Struct, frozen=True, tag="parcel", array_like=True):
    """Only in the outbox: here belongs the message that came as a frame of the channel, for it is too long.

    Frames before the one of this number belong nowhere: an interrupt struck before that was said.
    """

    number: int


class Dropped(msgspec.Struct, frozen=True, tag="dropped", array_like=True):
    """The worker has let go of so many jobs that were taken back from it."""

    count: int


FromWorker: TypeAlias = Up | BootFailed | Done | Ended | Reported | Wrote | Noted | Tired | Parcel | Dropped

encode = msgspec.json.Encoder().encode
BELL = b"!"
"""A frame that says: look into the outbox."""
_PARCEL_MARK = b"@"
PARCEL = b'["parcel",'
"""What such a message begins with."""
_from_worker = msgspec.json.Decoder(FromWorker)
_stop = msgspec.json.Decoder(Stop)
_from_zygote = msgspec.json.Decoder(Hatched | Preloaded | Forked)
_to_zygote = msgspec.json.Decoder(Preload | Fork)
_preamble = msgspec.json.Decoder(Boot | Attach)


def decode_from_worker(frame: bytes | memoryview) -> FromWorker:
    try:
        message: FromWorker = _from_worker.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(str(error)) from error
    return message


def decode_lines(lines: bytes) -> list[FromWorker]:
    """The messages of an outbox. Raises FrameError: at least one is none."""
    try:
        messages: list[FromWorker] = _from_worker.decode_lines(lines)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(str(error)) from error
    return messages


def decode_stop(frame: bytes) -> Stop:
    message: Stop = _stop.decode(frame)
    return message


def decode_preamble(frame: bytes) -> Boot | Attach:
    message: Boot | Attach = _preamble.decode(frame)
    return message


def decode_to_zygote(frame: bytes) -> Preload | Fork:
    message: Preload | Fork = _to_zygote.decode(frame)
    return message


def decode_from_zygote(frame: bytes) -> Hatched | Preloaded | Forked:
    """Raises FrameError: it has ended (an empty frame), or is no zygote of ours any more."""
    try:
        message: Hatched | Preloaded | Forked = _from_zygote.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(str(error)) from error
    return message


def parcel(number: int, message: bytes) -> bytes:
    """The frame of a message too long for the outbox, where a `Parcel` stands for it."""
    return b"%b%d %b" % (_PARCEL_MARK, number, message)


def open_parcel(frame: bytes) -> tuple[int, FromWorker]:
    """Its number, and the message. Raises FrameError."""
    space = frame.find(b" ", 1, 20)
    if not (number := frame[1 : max(space, 1)]).isdigit():
        raise FrameError("a long message without a number")
    return int(number), decode_from_worker(memoryview(frame)[space + 1 :])  # large: not copied


def is_parcel(frame: bytes) -> bool:
    """Whether the rest of this frame is a message whose turn the outbox says."""
    return frame.startswith(_PARCEL_MARK)
