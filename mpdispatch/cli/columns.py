"""Which columns of a table fit on a terminal, and how wide each is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GAP = 2
"""Characters between two columns."""
_FEWEST = 4
"""A column is not made narrower, whatever the terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
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
    shown = list(range(len(columns)))
    least = [
        width if column.least is None else min(width, column.least)
        for column, width in zip(columns, widths, strict=True)
    ]
    while (spare := room - sum(least[at] for at in shown) - GAP * (len(shown) - 1)) < 0:
        optional = [at for at in shown if columns[at].rank]
        if not optional:
            break
        shown.remove(max(optional, key=lambda at: columns[at].rank))
    while spare < 0 and (wide := [at for at in shown if columns[at].least is not None and least[at] > _FEWEST]):
        least[max(wide, key=lambda at: least[at])] -= 1  # rather too narrow than beyond the edge
        spare += 1
    # Each narrowed column gets an equal part of what is left, and no more than it needs.
    narrowed = sorted((at for at in shown if least[at] < widths[at]), key=lambda at: widths[at] - least[at])
    for index, at in enumerate(narrowed):
        more = min(widths[at] - least[at], max(0, spare) // (len(narrowed) - index))
        least[at] += more
        spare -= more
    return [(at, least[at]) for at in shown]
