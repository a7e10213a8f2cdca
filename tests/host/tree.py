"""A process that behaves like a worker's handler does at its worst: leaves others behind. Run as a script.

    python tree.py FOLDER [--clear-env] child daemon cleared marked …

Every process writes its pid to FOLDER/NAME and then waits for ever.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

_LASTING = [sys.executable, "-S", "-c", "import signal\nwhile True: signal.pause()"]


def _sign(folder: str, name: str, pid: int) -> None:
    path = os.path.join(folder, name)
    with open(path + ".new", "w") as file:
        file.write(f"{pid}\n")
    os.rename(path + ".new", path)


def _linger() -> None:
    while True:
        signal.pause()


def _forked(folder: str, name: str) -> None:
    if os.fork() == 0:
        _sign(folder, name, os.getpid())
        _linger()


def _daemon(folder: str, name: str) -> None:
    """Double fork and a session of its own: out of the tree, the group and the session."""
    if (pid := os.fork()) == 0:
        os.setsid()
        if os.fork() == 0:
            _sign(folder, name, os.getpid())
            _linger()
        os._exit(0)
    os.waitpid(pid, 0)


def leave_behind(folder: str, kinds: list[str]) -> None:
    """Start one process of each kind; all have signed when this returns."""
    for kind in kinds:
        match kind:
            case "child":
                _forked(folder, kind)
            case "daemon":
                _daemon(folder, kind)
            case "cleared" | "discarded":  # its environment is empty, its session is ours; another user
                user = 65534 if kind == "discarded" else None
                _sign(folder, kind, subprocess.Popen(["/bin/sleep", "1000"], env={}, user=user).pid)
            case "marked":  # a session of its own, our environment
                _sign(folder, kind, subprocess.Popen(_LASTING, start_new_session=True).pid)
            case "deaf":  # ignores every signal it can
                if os.fork() == 0:
                    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
                        signal.signal(number, signal.SIG_IGN)
                    _sign(folder, kind, os.getpid())
                    _linger()
            case "stopped":
                if os.fork() == 0:
                    _sign(folder, kind, os.getpid())
                    os.kill(os.getpid(), signal.SIGSTOP)
                    _linger()
            case _:
                raise ValueError(kind)
    # Whoever started them may kill itself now, and they with it.
    deadline = time.monotonic() + 10
    while not all(os.path.exists(os.path.join(folder, kind)) for kind in kinds) and time.monotonic() < deadline:
        time.sleep(0.001)


def main() -> None:
    folder, *kinds = sys.argv[1:]
    if "subreaper" in kinds:
        from mpdispatch.host.linux import become_subreaper

        become_subreaper()
        kinds.remove("subreaper")
    leave_behind(folder, kinds)
    _sign(folder, "worker", os.getpid())
    threading.Event().wait()


if __name__ == "__main__":
    main()
