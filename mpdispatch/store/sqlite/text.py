"""Recognises text that is not UTF-8, which sqlite3 refuses. Pure."""

from __future__ import annotations

from mpdispatch import sqlite3


def is_bad_text(error: BaseException) -> bool:
    """Whether the cause of the error is text that is not UTF-8."""
    return isinstance(error, sqlite3.ERRORS) and str(error).startswith("Could not decode to UTF-8")
