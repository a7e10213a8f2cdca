"""Prints for people and programs: data on stdout, the rest on stderr. Rich is loaded for terminals only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from mpdispatch.cli.columns import GAP, Column, fit

if TYPE_CHECKING:
    from rich.table import Table

    from mpdispatch.model import Page

T = TypeVar("T")

_PAGE = 1000
_ALIGNED = 60
"""The widest column, in characters, outside a terminal; cells may be longer."""


def escape(text: str) -> str:
    r"""The text with all characters escaped that a terminal could act on (controls, ANSI, bidi marks, newlines).

    >>> print(escape("red \x1b[31m\n"))
    red \x1b[31m\n
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def time_text(moment: datetime | None) -> str:
    """A time for people, in UTC and to the second; empty for None.

    >>> time_text(datetime(2026, 5, 4, 3, 2, 1, 999, tzinfo=UTC))
    '2026-05-04 03:02:01Z'
    """
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def complain(message: str) -> None:
    """Print one line on stderr, in the form of every error."""
    print(f"mpdispatch: {escape(message)}", file=sys.stderr)


def keep_stdout() -> None:
    """Keep stdout for this process: workers, and the processes that they start, write to stderr instead.

    If it was closed, sys.stdout is a file afterwards that leads nowhere.
    """
    descriptor, encoding = 1, "utf-8"  # those of a closed one: the program has opened it, to /dev/null
    if sys.stdout is not None:
        sys.stdout.flush()
        descriptor, encoding = sys.stdout.fileno(), sys.stdout.encoding
    own = os.dup(descriptor)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(own, "w", encoding=encoding, errors="backslashreplace", closefd=False)


def print_line(value: object) -> None:
    """Print one line of data on stdout and flush it, because a reader may be waiting."""
    print(escape(str(value)), flush=True)


def print_json(value: Any, *, line: bool = False) -> None:
    """Print one JSON document on stdout (`line`: on one line, flushed). It is ASCII, so it cannot control a terminal."""
    import json  # a third of a MiB that no supervisor needs

    print(json.dumps(value, indent=None if line else 2), flush=line)


def print_json_array(items: Iterable[Any]) -> None:
    """Print a JSON array on stdout, one element per line, each as it comes."""
    import json

    opening = "["
    for item in items:
        print(opening, json.dumps(item), sep="\n", end="")
        opening = ","
    print("[]" if opening == "[" else "\n]")


def print_answer(value: Any, line: object, *, as_json: bool) -> None:
    """Print the outcome of a command: the JSON document for programs, else the line."""
    if as_json:
        print_json(value)
    else:
        print_line(line)


def print_pages(
    pages: Callable[..., Page[T]],
    to_json: Callable[[T], Any],
    columns: Sequence[Column | str],
    row: Callable[[T], Sequence[object]],
    *,
    right: Iterable[str] = (),
    as_json: bool,
    limit: int,
    cursor: str | None,
    everything: bool,
) -> None:
    """Print the items of one page, `pages(limit=, cursor=)`, or of every page, and say how the list goes on."""
    items, more = _every_item(pages, cursor), None
    if not everything:
        page = pages(limit=limit, cursor=cursor)
        items, more = iter(page.items), page.next_cursor
    if as_json:
        print_json_array(map(to_json, items))
    else:
        print_table(columns, map(row, items), right=right)
    if more is not None:
        print(f"there are more: --cursor {escape(more)}, or --all", file=sys.stderr)


def _every_item(pages: Callable[..., Page[T]], cursor: str | None) -> Iterator[T]:
    while True:
        page = pages(limit=_PAGE, cursor=cursor)
        yield from page.items
        if (cursor := page.next_cursor) is None:
            return


def print_table(
    columns: Sequence[Column | str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = ()
) -> None:
    """Print a table on stdout: fitted to a terminal, whole and aligned elsewhere. `right` names columns of numbers."""
    columns = _columns(columns, right)
    texts = [[escape("" if cell is None else str(cell)) for cell in row] for row in rows]
    if sys.stdout is not None and sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        console.print(_fitted(columns, texts, console.width))
        return
    names = [column.name for column in columns]
    # A cell longer than this moves the rest of its own row, instead of every row.
    widths = [min(_ALIGNED, max(map(len, cells))) for cells in zip(names, *texts, strict=True)]
    for row in [names, *texts]:
        cells = [
            text.rjust(width) if column.is_right else text.ljust(width)
            for column, text, width in zip(columns, row, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _columns(columns: Sequence[Column | str], right: Iterable[str] = ()) -> list[Column]:
    named = frozenset(right)
    return [each if isinstance(each, Column) else Column(name=each, is_right=each in named) for each in columns]


def draw_table(
    frames: Iterable[tuple[Sequence[Column | str], Iterable[Sequence[object]], Sequence[str]]],
) -> None:
    """Draw a table on a terminal again for each frame: columns, rows, and the lines below. All columns but the first
    are numbers."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console()
    with Live(console=console, auto_refresh=False) as live:
        for columns, rows, lines in frames:
            texts = [[escape(str(cell)) for cell in row] for row in rows]
            table = _fitted(_columns(columns, map(str, columns[1:])), texts, console.width)
            live.update(Group(table, *(Text(escape(line)) for line in lines)), refresh=True)


def _fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> Table:
    """The table with the columns that fit into `room` characters."""
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, header_style="bold", show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0)
    )
    names = [column.name for column in columns]
    # No column is wider than the terminal: a text of a megabyte is not measured to its end.
    widths = [
        max(min(room, cell_len(cell[:room])) for cell in cells) for cells in zip(names, *rows, strict=True)
    ]
    shown = fit(columns, widths, room)
    for at, width in shown:
        column = columns[at]
        table.add_column(
            column.name,
            justify="right" if column.is_right else "left",
            overflow="ellipsis" if column.is_cut else "fold",
            no_wrap=column.is_cut,
            width=width,
        )
    for row in rows:
        cells = [row[at][:room] if columns[at].is_cut else row[at] for at, _ in shown]
        table.add_row(*map(Text, cells))  # as Text, so that a job called "[red]" is no markup
    return table
