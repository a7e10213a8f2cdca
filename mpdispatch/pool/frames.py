"""The messages between supervisor and worker: JSON, one message per frame, never unpickled. Both sides.

Frames of jobs are in `job_frames`. Decoding gives typed data or a `FrameError`, so a handler that writes junk into the
channel only breaks the channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import msgspec

from mpdispatch.execution.app_reference import AppReference
from mpdispatch.handlers.description import AppDescription
from mpdispatch.model import Cancelled, Expired, Raised, RetryAsked, Run, Snoozed, Stream


class FrameError(Exception):
    """Bytes that are no frame of this protocol."""


class Boot(msgspec.Struct, frozen=True, kw_only=True):
    """The first message to a new worker: import this app."""

    app: AppReference
    log_level: int


class Attach(msgspec.Struct, frozen=True, kw_only=True):
    """The second message, once the store is open: where to record starts, and how to behave."""

    journal_path: str
    record: int
    store: str | None
    """The store into which handlers enqueue, if not the app's own."""
    max_payload_bytes: int
    max_result_bytes: int
    kills_children: bool


class HookBoot(msgspec.Struct, frozen=True, kw_only=True):
    """The first message to the hook process: import this app, and enqueue into this store, if not the app's own."""

    app: AppReference
    log_level: int
    store: str | None


class Stop(msgspec.Struct, frozen=True, tag="stop", array_like=True):
    """The last message to a worker: there are no more jobs; end."""


class WorkerReady(msgspec.Struct, frozen=True, kw_only=True, tag="ready", array_like=True):
    """The app is imported."""

    pid: int
    app: AppDescription
    hazards: tuple[str, ...] = ()
    """Reasons not to import the app in a process that will be forked."""


class BootFailed(msgspec.Struct, frozen=True, kw_only=True, tag="boot_failed", array_like=True):
    """The app does not import or names no engine; or, after `WorkerReady`, the start journal cannot be opened."""

    reason: str
    traceback: str


class Done(msgspec.Struct, frozen=True, tag="done", array_like=True, gc=False):
    """The handler returned."""

    id: int
    starts: int
    run: Run
    result: msgspec.Raw


class Ended(msgspec.Struct, frozen=True, tag="ended", array_like=True):
    """The handler ended otherwise, or the job had expired before."""

    id: int
    starts: int
    outcome: Raised | RetryAsked | Snoozed | Cancelled | Expired


class ProgressReport(msgspec.Struct, frozen=True, tag="progress", array_like=True):
    """The handler reported its progress."""

    id: int
    starts: int
    data: msgspec.Raw


class EnqueuedEvents(msgspec.Struct, frozen=True, tag="enqueued", array_like=True):
    """The handler enqueued jobs: events for the supervisor's extensions, and their number."""

    events: msgspec.Raw
    count: int


class Wrote(msgspec.Struct, frozen=True, tag="wrote", array_like=True):
    """Text that the job wrote since the last such message; `written` counts all its characters so far."""

    id: int
    starts: int
    stream: Stream
    text: str
    written: int


class NeedsReplacement(msgspec.Struct, frozen=True, tag="replace", array_like=True):
    """The last job made a change that cannot be undone: replace this worker."""

    reason: str


class Preload(msgspec.Struct, frozen=True, kw_only=True, tag="preload"):
    """To the zygote: import this app, so that workers are forked with it."""

    app: AppReference


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """To the zygote, with the worker's descriptors: fork a worker. `tag` is for its environment."""

    tag: str


class ZygoteReady(msgspec.Struct, frozen=True, tag="zygote"):
    """From the zygote: it is ready to fork."""


class Preloaded(msgspec.Struct, frozen=True, kw_only=True, tag="preloaded"):
    """From the zygote: the app is imported. With `hazards` the zygote must not be forked any more."""

    hazards: tuple[str, ...]


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """From the zygote: the pid of the worker."""

    pid: int


class Spill(msgspec.Struct, frozen=True, tag="spill", array_like=True):
    """Only in the reply ring, the notice of a message that is too long for it and came as a frame of the channel.

    Frames with smaller numbers have no notice, because an interrupt came before it was written. They are dropped.
    """

    number: int


class Discarded(msgspec.Struct, frozen=True, tag="discarded", array_like=True):
    """The worker has discarded this many recalled jobs."""

    count: int


FromWorker: TypeAlias = (
    WorkerReady
    | BootFailed
    | Done
    | Ended
    | ProgressReport
    | Wrote
    | EnqueuedEvents
    | NeedsReplacement
    | Spill
    | Discarded
)

FromZygote: TypeAlias = ZygoteReady | Preloaded | Forked
_Bytes: TypeAlias = bytes | memoryview
_T = TypeVar("_T")

encode = msgspec.json.Encoder().encode
WAKE = b"!"
"""A frame that only wakes the supervisor: there are replies in the ring."""
_SPILL_MARK = b"@"
SPILL = b'["spill",'
"""The beginning of the notice in the ring."""
decode_boot = msgspec.json.Decoder(Boot).decode
decode_attach = msgspec.json.Decoder(Attach).decode
decode_hook_boot = msgspec.json.Decoder(HookBoot).decode
decode_stop = msgspec.json.Decoder(Stop).decode
decode_to_zygote: Callable[[bytes], Preload | Fork] = msgspec.json.Decoder(Preload | Fork).decode


def _checked(decode: Callable[[_Bytes], _T]) -> Callable[[_Bytes], _T]:
    """As `decode`, but raises FrameError for whatever is no such message."""

    def checked(frame: _Bytes) -> _T:
        try:
            return decode(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FrameError(str(error)) from error

    return checked


_from_worker: msgspec.json.Decoder[FromWorker] = msgspec.json.Decoder(FromWorker)
_from_zygote: Callable[[_Bytes], FromZygote] = msgspec.json.Decoder(FromZygote).decode
decode_from_worker = _checked(_from_worker.decode)
decode_lines = _checked(_from_worker.decode_lines)
"""The messages of a reply ring."""
decode_from_zygote = _checked(_from_zygote)
"""An empty frame, which says that it has ended, is no message."""


def spill(number: int, message: bytes) -> bytes:
    """The frame of a message that is too long for the reply ring. A `Spill` in the ring is its notice."""
    return b"%b%d %b" % (_SPILL_MARK, number, message)


def open_spill(frame: bytes) -> tuple[int, FromWorker]:
    """The number of the frame, and its message. Raises FrameError."""
    space = frame.find(b" ", 1, 20)
    if not (number := frame[1 : max(space, 1)]).isdigit():
        raise FrameError("a long message without a number")
    return int(number), decode_from_worker(memoryview(frame)[space + 1 :])  # large, so not copied


def is_spill(frame: bytes) -> bool:
    """Whether this frame is a spill, whose notice is in the reply ring."""
    return frame.startswith(_SPILL_MARK)
