"""NumPy's scalars and arrays as plain data. They are recognised by their class's names: NumPy is never imported here.

Arguments without arrays cost nothing extra. An encoder that meets an array raises `ArrayMet`; the caller then encodes
again inside `arrays_up_to`, which limits what all arrays together may hold. The list made of an array takes ten times
the memory of the array, so an array that is certainly too large is refused before its list is made.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_LEAST_BYTES = {"b": 4, "f": 3, "U": 2, "S": 2, "T": 2, "M": 6, "m": 5}
"""The shortest JSON of one value, by the kind of its dtype: `true`, `0.0`, `""`, `"2026"`, `"P0D"`; else one digit."""

_OF_ANY_LENGTH = "USTM"
"""Kinds whose values become text. Its length is known only afterwards, so it is made in slices."""

_SLICE_BYTES = 1 << 15

_REFUSED = {
    "c": "complex numbers cannot be written as JSON; use .real and .imag",
    "O": "an array of objects cannot be written as JSON; use .tolist(), if they are plain data",
    "V": "a structured array cannot be written as JSON; use [dict(zip(a.dtype.names, row)) for row in a.tolist()]",
}
"""Kinds of dtype that JSON cannot hold, and what to do about each."""

_REMEDIES = {
    ("to_dicts",): ".to_dicts()",
    ("to_dict", "columns"): ".to_dict('list')",
    ("to_pydatetime",): ".to_pydatetime()",
    ("to_pytimedelta",): ".to_pytimedelta()",
    ("tolist",): ".tolist()",
    ("to_list",): ".to_list()",
    ("to_dict",): ".to_dict()",
}
"""Methods by which values of polars, pandas, torch and the like are recognised, and the call that makes plain data."""


class ArrayMet(TypeError):
    """An encoder met a NumPy value outside of `arrays_up_to`."""


class ArraysTooLarge(TypeError):
    """Each array is small enough, but all of them together are not."""


class _Allowed(threading.local):
    most_bytes: int | None = None
    met_bytes: int = 0
    """At least this much JSON comes of the arrays met in this pass over a value."""


_allowed = _Allowed()


@contextmanager
def arrays_up_to(most_bytes: int) -> Iterator[None]:
    """Inside it, arrays are encoded that together make at most this much JSON. Applies to this thread.

    Arrays are counted as they are met. Before another pass over a value, call `restart_count`.
    """
    before = _allowed.most_bytes, _allowed.met_bytes
    _allowed.most_bytes, _allowed.met_bytes = most_bytes, 0
    try:
        yield
    finally:
        _allowed.most_bytes, _allowed.met_bytes = before


def restart_count() -> None:
    """Begin another pass over a value, or over a part of it."""
    _allowed.met_bytes = 0


def is_array(kind: type) -> bool:
    """Whether this is a NumPy class of arrays or scalars."""
    return any(base.__module__ == "numpy" and base.__name__ in ("ndarray", "generic") for base in kind.__mro__)


def is_plain_array(value: Any) -> bool:
    """Whether this is an array whose values untyped JSON gives back: numbers and text, not times and bytes."""
    return is_array(type(value)) and value.dtype.kind not in "MmS"


def plain(value: Any) -> Any:
    """What an array or scalar holds: a number, text, or (nested) lists of them; times as text of ISO 8601.

    Raises:
        TypeError: JSON has nothing for it, or it is too large; the text says how to convert it.
        ArrayMet: the call is outside of `arrays_up_to`, so no limit is known.
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
    taken = _take(value, _least_bytes(value))
    if kind == "m":
        return _intervals(value)
    if kind not in _OF_ANY_LENGTH:
        return value.tolist()
    if kind == "M":
        return _without_nat(_texts(value, lambda some: some.astype(str).tolist(), taken))
    return _texts(value, lambda some: some.tolist(), taken)


def _take(value: Any, count: int, taken: int = 0) -> int:
    """Add `count` bytes to the `taken` bytes of this array, and give their sum.

    Raises TypeError if this array alone is too large; ArraysTooLarge if all of them are.
    """
    most = _allowed.most_bytes
    assert most is not None  # `plain` has asked
    taken += count
    _allowed.met_bytes = met = _allowed.met_bytes + count
    if taken > most:
        what = f"of {value.size:,} values" if value.size else f"of shape {value.shape}"
        raise TypeError(
            f"an array {what} is more than {most:,} bytes of JSON, the most that is kept; keep it in a file"
            " (numpy.save) and pass its path"
        )
    if met > most:
        raise ArraysTooLarge(
            f"its arrays together are more than {most:,} bytes of JSON, the most that is kept; keep them in files"
            " (numpy.save) and pass their paths"
        )
    return taken


def _least_bytes(value: Any) -> int:
    """The least JSON that it can make: its brackets and commas, and the shortest form of each value."""
    found, lists = 0, 1
    for length in value.shape:
        found += lists * (2 + max(length - 1, 0))
        lists *= length
    return found + lists * _LEAST_BYTES.get(value.dtype.kind, 1)


def _texts(value: Any, converted: Callable[[Any], Any], taken: int) -> Any:
    """The array as `converted` makes it, slice by slice: a broadcast array may have far more values than memory."""
    shape, size = value.shape, value.size
    if shape == ():
        found = converted(value)
        _take(value, _length(found), taken)
        return found
    if not size:
        return value.tolist()
    # As NumPy's own class, because rows of a matrix are matrices again.
    own = value.view(next(base for base in type(value).__mro__ if base.__name__ == "ndarray"))
    # The length of StringDType values is not known before.
    step = 1 if value.dtype.kind == "T" else max(1, _SLICE_BYTES // max(1, value.dtype.itemsize))
    texts: list[Any] = []
    # Row by row, not by `flat`: slices of a StringDType's `flat` are broken (NumPy 2.4).
    for index in itertools.product(*map(range, shape[:-1])):
        row = own[index]
        for start in range(0, shape[-1], step):
            some = converted(row[start : start + step])
            taken = _take(value, sum(map(_length, some)), taken)
            texts += some
    for length in reversed(shape[1:]):
        texts = [texts[start : start + length] for start in range(0, len(texts), length)]
    return texts


def _length(text: Any) -> int:
    return len(text) if isinstance(text, (str, bytes)) else 0  # a StringDType may have None among its values


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
    """The end of an error: how to make plain data of a value of this class; empty if that is unknown."""
    for marks, remedy in _REMEDIES.items():
        if all(hasattr(kind, mark) for mark in marks):
            return f"; use {remedy}"
    return ""
