"""`mpdispatch map` beside GNU parallel (`--peer parallel`), else beside a loop of processes that keeps nothing.

Each side gets the same lines and as many slots, starts from nothing, and must print the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from blocks import interleave
from report import Figure, Target, from_blocks
from run import Run
from sizes import WORKERS

LOOP = """
import subprocess, sys
from concurrent.futures import ThreadPoolExecutor
def run(line):
    return subprocess.run([*sys.argv[2:], line], stdin=subprocess.DEVNULL, capture_output=True).stdout
with ThreadPoolExecutor(int(sys.argv[1])) as pool:
    for out in pool.map(run, sys.stdin.read().splitlines()):
        sys.stdout.buffer.write(out)
"""


def measure(run: Run) -> Iterator[Figure]:
    folder = run.path("map")
    folder.mkdir()
    yield _beside(run, folder, "commands", ["echo"], [f"line {n}" for n in range(run.size.map_jobs)], 3.0)
    yield _beside(run, folder, "sleeps", ["sleep"], [str(run.size.map_sleep_s)] * run.size.map_sleeps, 0.95)


def _beside(
    run: Run, folder: Path, what: str, command: Sequence[str], lines: Sequence[str], least: float
) -> Figure:
    text = "".join(f"{line}\n" for line in lines).encode()
    environment = {**os.environ, "XDG_STATE_HOME": str(folder), "HOME": str(folder)}
    printed: set[bytes] = set()

    def rate(argv: Sequence[str]) -> Callable[[], float]:
        def once() -> float:
            began = time.perf_counter()
            done = subprocess.run(
                argv, cwd=folder, env=environment, input=text, stdout=subprocess.PIPE, check=True
            )
            took_s = time.perf_counter() - began
            printed.add(done.stdout)
            return len(lines) / took_s

        return once

    slots = f"-j{WORKERS}"
    ours = rate([sys.executable, "-m", "mpdispatch", "map", "--no-bar", slots, *command, "-"])
    if run.parallel is not None:
        name = "GNU parallel"
        theirs = rate([run.parallel, "--will-cite", "-k", slots, *command])
    else:
        name = "a loop of processes"
        theirs = rate([sys.executable, "-c", LOOP, str(WORKERS), *command])
    blocks = interleave(theirs, {"map": ours}, run.size.blocks)
    if len(printed) != 1:
        raise RuntimeError(f"mpdispatch map and {name} printed different things")
    return from_blocks(
        "map",
        f"{len(lines):,} {what}, {WORKERS} at once",
        "/s",
        blocks,
        "map",
        reference_name=name,
        target=Target("ratio", "≥", least) if run.parallel is not None else None,
        note="start and end included; each output in the order of the inputs",
    )
