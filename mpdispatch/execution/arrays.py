"""NumPy's scalars and arrays as plain data. They are known by their marks: NumPy is never imported here.

Nobody pays for this who has none: an encoder that meets one raises `ArrayMet`, and what it was to write is written once
more inside `arrays_up_to`, which says how much an array may hold. A list made of one is ten times as large as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["ArrayMet", "arrays_up_to", "is_array", "is_plain_array", "plain", "remedy_for"]

_LEAST_BYTES = 2
"""Of JSON for one value of an array: a digit and a comma."""

_REFUSED = {
    "c": "complex numbers cannot be written as JSON; use .real and .imag",
    "O": "an array of objects cannot be written as JSON; use .tolist(), if they are plain data",
    "V": "a structured array cannot be written as JSON; use [dict(zip(a.dtype.names, row)) for row in a.tolist()]",
}
"""By the kind of a dtype."""

_REMEDIES = {
    ("to_dicts",): ".to_dicts()",
    ("to_dict", "columns"): ".to_dict('list')",
    ("to_pydatetime",): ".to_pydatetime()",
    ("to_pytimedelta",): ".to_pytimedelta()",
    ("tolist",): ".tolist()",
    ("to_list",): ".to_list()",
    ("to_dict",): ".to_dict()",
}
"""What others' classes have (polars, pandas, torch and their like), and how to make plain data of them."""


class ArrayMet(TypeError):
    """An encoder met something of NumPy's outside of `arrays_up_to`."""


class _Allowed(threading.local):
    most_bytes: int | None = None


_allowed = _Allowed()


@contextmanager
def arrays_up_to(most_bytes: int) -> Iterator[None]:
    """Inside it arrays are written that can be at most so many bytes of JSON. For this thread."""
    before, _allowed.most_bytes = _allowed.most_bytes, most_bytes
    try:
        yield
    finally:
        _allowed.most_bytes = before


def is_array(kind: type) -> bool:
    """Whether this is a class of NumPy's arrays or scalars."""
    return any(base.__module__ == "numpy" and base.__name__ in ("ndarray", "generic") for base in kind.__mro__)


def is_plain_array(value: Any) -> bool:
    """Whether JSON without a type gives the values of this array back: numbers and text, no times and no bytes."""
    return value.dtype.kind not in "MmS"


def plain(value: Any) -> Any:
    """What an array or scalar holds: a number, text, or (nested) lists of them; times as text of ISO 8601.

    Raises:
        TypeError: JSON has nothing for it, or it is too large; the text says how to convert it.
        ArrayMet: nobody has said how large it may be.
    """
    if _allowed.most_bytes is None:
        raise ArrayMet("an array of NumPy's cannot be written here; use .tolist()")
    kind = value.dtype.kind
    if (reason := _REFUSED.get(kind)) is not None:
        raise TypeError(reason)
    if hasattr(type(value), "filled"):
        raise TypeError("a masked array cannot be written as JSON; use .filled(...) or .compressed()")
    if kind == "f" and value.dtype.itemsize > 8:
        raise TypeError(f"{value.dtype.name} is more exact than JSON's numbers are kept; use .astype(float)")
    if value.size * _LEAST_BYTES > _allowed.most_bytes:
        raise TypeError(
            f"an array of {value.size:,} values is more than {_allowed.most_bytes:,} bytes of JSON, the most that is"
            " kept; keep it in a file (numpy.save) and pass its path"
        )
    if kind == "M":
        return _without_nat(value.astype(str).tolist())
    return _intervals(value) if kind == "m" else value.tolist()


def _intervals(value: Any) -> Any:
    try:
        micros = value.astype("m8[us]")
        is_same = (micros == value) | (micros != micros)  # NaT is not equal to itself
    except TypeError:
        raise TypeError(
            "years and months have no fixed length; use .astype('timedelta64[D]') or a number"
        ) from None
    found = _without_nat(micros.tolist())
    if not is_same.all():
        raise TypeError("nanoseconds cannot be kept; use .astype('timedelta64[us]')")
    return found


def _without_nat(found: Any) -> Any:
    stack = [found]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack += item
        elif item is None or item == "NaT":
            raise TypeError("NaT (no time) cannot be written as JSON; use None for it")
    return found


def remedy_for(kind: type) -> str:
    """How to make plain data of a value of somebody's class, as the end of an error; empty if that is not known."""
    for marks, remedy in _REMEDIES.items():
        if all(hasattr(kind, mark) for mark in marks):
            return f"; use {remedy}"
    return ""
