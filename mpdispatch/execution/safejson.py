"""JSON that gives back what went in, or says what would not. Pure: no I/O, no clock.

msgspec is fast and lenient: it writes NaN as `null` and the key `1` as `"1"`. So every value is written
first, and only what could have been changed on the way is looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum, auto
from pathlib import PurePath
from typing import Any

import msgspec

from mpdispatch.errors import Fault

__all__ = [
    "HOOKED_TYPES",
    "MAX_DEPTH",
    "Reader",
    "dec_hook",
    "enc_hook",
    "encode",
    "fault_of_encoding",
    "is_shallow",
    "lossy",
    "lost_keys",
    "may_be_lossy",
    "printable",
]

MAX_DEPTH = 200
"""How deeply lists and objects may be nested. Readers with a recursion limit fail at about 1000."""

HOOKED_TYPES: tuple[type, ...] = (PurePath,)
"""Types msgspec does not know itself but the hooks below do, with their subclasses."""

_MAX_FAULTS = 10
_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels, or contains itself"


class Reader(Enum):
    """Who reads the JSON, and so what must survive it."""

    TYPED = auto()
    """A decoder with a type: it turns `"1"` into the key 1 again, and a string into a date."""
    UNTYPED = auto()
    """A decoder without one that must give the very same value."""
    PEOPLE = auto()
    """Somebody who looks at it: a dataclass may become an object, but no two keys may become one."""


def enc_hook(value: Any) -> Any:
    """How msgspec writes what it does not know itself: paths as strings."""
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"a {type(value).__qualname__} cannot be written as JSON")


def dec_hook(wanted: type, value: Any) -> Any:
    """How msgspec builds what it does not know itself: paths from strings."""
    if isinstance(value, str) and issubclass(wanted, PurePath):
        return wanted(value)
    raise TypeError(f"expected {wanted.__qualname__}, got {type(value).__name__}")


encode = msgspec.json.Encoder(enc_hook=enc_hook).encode
"""The value as JSON. May raise TypeError, ValueError (UnicodeEncodeError included) or RecursionError."""


def may_be_lossy(written: bytes) -> bool:
    """Whether this JSON can hide a NaN or be nested too deeply; False is certain, True is not.

    >>> may_be_lossy(b'{"path":"a.pdf"}'), may_be_lossy(b'{"ratio":null}')
    (False, True)
    """
    return b"null" in written or not is_shallow(written)


def is_shallow(written: bytes) -> bool:
    """Whether this JSON is surely not nested too deeply: counting brackets is fast, and bounds the depth."""
    return written.count(b"[") + written.count(b"{") <= MAX_DEPTH


def fault_of_encoding(error: BaseException) -> str:
    """What an exception of `encode` means to the caller."""
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    if isinstance(error, UnicodeEncodeError):
        return "holds half a surrogate pair (text that is no valid Unicode)"
    return str(error) or type(error).__name__


def lossy(value: Any, path: str, reader: Reader) -> list[Fault]:
    """What JSON would not keep of a value that `encode` accepted, each by its path; at most about ten.

    >>> [str(fault) for fault in lossy({"a": [1.0, float("inf")]}, "x", Reader.UNTYPED)]
    ['x.a[1]: inf cannot be written as JSON']
    """
    found: list[Fault] = []
    # to_builtins unfolds dataclasses, Structs and the like, and leaves NaN and keys as they are.
    tree = value if reader is Reader.UNTYPED else msgspec.to_builtins(value, enc_hook=enc_hook)
    stack: list[tuple[Any, str, int]] = [(tree, path, 1)]
    while stack and len(found) < _MAX_FAULTS:
        item, where, depth = stack.pop()
        if isinstance(item, (dict, list, tuple)):
            if depth > MAX_DEPTH:
                found.append(Fault(path, _TOO_DEEP))
                break
            if isinstance(item, dict) and reader is not Reader.TYPED:
                found.extend(_changed_keys(item, where))
            stack.extend((child, name, depth + 1) for child, name in _children(item, where))
        elif isinstance(item, float):
            if not math.isfinite(item):
                found.append(Fault(where, f"{item} cannot be written as JSON"))
        elif not isinstance(item, (str, int, type(None))):
            # Only an untyped reader comes here: to_builtins leaves nothing else.
            found.append(
                Fault(where, f"a {type(item).__qualname__} is only rebuilt for an annotated parameter")
            )
    return found


def lost_keys(value: Any, came_back: Any, path: str) -> list[Fault]:
    """The objects in a value whose keys have changed when it came back, each by its path."""
    found: list[Fault] = []
    before, after = (msgspec.to_builtins(each, enc_hook=enc_hook) for each in (value, came_back))
    stack: list[tuple[Any, Any, str]] = [(before, after, path)]
    while stack and len(found) < _MAX_FAULTS:
        old, new, where = stack.pop()
        if isinstance(old, dict) and isinstance(new, dict):
            found += [] if old.keys() <= new.keys() else _changed_keys(old, where)
            stack.extend((old[key], new[key], f"{where}.{key}") for key in old.keys() & new.keys())
        elif isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
            pairs = enumerate(zip(old, new, strict=False))
            stack.extend((*pair, f"{where}[{index}]") for index, pair in pairs)
    return found


def _children(item: Any, where: str) -> Iterator[tuple[Any, str]]:
    if isinstance(item, dict):
        for key, child in item.items():
            yield child, f"{where}.{key}" if isinstance(key, str) else f"{where}[{key!r}]"
    else:
        for index, child in enumerate(item):
            yield child, f"{where}[{index}]"


def _changed_keys(item: dict[Any, Any], where: str) -> Iterator[Fault]:
    for key in item:
        if not isinstance(key, str):
            yield Fault(where, f"the key {key!r} would become a string; use strings as keys")


def printable(text: str) -> str:
    """The text with lone surrogates escaped, so that it can be kept as UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
