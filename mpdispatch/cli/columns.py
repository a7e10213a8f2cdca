"""Which columns of a table fit on a terminal, and how wide each is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

GAP = 2
"""Characters between two columns."""
_FEWEST = 4
"""A column is not made narrower, whatever the terminal."""


class Column(NamedTuple):  # no dataclass: dataclasses is 7 ms that enqueueing would wait for
    """A column of a table.

    On a terminal that is too narrow, it is narrowed down to `least` characters (None: it keeps its width), and its cells
    are then wrapped, or cut if `is_cut`. If all columns still do not fit, those with a `rank` are left out, the highest
    rank first; then the others are narrowed further.
    """

    name: str
    is_right: bool = False
    least: int | None = None
    is_cut: bool = False
    rank: int = 0


def fit(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """The columns that are shown, each by its index and with its width, for columns of these widths in `room` characters.

    >>> id_, queue = Column(name="id"), Column(name="queue", rank=1)
    >>> error = Column(name="error", least=20)
    >>> fit([id_, queue, error], [3, 8, 100], 60), fit([id_, queue, error], [3, 8, 100], 30)
    ([(0, 3), (1, 8), (2, 45)], [(0, 3), (2, 25)])

    If nothing more can be left out, the columns may need more than there is.
    """
    given = {
        at: width if column.least is None else min(width, column.least)
        for at, (column, width) in enumerate(zip(columns, widths, strict=True))
    }
    _leave_out(columns, given, room)
    narrow = [at for at in given if columns[at].least is not None]
    while _spare(given, room) < 0 and (wide := max(narrow, key=given.__getitem__, default=None)) is not None:
        if given[wide] <= _FEWEST:
            break
        given[wide] -= 1  # rather too narrow than beyond the edge
    spare = max(0, _spare(given, room))
    # Each gets an equal part of what is left, and no more than it needs.
    narrow.sort(key=lambda at: widths[at] - given[at])
    for index, at in enumerate(narrow):
        more = min(widths[at] - given[at], spare // (len(narrow) - index))
        given[at] += more
        spare -= more
    return list(given.items())


def _leave_out(columns: Sequence[Column], given: dict[int, int], room: int) -> None:
    """Leave columns out until the others fit, or none is left that may be left out."""
    optional = sorted((at for at in given if columns[at].rank), key=lambda at: columns[at].rank)
    while optional and _spare(given, room) < 0:
        del given[optional.pop()]


def _spare(given: Mapping[int, int], room: int) -> int:
    return room - sum(given.values()) - GAP * (len(given) - 1)
