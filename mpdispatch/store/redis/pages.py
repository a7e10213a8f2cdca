"""Pages of lists, put together from steps: a call looks at a thousand jobs at most, so that others get their turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mpdispatch.errors import UsageError
from mpdispatch.model import Page
from mpdispatch.store.redis.arguments import MOST

T = TypeVar("T")
Step = Callable[[int | None, int], tuple[list[T], int | None]]
"""Gives the next items before a place, at most so many, and the place to go on before; None: at the end."""


def page(step: Step[T], *, limit: int, cursor: str | None) -> Page[T]:
    """Raises UsageError on an invalid cursor or limit."""
    before = _place_of(cursor, limit)
    items = list[T]()
    while True:
        found, before = step(before, limit - len(items))
        items += found
        if before is None or len(items) >= limit:
            break
    if before is not None:
        before = before if _is_any(step, before) else None
    return Page(items=items, next_cursor=None if before is None else str(before))


def _is_any(step: Step[T], before: int | None) -> bool:
    """Whether there is another one: only then a page has a next one."""
    while before is not None:
        found, before = step(before, 1)
        if found:
            return True
    return False


def _place_of(cursor: str | None, limit: int) -> int | None:
    if limit < 1:
        raise UsageError(f"limit must be 1 or more, not {limit}")
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 20 and int(cursor) <= MOST):
        raise UsageError(f"{cursor!r} is no cursor; use the next_cursor of a page")
    return int(cursor)
