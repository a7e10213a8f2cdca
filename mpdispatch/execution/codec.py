"""Results of handlers as JSON, and their exceptions as text. Runs in the worker process.

Nothing here is ever unpickled, and `error_info` never fails.
"""

from __future__ import annotations

import os
import traceback
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from mpdispatch.errors import DispatchError, JobInterrupt, ResultError
from mpdispatch.handlers.arrays import ArrayMet, arrays_up_to
from mpdispatch.handlers.safejson import (
    Reader,
    encode_for_people,
    is_shallow,
    lossy,
    may_be_lossy,
    printable,
    unwritable,
)
from mpdispatch.model import ErrorInfo

MAX_TRACEBACK_BYTES = 64 * 1024
MAX_MESSAGE_CHARS = 8 * 1024

_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_OWN_FOLDERS = tuple(
    f"{Path(__file__).parents[1] / room}{os.sep}" for room in ("execution", "handlers", "pool", "testing")
)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The largest payload and result of a worker, in bytes of JSON."""

    max_payload_bytes: int = 1 << 20
    max_result_bytes: int = 1 << 20


def encode_result(value: Any, *, max_bytes: int) -> bytes:
    """The JSON of a handler's result.

    Dataclasses and Structs become objects, dates and the like strings, NumPy scalars and arrays plain numbers and lists.

    Raises ResultError: it is no JSON (NaN, other keys than strings, an unknown type), or too large.
    """
    if value is None:
        return b"null"
    try:
        written = encode_for_people(value)
        faults = lossy(value, "result", Reader.PEOPLE) if _needs_a_look(value, written) else ()
    except ArrayMet:
        with arrays_up_to(max_bytes):
            return encode_result(value, max_bytes=max_bytes)
    except (TypeError, ValueError, RecursionError) as error:
        fault = unwritable(value, "result", error)
        raise ResultError(f"the result cannot be kept: {fault}; return plain data, or None") from error
    if faults:
        raise ResultError("the result cannot be kept: " + "; ".join(map(str, faults)))
    if len(written) > max_bytes:
        raise ResultError(
            f"the result is {len(written):,} bytes of JSON, at most {max_bytes:,} are kept (max_result_bytes)"
        )
    return written


def _needs_a_look(value: Any, written: bytes) -> bool:
    # Only the keys of objects can change: JSON has "1" for the key 1, too.
    if b"{" not in written and not may_be_lossy(written):
        return False
    try:
        # Reading back and comparing in C is five times as fast as a walk through the value.
        return not (is_shallow(written) and msgspec.json.decode(written) == value)
    except Exception:  # noqa: BLE001 - the user's __eq__ may raise anything
        return True


# ---------------------------------------------------------------- exceptions


def error_info(error: BaseException) -> ErrorInfo:
    """The exception as text. Never fails, whatever its own methods do."""
    try:
        return ErrorInfo(
            type=_capped(_type_name(type(error)), 500), message=_message(error), traceback=_traceback(error)
        )
    except Exception as broken:  # noqa: BLE001 - reporting an error must not fail
        name = type.__dict__["__name__"].__get__(type(error))
        return ErrorInfo(type=printable(name), message=f"<no details: {type(broken).__name__}>")


def _type_name(kind: type) -> str:
    name = str(kind.__qualname__)
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"


def _capped(text: str, limit: int) -> str:
    if len(text) > limit:
        text = f"{text[:limit]}… ({len(text) - limit:,} more characters)"
    return printable(text)


def _message(error: BaseException) -> str:
    try:
        return _capped(str(error), MAX_MESSAGE_CHARS)
    except BaseException:  # noqa: BLE001 - str() runs the user's code, which may raise anything
        return "<exception str() failed>"


def _traceback(error: BaseException) -> str:
    try:
        detail = traceback.TracebackException(type(error), error, _from_handler(error), compact=True)
        if isinstance(error, (JobInterrupt, DispatchError)):
            _cut_tail(detail.stack)
        return _head_and_tail(detail.format())
    except BaseException as broken:  # noqa: BLE001 - formatting runs the user's code (str, repr, __notes__)
        return f"<traceback could not be formatted: {type(broken).__name__}>"


def _from_handler(error: BaseException) -> TracebackType | None:
    """The traceback without the executor's own frames above the handler.

    An error that we raise on purpose then has none. Any other error with only our frames is a bug of ours, and keeps
    all of them.
    """
    inner = error.__traceback__
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(_OWN_FOLDERS):
        inner = inner.tb_next
    return inner if inner is not None or isinstance(error, DispatchError) else error.__traceback__


def _cut_tail(stack: traceback.StackSummary) -> None:
    # Interrupts are raised by the worker's signal handler, and our errors inside of our functions. The last line should
    # show where the job was, or its call of us.
    while len(stack) > 1 and (
        _is_package(stack[-1]) or (stack[-1].filename == "<string>" and _is_package(stack[-2]))
    ):
        stack.pop()  # "<string>" is the __init__ of a dataclass


def _is_package(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(_PACKAGE)


def _head_and_tail(chunks: Iterable[str]) -> str:
    """The chunks joined, at most MAX_TRACEBACK_BYTES of UTF-8; the middle is cut out first."""
    half = MAX_TRACEBACK_BYTES // 2 - 100
    head: list[bytes] = []
    tail: deque[bytes] = deque()
    head_bytes = tail_bytes = cut_bytes = 0
    for chunk in chunks:
        line = chunk.encode("utf-8", "backslashreplace")
        if len(line) > half:
            cut_bytes += len(line) - half
            line = line[: half // 2] + "…\n".encode() + line[-half // 2 :]
        if not tail and head_bytes + len(line) <= half:
            head.append(line)
            head_bytes += len(line)
            continue
        tail.append(line)
        tail_bytes += len(line)
        while tail_bytes > half and len(tail) > 1:
            dropped = len(tail.popleft())
            tail_bytes -= dropped
            cut_bytes += dropped
    middle = f"  … {cut_bytes:,} bytes cut …\n".encode() if cut_bytes else b""
    return b"".join([*head, middle, *tail]).decode("utf-8", "replace")
