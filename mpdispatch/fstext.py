"""Paths and arguments as text that JSON, SQLite and logs can hold. Ground: imports nothing of ours.

Python decodes a non-UTF-8 byte of a path as a lone surrogate, which cannot be encoded as UTF-8.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

_MARK = "\0"
"""Starts a packed text. No path or argument of a process contains it."""


def is_utf8(text: str) -> bool:
    r"""Whether it can be written as UTF-8.

    >>> is_utf8("é"), is_utf8("\udcff")
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def percent_encoded(text: str) -> str:
    """The text as the path of a URL, byte for byte."""
    return quote(text, errors="surrogateescape")


def packed(text: str) -> str:
    r"""The text itself if it is UTF-8, else a text from which `unpacked` restores it.

    >>> packed("/srv/é"), packed("/srv/\udcff"), unpacked(packed("/srv/\udcff"))
    ('/srv/é', '\x00/srv/%FF', '/srv/\udcff')
    """
    return text if is_utf8(text) else _MARK + percent_encoded(text)


def unpacked(text: str) -> str:
    """The original of a packed text."""
    return unquote(text[1:], errors="surrogateescape") if text.startswith(_MARK) else text


def readable(text: str) -> str:
    """A packed text, shown to people."""
    return text.removeprefix(_MARK)
