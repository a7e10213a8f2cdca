"""How a program without mpdispatch enqueues a job: with an INSERT. Pure; `mpdispatch migrate --print` shows it."""

from __future__ import annotations

_TEXT = """
To enqueue from any language, insert a row, in a transaction of your own if you like:
{insert}
    name, queue    of the handler, and where a supervisor finds the job
    payload        a JSON object in UTF-8, argument name -> value, of 1 MiB at most; nothing checks it before a worker does
    state, lane    'pending' and 1; for a job that is due later 'scheduled' and 2, with run_at_us in the future
    run_at_us, created_at_us
                   microseconds since 1970, UTC
    priority       higher first; 0 for most
    max_retries    starts after the first one that may fail
Columns that may be given, or left out:
    timeout_us     microseconds that a start may take
    expires_at_us  not started by then, it is cancelled
    idempotency_key
                   at most one row of this name has it
    trace_context  W3C trace context, as a JSON object
Leave all other columns alone, and never change or delete a row: batches, retries and what waits for a job are counted by
mpdispatch. A supervisor finds the job when it looks next, after poll_interval (1 s) at the latest.
{about}
"""


def how_to_enqueue(insert: str, about: str) -> str:
    """What to know for it; the statement and what else there is to say are the backend's."""
    indented = "".join(f"    {line}\n" for line in insert.strip().splitlines())
    return _TEXT.format(insert=indented, about=about.strip()).strip()


def commented(text: str) -> str:
    """
    >>> commented("one\\n\\ntwo")
    '-- one\\n--\\n-- two'
    """
    return "\n".join(f"-- {line}".rstrip() for line in text.splitlines())
