"""JSON that gives back the value that went in, or names what would be lost. Pure: no I/O, no clock.

msgspec is fast and lenient: it writes NaN as `null` and the key `1` as `"1"`. So every value is written first, and
then only values that could have changed are examined.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, auto
from pathlib import PurePath
from typing import Any

import msgspec

from mpdispatch.errors import Fault, PayloadError
from mpdispatch.handlers.arrays import (
    ArraysTooLarge,
    is_array,
    is_plain_array,
    plain,
    remedy_for,
    restart_count,
)
from mpdispatch.policy.names import cut, shown

MAX_DEPTH = 200
"""How deeply lists and objects may be nested. Readers with a recursion limit fail at about 1000."""

HOOKED_TYPES: tuple[type, ...] = (PurePath,)
"""Types that the hooks below add to those that msgspec knows, with their subclasses."""

_MAX_FAULTS = 10
_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels, or contains itself"


class Reader(Enum):
    """The reader of the JSON, which decides what must survive."""

    TYPED = auto()
    """A decoder that knows the type: it turns `"1"` into the key 1 again, and a string into a date."""
    UNTYPED = auto()
    """A decoder that knows no type and must give the very same value."""
    PEOPLE = auto()
    """A person: a dataclass may become an object, but two keys may not become one."""


def is_model(kind: object) -> bool:
    """Whether this is a model of pydantic 2 or later. Recognised by its attributes: pydantic is not imported."""
    return isinstance(kind, type) and hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_dump")


def enc_hook(value: Any) -> Any:
    """How msgspec writes types that it does not know: paths as strings, pydantic models in the form that they read,
    NumPy arrays as lists (inside `arrays_up_to`, else ArrayMet is raised).
    """
    if isinstance(value, PurePath):
        return str(value)
    if is_model(type(value)):
        return value.model_dump(mode="json", by_alias=True, round_trip=True)
    kind = type(value)
    if is_array(kind):
        return plain(value)
    known = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    raise TypeError(f"a value of type {known} cannot be written as JSON{remedy_for(kind)}")


def _enc_hook_for_people(value: Any) -> Any:
    if is_model(type(value)):
        return value.model_dump(mode="json", by_alias=True)  # computed fields too
    return enc_hook(value)


def dec_hook(wanted: type, value: Any) -> Any:
    """How msgspec builds types that it does not know: paths from strings, pydantic models from objects."""
    if is_model(wanted):
        return _model(wanted, value)
    if isinstance(value, str) and issubclass(wanted, PurePath):
        return wanted(value)
    raise TypeError(f"expected {wanted.__qualname__}, got {type(value).__name__}")


def _model(wanted: Any, value: Any) -> Any:
    try:
        # As JSON, because a strict model accepts a date as text only in JSON.
        return wanted.model_validate_json(msgspec.json.encode(value))
    except ValueError as error:
        if not callable(details := getattr(error, "errors", None)):
            raise
        places = ((".".join(map(str, each["loc"])), each["msg"]) for each in details(include_url=False))
        raise ValueError("; ".join(f"{place}: {text}" if place else text for place, text in places)) from None


encode = msgspec.json.Encoder(enc_hook=enc_hook).encode
"""The value as JSON. May raise TypeError, ValueError (UnicodeEncodeError included) or RecursionError."""


encode_for_people = msgspec.json.Encoder(enc_hook=_enc_hook_for_people).encode
"""As `encode`, for results, of which no value is built again."""


def may_be_lossy(written: bytes) -> bool:
    """Whether this JSON may hide a NaN or be nested too deeply. False is certain, True is not.

    >>> may_be_lossy(b'{"path":"a.pdf"}'), may_be_lossy(b'{"ratio":null}')
    (False, True)
    """
    return b"null" in written or not is_shallow(written)


def is_shallow(written: bytes) -> bool:
    """True if this JSON is certainly not nested too deeply: the number of brackets bounds the depth, and is fast."""
    return written.count(b"[") + written.count(b"{") <= MAX_DEPTH


def fault_of_encoding(error: BaseException) -> str:
    """What an exception of `encode` means to the caller."""
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    if isinstance(error, UnicodeEncodeError):
        return "holds half a surrogate pair (text that is no valid Unicode)"
    return str(error) or type(error).__name__


def unwritable(value: Any, path: str, error: BaseException) -> Fault:
    """The innermost part of a value that `encode` refused with this error, by its path, and why."""
    while not isinstance(error, (RecursionError, ArraysTooLarge)):
        for child, where in _parts(value, path):
            restart_count()
            try:
                encode(child)
            except Exception as inner:  # noqa: BLE001 - properties of the user's objects run here
                value, path, error = child, where, inner
                break
        else:
            break
    if isinstance(value, dict) and type(error) is TypeError:
        return Fault(path, "its keys cannot all be written as JSON; use strings as keys")
    return Fault(path, fault_of_encoding(error))


def _parts(item: Any, where: str) -> Iterator[tuple[Any, str]]:
    if isinstance(item, (dict, list, tuple)):
        yield from _children(item, where)
    elif isinstance(item, (set, frozenset)):
        yield from ((child, f"{where}[…]") for child in item)
    else:
        names: Iterable[str] = getattr(item, "__struct_fields__", getattr(item, "__dataclass_fields__", ()))
        yield from ((getattr(item, name), f"{where}.{name}") for name in names if hasattr(item, name))


def lossy(value: Any, path: str, reader: Reader) -> list[Fault]:
    """The parts of a value that JSON would not keep though `encode` accepted them, each by its path; about ten at most.

    >>> [str(fault) for fault in lossy({"a": [1.0, float("inf")]}, "x", Reader.UNTYPED)]
    ['x.a[1]: inf cannot be written as JSON; use None or text for it']
    """
    found: list[Fault] = []
    restart_count()
    # to_builtins unfolds dataclasses, Structs and the like, and leaves NaN and keys as they are.
    tree = value if reader is Reader.UNTYPED else msgspec.to_builtins(value, enc_hook=enc_hook)
    stack: list[tuple[Any, str, int]] = [(tree, path, 1)]
    while stack and len(found) < _MAX_FAULTS:
        item, where, depth = stack.pop()
        if isinstance(item, (dict, list, tuple)):
            if depth > MAX_DEPTH:
                found.append(Fault(path, _TOO_DEEP))
                break
            if reader is not Reader.TYPED:
                found += _keys_made_strings(item, where)
            stack.extend((child, name, depth + 1) for child, name in _children(item, where))
        elif isinstance(item, float):
            if not math.isfinite(item):
                found.append(Fault(where, f"{item} cannot be written as JSON; use None or text for it"))
        elif not isinstance(item, (str, int, type(None))):
            # Reached with an untyped reader only: for the others to_builtins has left plain values.
            if is_plain_array(item):
                stack.append((plain(item), where, depth))
            else:
                found.append(_unreadable(item, where))
    return found


def _keys_made_strings(item: Any, where: str) -> list[Fault]:
    if not isinstance(item, dict):
        return []
    text = "the key {} would become a string; use strings as keys"
    return [Fault(where, text.format(shown(key))) for key in item if not isinstance(key, str)]


def _unreadable(item: Any, where: str) -> Fault:
    try:
        encode(item)
    except Exception as error:  # noqa: BLE001 - properties of the user's objects run here
        return unwritable(item, where, error)
    return Fault(where, f"a value of type {type(item).__qualname__} is only rebuilt for an annotated parameter")


def _children(item: Any, where: str) -> Iterator[tuple[Any, str]]:
    if isinstance(item, dict):
        for key, child in item.items():
            yield child, f"{where}.{cut(key)}" if isinstance(key, str) else f"{where}[{shown(key)}]"
    else:
        for index, child in enumerate(item):
            yield child, f"{where}[{index}]"


def printable(text: str) -> str:
    """The text with lone surrogates escaped, so that it can be kept as UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def payload_as_given(name: str, arguments: Mapping[str, Any], max_bytes: int) -> bytes:
    """The JSON of arguments that no handler checks here. Raises PayloadError."""
    try:
        payload = encode(arguments)
        faults = [fault for key, value in arguments.items() for fault in lossy(value, key, Reader.UNTYPED)]
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(name, [Fault("", f"its arguments: {fault_of_encoding(error)}")]) from error
    if len(payload) > max_bytes:
        allowed = f"at most {max_bytes:,} are allowed (max_payload_bytes)"
        faults.append(Fault("", f"its arguments are {len(payload):,} bytes of JSON, {allowed}"))
    if faults:
        raise PayloadError(name, faults)
    return payload
