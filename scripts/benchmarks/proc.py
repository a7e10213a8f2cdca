"""What Linux says of processes: CPU, memory, bytes written. Reads /proc."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import psutil


def tree(pid: int) -> list[int]:
    """That process and all its descendants."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def cpu_us(pid: int) -> float:
    """CPU time of all its threads so far, in µs. From schedstat: /proc/<pid>/stat counts in steps of 10 ms."""
    spent_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            spent_ns += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            continue  # a thread that just ended
    return spent_ns / 1000


def cpu_us_of(pids: Iterable[int]) -> float:
    return sum(map(cpu_us, pids))


def pss_bytes(pid: int) -> int:
    """Its memory, with what it shares divided among the sharers."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no Pss line")


def written_bytes(pid: int) -> int:
    """What it caused to be written to disk so far."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        name, _, number = line.partition(": ")
        if name == "write_bytes":
            return int(number)
    raise ValueError(f"/proc/{pid}/io has no write_bytes line")
