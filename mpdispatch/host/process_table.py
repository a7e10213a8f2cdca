"""A snapshot of all processes of this machine. Linux: reads /proc.

It costs some 15 µs per process, so take one snapshot to find several processes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import NamedTuple

_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class Seen(NamedTuple):
    start: int
    """As in ProcessId."""
    parent: int
    session: int


def process_table(*, zombies: bool = False) -> dict[int, Seen]:
    """By pid: every process; with `zombies` also those that have ended and were not reaped.

    Raises OSError if no descriptor is left.
    """
    found: dict[int, Seen] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := read_proc(f"/proc/{entry}/stat")):
            # The command name may hold spaces and parentheses: split after the last one.
            fields = stat.rpartition(b")")[2].split()
            if zombies or fields[0] not in (b"Z", b"X"):
                found[int(entry)] = Seen(int(fields[19]), int(fields[1]), int(fields[3]))
    return found


def children_of(table: Mapping[int, Seen]) -> dict[int, list[int]]:
    """By pid: its children."""
    children: dict[int, list[int]] = {}
    for pid, seen in table.items():
        children.setdefault(seen.parent, []).append(pid)
    return children


def read_proc(path: str) -> bytes:
    """Content of the file; empty if the process is gone or hidden. Raises OSError if no descriptor is left."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        if error.errno in _SHORT:
            raise
        return b""
