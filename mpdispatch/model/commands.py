"""The names of jobs that are ours, and what a command job carries. Values only."""

from __future__ import annotations

import msgspec

RESERVED_PREFIX = "mpdispatch."
"""Names of handlers must not begin with this."""

COMMAND_JOB = "mpdispatch.command"
"""A program to run, put there by `mpdispatch run`; only a supervisor with `--allow-commands` claims it."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a command job. The program gets `argv` itself; no shell reads it."""

    argv: list[str]
    cwd: str
    """Absolute."""
    env: dict[str, str]
    """Its whole environment, except MPDISPATCH_JOB_ID and MPDISPATCH_ATTEMPT, which the worker adds."""
