"""The Lua functions of a Redis store as one library, stamped with a sum of its text. Reads files of this package once.

Each version of the text has a name of its own, so that two versions of mpdispatch can use one server.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

READS, SPARES = "_read", "_spare"
"""Ends of the names of the library's functions, which are one and the same but for what the server lets them do: one only
reads, also on a full server; one may write there all the same, as it frees memory or ends what takes it; the one without an
end adds what a full server refuses."""
_FOLDER = Path(__file__).parent / "lua"
FOREIGN = "mpdispatch_enqueue"
"""The function that programs in other languages call, see lua/foreign.lua."""
_FLAGS = {"": "", READS: "'no-writes'", SPARES: "'allow-oom'"}
_BASE = "base"
_PARTS = (
    *("work", "queues", "places", "jobs", "batches", "parents", "follow", "finish", "rates", "claim"),
    *("letters", "again", "crons", "supervisors", "lists", "prune", "upkeep", "view"),
    *("client_calls", "batch_calls", "cron_calls", "supervisor_calls"),
)


class Library(NamedTuple):
    """The text in two forms."""

    name: str
    """Of the library, and what the names of its functions begin with."""
    text: str
    """For FUNCTION LOAD."""
    script: str
    """For EVAL, where a server has no functions or does not allow them."""
    script_sum: str
    """For EVALSHA."""
    foreign: str
    """For FUNCTION LOAD: what programs in other languages call, under a name that stays. `migrate` loads it."""


@cache
def library() -> Library:
    """The library of this version."""
    # A block for each part, so that its local names are its own; a function can have no more than 200 of them.
    parts = [f"do\n{_read(name)}end\n" for name in _PARTS]
    body = "".join([_read(_BASE), *parts, _read("main")])
    foreign = f"{body}{_read('foreign')}redis.register_function('{FOREIGN}', {FOREIGN})\n"
    name = f"mpdispatch_{hashlib.sha256(body.encode()).hexdigest()[:12]}"
    registered = "".join(
        f"redis.register_function{{function_name='{name}{end}', callback=main, flags={{{flags}}}}}\n"
        for end, flags in _FLAGS.items()
    )
    script = f"{body}return main(KEYS, ARGV)\n"
    return Library(
        name,
        f"#!lua name={name}\n{body}{registered}",
        script,
        hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest(),
        f"#!lua name=mpdispatch\n{foreign}",
    )


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")


_HEAD = """
-- mpdispatch's functions in Redis and Valkey. A file of this is loaded by: redis-cli -x FUNCTION LOAD REPLACE < FILE
-- To enqueue from any language, once `mpdispatch migrate` has made the store:
--     FCALL mpdispatch_enqueue 1 '{PREFIX}' render '{"path": "a.pdf"}' queue default
-- The options come last, each with its value; lua/foreign.lua, at the end of this, has all of them.
"""


def script(prefix: str) -> str:
    """What `migrate` loads for programs in other languages, with how they enqueue at its head."""
    first, _, rest = library().foreign.partition("\n")
    return f"{first}{_HEAD.replace('PREFIX', prefix)}\n{rest}"
