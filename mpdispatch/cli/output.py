"""What people and programs see: data on stdout, the rest on stderr. Rich is loaded for terminals only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.table import Table

    from mpdispatch.model import Page

__all__ = [
    "complain",
    "draw_table",
    "escape",
    "items_of",
    "keep_stdout",
    "print_json",
    "print_json_array",
    "print_table",
    "say",
    "shorten",
    "time_text",
]


T = TypeVar("T")

_PAGE = 1000


def escape(text: str) -> str:
    r"""The text with everything a terminal could act on spelt out (controls, ANSI, bidi marks, newlines).

    >>> print(escape("red \x1b[31m\n"))
    red \x1b[31m\n
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shorten(text: str, width: int) -> str:
    """
    >>> shorten("a long text", 7)
    'a long…'
    """
    return text if len(text) <= width else text[: width - 1] + "…"


def time_text(moment: datetime | None) -> str:
    """A time for people, in UTC, to the second; empty for None.

    >>> time_text(datetime(2026, 5, 4, 3, 2, 1, 999, tzinfo=UTC))
    '2026-05-04 03:02:01Z'
    """
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def complain(message: str) -> None:
    """One line on stderr, as every error is shown."""
    print(f"mpdispatch: {escape(message)}", file=sys.stderr)


def keep_stdout() -> None:
    """Keep stdout for what is printed here: processes that inherit it (workers, what they start) write to stderr."""
    sys.stdout.flush()
    own = os.dup(sys.stdout.fileno())
    os.dup2(2, 1)
    sys.stdout = os.fdopen(own, "w", encoding=sys.stdout.encoding, errors="backslashreplace", closefd=False)


def say(*values: object) -> None:
    """One line of data on stdout, written at once: a reader may be waiting for it."""
    print(*(escape(str(value)) for value in values), flush=True)


def print_json(value: Any, *, line: bool = False) -> None:
    """One JSON document on stdout (`line`: on one line, written at once). ASCII: nothing can steer a terminal."""
    import json  # a third of a MiB that no supervisor needs

    print(json.dumps(value, indent=None if line else 2), flush=line)


def print_json_array(items: Iterable[Any]) -> None:
    """A JSON array on stdout, an element per line, written as they come."""
    import json

    opening = "["
    for item in items:
        print(opening, json.dumps(item), sep="\n", end="")
        opening = ","
    print("[]" if opening == "[" else "\n]")


def items_of(
    pages: Callable[..., Page[T]], *, limit: int, cursor: str | None, everything: bool
) -> tuple[Iterable[T], str | None]:
    """What a list shows, and where it goes on: `pages(limit=, cursor=)` gives one page; all of them if `everything`."""
    if everything:
        return _every_item(pages, cursor), None
    page = pages(limit=limit, cursor=cursor)
    return page.items, page.next_cursor


def _every_item(pages: Callable[..., Page[T]], cursor: str | None) -> Iterator[T]:
    while True:
        page = pages(limit=_PAGE, cursor=cursor)
        yield from page.items
        if (cursor := page.next_cursor) is None:
            return


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = ()) -> None:
    """A table on stdout: drawn on a terminal, plain and aligned elsewhere. `right` names columns of numbers."""
    texts = [[escape("" if cell is None else str(cell)) for cell in row] for row in rows]
    if sys.stdout is not None and sys.stdout.isatty():
        _draw(columns, texts, frozenset(right))
        return
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for row in [list(columns), *texts]:
        cells = [
            text.rjust(width) if name in right else text.ljust(width)
            for name, text, width in zip(columns, row, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())


def draw_table(frames: Iterable[tuple[Sequence[str], Iterable[Sequence[object]], str]]) -> None:
    """On a terminal: a table (columns, rows, a line below) that is drawn anew for each frame. All but the first column
    are numbers."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(), auto_refresh=False) as live:
        for columns, rows, foot in frames:
            texts = [[escape(str(cell)) for cell in row] for row in rows]
            live.update(Group(_table(columns, texts, frozenset(columns[1:])), Text(escape(foot))), refresh=True)


def _draw(columns: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[str]) -> None:
    from rich.console import Console

    Console().print(_table(columns, rows, right))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # Text: a job called "[red]" is no markup
    return table
