"""The Lua functions of a Redis store as one library, stamped with a sum of its text. Reads files of this package once.

Each version of the text has a name of its own, so that two versions of mpdispatch can use one server.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent / "lua"
_BASE = "base"
_PARTS = (
    *("work", "queues", "places", "jobs", "batches", "parents", "follow", "finish", "rates", "claim"),
    *("letters", "again", "crons", "supervisors", "lists", "prune", "upkeep", "view"),
    *("client_calls", "batch_calls", "cron_calls", "supervisor_calls"),
)


class Library(NamedTuple):
    """The text in two forms."""

    name: str
    """Of the library and of its one function."""
    text: str
    """For FUNCTION LOAD."""
    script: str
    """For EVAL, where a server has no functions or does not allow them."""
    script_sum: str
    """For EVALSHA."""


@cache
def library() -> Library:
    """The library of this version."""
    # A block for each part, so that its local names are its own; a function can have no more than 200 of them.
    parts = [f"do\n{_read(name)}end\n" for name in _PARTS]
    body = "".join([_read(_BASE), *parts, _read("main")])
    name = f"mpdispatch_{hashlib.sha256(body.encode()).hexdigest()[:12]}"
    script = f"{body}return main(KEYS, ARGV)\n"
    return Library(
        name,
        f"#!lua name={name}\n{body}redis.register_function('{name}', main)\n",
        script,
        hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest(),
    )


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
