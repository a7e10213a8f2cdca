"""Which texts can be the name of a job or a queue, and what a wrong one was meant to be. Pure: no I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from mpdispatch.errors import UsageError

MAX_NAME_CHARS = 200

# Control characters (NUL, newline, escape …), lone surrogates (not valid UTF-8), line and paragraph separators: each
# would break a log line, a terminal or a row. These are Unicode's categories Cc, Cs, Zl and Zp, which never change.
# They are spelled out so that no process has to load Python's table of characters.
_REFUSED = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


def shown(value: object, limit: int = 60) -> str:
    """`repr(value)`, cut to `limit` characters: a bad value may be a megabyte of text, or a list of lists without end.

    >>> shown("x" * 100, limit=10), shown([["x" * 100] * 100] * 100, limit=10)
    ("'xxxxxxxx…", "[['xxxxxx…")
    """
    try:
        text = _repr(value, limit + 1)
    except ValueError:  # an integer past sys.get_int_max_str_digits() has no text
        text = f"a huge {type(value).__name__}"
    return cut(text, limit)


def cut(text: str, limit: int = 60) -> str:
    """The text, its end replaced by … if it has more than `limit` characters.

    >>> cut("a long text", 7)
    'a long…'
    """
    return text if len(text) <= limit else text[: limit - 1] + "…"


_BRACKETS: dict[type, tuple[str, str]] = {list: ("[", "]"), tuple: ("(", ")"), dict: ("{", "}")}


def _repr(value: object, most: int) -> str:
    """`repr(value)`, or its first part, at least `most` characters long.

    A repr of everything could take any amount of memory: 355 bytes of YAML with aliases made one of 590 MB.
    """
    if isinstance(value, str | bytes):
        return repr(value[:most])
    opening, closing = _BRACKETS.get(type(value), ("", ""))
    if not opening or not value:
        return repr(value)
    assert isinstance(value, list | tuple | dict)
    text = opening
    for before, part in _parts(value):
        text += before
        if len(text) >= most:
            return text
        text += _repr(part, most - len(text))
    return text + ("," if isinstance(value, tuple) and len(value) == 1 else "") + closing


def _parts(value: list[Any] | tuple[Any, ...] | dict[Any, Any]) -> Iterator[tuple[str, object]]:
    """The items, keys and values between the brackets of `repr(value)`, each with the text before it.

    >>> list(_parts({"a": 1, "b": 2}))
    [('', 'a'), (': ', 1), (', ', 'b'), (': ', 2)]
    """
    before = ""
    for item in value.items() if isinstance(value, dict) else value:
        if isinstance(value, dict):
            key, item = item
            yield before, key
            before = ": "
        yield before, item
        before = ", "


def check_name(kind: str, value: object) -> str:
    """`value` if it can be a name. `kind` ("job name", "queue name") is what an error calls it.

    A name has 1 to 200 characters, not all blank, no control characters, line breaks or NUL, and no `..`.

    >>> check_name("queue name", "bulk mail")
    'bulk mail'

    Raises UsageError: it cannot; the text says why.
    """
    if not isinstance(value, str):
        raise UsageError(f"{kind} must be text, not {shown(value)}")
    if not value.strip():
        raise UsageError(f"{kind} must not be empty")
    if len(value) > MAX_NAME_CHARS:
        raise UsageError(f"{kind} must have at most {MAX_NAME_CHARS} characters, not {len(value)}")
    if (found := _REFUSED.search(value)) is not None:
        raise UsageError(
            f"{kind} must have no control characters and be valid UTF-8, but {shown(value)} holds"
            f" U+{ord(found[0]):04X}"
        )
    if ".." in value:
        raise UsageError(f"{kind} must not hold '..', as {shown(value)} does")
    return value


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known name most like this one, or None; `cutoff` from 0 (anything) to 1 (the same).

    >>> nearest("rendre", ["render", "send"]), nearest("purge", ["render", "send"])
    ('render', None)
    """
    from difflib import get_close_matches  # 10 ms and half a MiB that only an error needs

    found = get_close_matches(name, known, n=1, cutoff=cutoff)
    return found[0] if found else None
