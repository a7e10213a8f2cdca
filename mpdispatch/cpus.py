"""How many CPUs this process may use: affinity and cgroup quota. Ground: imports nothing of ours."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs the scheduler lets this process use, at most what its cgroup's quota pays for; 1 or more.

    A quota of 1.5 CPUs counts as 2. Reads `/proc` and `/sys` below `root`; elsewhere than on Linux only
    the number of CPUs counts.
    """
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    return max(1, min([cpus, *map(math.ceil, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """CPUs' worth of each limit set on this process's cgroup or one above it (v2 and v1)."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for folder in _upwards(root / "sys/fs/cgroup", path):
                yield from _share(_text(folder / "cpu.max").split())
        elif "cpu" in controllers.split(","):
            for mount in (controllers, "cpu"):
                for folder in _upwards(root / "sys/fs/cgroup" / mount, path):
                    quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
                    yield from _share([*quota.split(), *period.split()])


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    # A container may see its own group as the mount's root and its path as the host does: missing
    # folders on the way are just passed.
    below = Path(path.lstrip("/"))
    if ".." not in below.parts:
        yield from (mount / part for part in (below, *below.parents))


def _share(words: list[str]) -> Iterator[float]:
    """Quota and period in µs; `max` or -1 stand for no limit."""
    if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]) > 0:
        yield int(words[0]) / int(words[1])


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # no such controller, or not ours to read: no limit known
