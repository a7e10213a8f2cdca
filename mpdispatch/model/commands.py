"""The names of jobs that are ours, and what a command job carries. Values only."""

from __future__ import annotations

import msgspec

__all__ = ["COMMAND_JOB", "RESERVED_PREFIX", "Command"]

RESERVED_PREFIX = "mpdispatch."
"""No handler of an app has a name that begins so."""

COMMAND_JOB = "mpdispatch.command"
"""A program to run, put there by `mpdispatch run`; only a supervisor with `--allow-commands` claims it."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a command job. No shell is between: `argv` is what the program gets."""

    argv: list[str]
    cwd: str
    """Absolute."""
    env: dict[str, str]
    """All of its environment, but for what the worker adds (MPDISPATCH_JOB_ID, MPDISPATCH_ATTEMPT)."""
