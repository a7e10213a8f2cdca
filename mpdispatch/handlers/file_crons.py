"""Cron entries of a configuration file, checked as far as a file can be without the app. Values only."""

from __future__ import annotations

from typing import Any

import msgspec

from mpdispatch.model import CronSpec


class FileCron(msgspec.Struct, frozen=True, kw_only=True):
    """One entry."""

    key: str
    """Its place in the file, for messages: `mpdispatch.yaml: dispatch.crons[0]`."""
    spec: CronSpec
    """With the options of its jobs that the file gives, and the defaults of the others."""
    given: frozenset[str] = frozenset()
    """The options of its jobs that the file gives: `queue`, `expires` …"""
    args: dict[str, Any] = {}
    command: tuple[str, ...] = ()
    """The program to run with its arguments, instead of a handler."""
    cwd: str | None = None
    """The folder in which it runs; None: that of the supervisor."""
    env: dict[str, str] = {}
    """Variables besides those of every command."""


class FileCrons(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of a configuration file."""

    path: str
    """Absolute."""
    entries: tuple[FileCron, ...] = ()
