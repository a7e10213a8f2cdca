"""One statement for many rows: the overhead of a statement exceeds the cost of a row.

Measured per row: an insert 1.6 instead of 3.6 µs (`executemany`), an outcome 2.1 instead of 2.9.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from mpdispatch.store.sql.connection import Connection

# More in one statement gains nothing; SQLite before 3.32 takes 999 parameters at most.
_CHUNKS: Final = (64, 8, 1)


class ManyRows:
    """A statement that reads its rows from `(VALUES (?, …))`, for any number of rows."""

    __slots__ = ("_texts", "_width")

    def __init__(self, text: str) -> None:
        found = re.search(r"\(VALUES (\((\?(?:, \?)*)\))\)", text)
        assert found is not None, "no (VALUES (?, …)) in the statement"
        row = found[1]
        self._width = row.count("?")
        self._texts = [
            (rows, text.replace(found[0], f"(VALUES {', '.join([row] * rows)})")) for rows in _CHUNKS
        ]

    def execute(
        self,
        connection: Connection,
        values: Sequence[Any],
        *,
        before: Sequence[Any] = (),
        after: Sequence[Any] = (),
    ) -> int:
        """Run the statement and return the number of rows touched. `values` holds the values of all rows in sequence.

        `before` and `after` are the statement's other parameters, in order.
        """
        touched, at, end = 0, 0, len(values)
        for rows, text in self._texts:
            step = rows * self._width
            while end - at >= step:
                parameters = (*before, *values[at : at + step], *after)
                touched += connection.execute(text, parameters).rowcount
                at += step
        return touched
