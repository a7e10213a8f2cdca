"""The holder of a file's `flock`, from the kernel's list. Linux; unknown elsewhere."""

from __future__ import annotations

import os
from pathlib import Path


def holder_of(path: Path) -> int | None:
    """Pid of the process that holds an exclusive `flock` on `path`; None: not locked, or unknown.

    A line of /proc/locks reads `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF` (pid, device major:minor in hex,
    inode); lines of waiters begin with `->` after the number.
    """
    try:
        found = os.stat(path)
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    wanted = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for line in lines:
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == wanted and int(fields[4]) > 0:
            return int(fields[4])
    return None
