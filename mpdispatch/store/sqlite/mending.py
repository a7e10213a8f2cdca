"""Describes invalid values of columns, and replaces them by values that can be shown. Pure: no I/O, no clock.

SQLite stores any value in any column (these tables are not STRICT), also text that is not UTF-8. An edit by hand or
another program can make a row unreadable; other rows must not be affected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The range of a datetime: the years 1 to 9999."""

_LEAST_INTEGER, _MOST_INTEGER = -(1 << 63), (1 << 63) - 1
_SHOWN = 40


class Column(NamedTuple):
    """A column and its allowed values."""

    name: str
    kind: Literal["integer", "time", "duration", "text", "any"]
    is_optional: bool = False
    """NULL is allowed."""
    least: int = _LEAST_INTEGER
    most: int = _MOST_INTEGER
    field: str = ""
    """The field that shows it, in a value for people; empty: it has the column's name, without the unit of a time."""


_TYPES: dict[str, Any] = {"integer": int, "time": int, "duration": int, "text": str, "any": Any}


def row_type(columns: Sequence[Column]) -> type[msgspec.Struct]:
    """A type for `msgspec.convert`, which validates a whole row of these columns in one call.

    A struct, not a tuple, because msgspec caches its type information (0.16 instead of 12 µs per call).

    >>> msgspec.convert((1, b"blob"), row_type((Column("id", "integer"), Column("name", "text"))))
    Traceback (most recent call last):
    ...
    msgspec.ValidationError: Expected `str`, got `bytes` - at `$[1]`
    """
    fields = [(column.name, _type_of(column)) for column in columns]
    return msgspec.defstruct("Row", fields, array_like=True, frozen=True, gc=False)


def rows_type(columns: Sequence[Column]) -> type[msgspec.Struct]:
    """A type for a tuple whose only item is a list of rows (0.2 µs, plus 0.08 µs per row)."""
    row = row_type(columns)
    return msgspec.defstruct("Rows", [("rows", list[row])], array_like=True, frozen=True, gc=False)  # type: ignore[valid-type]


def _type_of(column: Column) -> Any:
    kind = _TYPES[column.kind]
    if column.least > _LEAST_INTEGER:
        kind = Annotated[kind, msgspec.Meta(ge=column.least)]
    return kind | None if column.is_optional else kind


def lenient(data: bytes) -> str | bytes:
    """A `text_factory` that leaves non-UTF-8 text as bytes, to distinguish it from valid text."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _described(value: object) -> str:
    """
    >>> _described("high"), _described(1.5), _described(None), _described(b"\\xff")
    ("TEXT 'high'", 'REAL 1.5', 'NULL', "bytes that are no UTF-8 text (b'\\\\xff')")
    """
    match value:
        case None:
            return "NULL"
        case int():
            return f"INTEGER {value}"
        case float():
            return f"REAL {value!r}"
        case str():
            return f"TEXT {value[:_SHOWN]!r}"
        case bytes() if isinstance(lenient(value), str):
            return f"a BLOB ({value[:_SHOWN]!r})"
        case bytes():
            return f"bytes that are no UTF-8 text ({value[:_SHOWN]!r})"
        case _:
            return type(value).__name__


def fault_of(column: Column, value: object) -> str | None:
    """The fault of this value; None if it is valid.

    >>> fault_of(Column("priority", "integer"), "high")
    "column priority holds TEXT 'high', not an INTEGER"
    >>> fault_of(Column("max_retries", "integer", least=0), -1)
    'column max_retries holds INTEGER -1, which is out of its range'
    """
    if column.kind == "any" or (value is None and column.is_optional):
        return None
    if column.kind == "text":
        if type(value) is str:
            return None
        return f"column {column.name} holds {_described(value)}, not TEXT"
    if type(value) is not int:
        return f"column {column.name} holds {_described(value)}, not an INTEGER"
    if column.kind == "time" and not EARLIEST_US <= value <= LATEST_US:
        return f"column {column.name} holds {_described(value)}, which is no time (µs since 1970)"
    if not column.least <= value <= column.most:
        return f"column {column.name} holds {_described(value)}, which is out of its range"
    return None


def faults_of(columns: Sequence[Column], row: Sequence[Any]) -> list[str]:
    """All faults of a row of these columns."""
    found = (fault_of(column, value) for column, value in zip(columns, row, strict=False))
    return [fault for fault in found if fault is not None]


def _mended(column: Column, value: Any) -> Any:
    if fault_of(column, value) is None:
        return value
    if column.kind == "text":
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return "" if value is None else str(value)
    if type(value) is int:
        least, most = (EARLIEST_US, LATEST_US) if column.kind == "time" else (column.least, column.most)
        return min(max(value, least), most)
    return None if column.is_optional else max(0, column.least)


def mended(columns: Sequence[Column], row: Sequence[Any]) -> list[Any]:
    """The row with invalid values replaced by the nearest allowed one, or 0 and the like; extra values unchanged.

    >>> mended((Column("name", "text"), Column("pid", "integer", is_optional=True)), (b"a\\xff", "x"))
    ['a�', None]
    """
    shown = [_mended(column, value) for column, value in zip(columns, row, strict=False)]
    return [*shown, *row[len(shown) :]]


def texts(value: Any) -> str:
    """Any value of a TEXT column, as text.

    >>> texts("bulk"), texts(b"\\xff"), texts(None)
    ('bulk', '�', '')
    """
    shown: str = _mended(Column("", "text"), value)
    return shown
