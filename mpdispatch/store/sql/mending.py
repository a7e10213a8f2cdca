"""Describes invalid values of columns, and replaces them by values that can be shown. Pure: no I/O, no clock.

Every table is STRICT, so a value has its column's type. But text need not be UTF-8, and a number may be anything: an
edit by hand or another program can make a row unreadable. Other rows must not be affected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from mpdispatch.clock import EARLIEST_US, LATEST_US

_LEAST_INTEGER, _MOST_INTEGER = -(1 << 63), (1 << 63) - 1
_SHOWN = 40


class Column(NamedTuple):
    """A column and its allowed values. Any may be NULL if the schema allows it."""

    name: str
    kind: Literal["integer", "real", "time", "duration", "text", "json"]
    least: int = _LEAST_INTEGER
    most: int = _MOST_INTEGER
    field: str = ""
    """The field that shows it, in a value for people; empty: it has the column's name, without the unit of a time."""


def lenient(data: bytes) -> str | bytes:
    """A `text_factory` that leaves non-UTF-8 text as bytes, to distinguish it from valid text."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def has_bad_text(row: Sequence[Any]) -> bool:
    """Whether any text of a row read with `lenient` is not UTF-8. For rows without columns that may hold a BLOB."""
    return bytes in map(type, row)


def fault_of(column: Column, value: Any) -> str | None:
    """The fault of this value; None if it is valid.

    >>> fault_of(Column("name", "text"), b"\\xff")
    "column name holds bytes that are no UTF-8 text (b'\\\\xff')"
    >>> fault_of(Column("max_retries", "integer", least=0), -1)
    'column max_retries holds -1, which is out of its range'
    """
    if column.kind == "json" or value is None:
        return None
    if column.kind == "text":
        bad = isinstance(value, bytes)
        return f"column {column.name} holds bytes that are no UTF-8 text ({value[:_SHOWN]!r})" if bad else None
    if column.kind == "time" and not EARLIEST_US <= value <= LATEST_US:
        return f"column {column.name} holds {value}, which is no time (µs since 1970)"
    if not column.least <= value <= column.most:
        return f"column {column.name} holds {value}, which is out of its range"
    return None


def faults_of(columns: Sequence[Column], row: Sequence[Any]) -> list[str]:
    """All faults of a row of these columns."""
    found = (fault_of(column, value) for column, value in zip(columns, row, strict=False))
    return [fault for fault in found if fault is not None]


def _mended(column: Column, value: Any) -> Any:
    if fault_of(column, value) is None:
        return value
    if column.kind == "text":
        return texts(value)
    least, most = (EARLIEST_US, LATEST_US) if column.kind == "time" else (column.least, column.most)
    return min(max(value, least), most)


def mended(columns: Sequence[Column], row: Sequence[Any]) -> list[Any]:
    """The row with invalid values replaced by the nearest allowed one; extra values unchanged.

    >>> mended((Column("name", "text"), Column("pid", "integer", least=0)), (b"a\\xff", -7))
    ['a�', 0]
    """
    shown = [_mended(column, value) for column, value in zip(columns, row, strict=False)]
    return [*shown, *row[len(shown) :]]


def texts(value: str | bytes) -> str:
    """The text of a column, as far as it is UTF-8.

    >>> texts("bulk"), texts(b"a\\xff")
    ('bulk', 'a�')
    """
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
