"""Runs a server as its child, and ends it when the process that asked for it is gone, however that went.

`python guard.py FOLDER USER COMMAND…` reads standard input: each line starts the server (again), and is answered by a
line with its pid. When the other end of that pipe is closed, by SIGKILL too, the server is killed and FOLDER removed.
The server's own output goes to FOLDER/log. USER is empty, or the name of who runs the server (for root only).
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, argument: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(argument), 0, 0, 0)


def start(folder: Path, user: str, command: list[str]) -> int:
    entry = pwd.getpwnam(user) if user else None
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            user=entry and entry.pw_uid,
            group=entry and entry.pw_gid,
            extra_groups=entry and [],
            start_new_session=True,
            # Acts if this guard is killed itself.
            preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )
    return server.pid


def reap(*_: object) -> None:
    """Take the exit codes of all that ended, so that nobody sees a zombie for a server."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main(folder: Path, user: str, command: list[str]) -> None:
    # Ctrl-C goes to the whole group: the tests decide when their servers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, reap)
    # What a killed server leaves behind becomes a child of this process, which ends it.
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    while sys.stdin.readline():
        print(start(folder, user, command), flush=True)
    while left := psutil.Process().children(recursive=True):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
