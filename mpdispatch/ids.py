"""Identifies this machine and its current boot. Ground: imports nothing of ours."""

from __future__ import annotations

import functools
import os
from pathlib import Path


@functools.cache
def boot_id() -> str:
    """Id of this boot of the machine; it changes with every boot."""
    path = Path("/proc/sys/kernel/random/boot_id")
    if path.exists():
        return path.read_text().strip()
    import psutil

    return f"{machine_id()}-{int(psutil.boot_time())}"


@functools.cache
def machine_id() -> str:
    """Id of this machine, the same after a reboot as far as the system can tell."""
    for path in map(Path, ("/etc/machine-id", "/var/lib/dbus/machine-id")):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text:
            return text
    return host_name()


@functools.cache
def host_name() -> str:
    return os.uname().nodename  # as socket.gethostname(), whose module takes 2 ms
