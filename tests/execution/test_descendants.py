"""Whatever a job started ends with it: children, grandchildren, daemons, those that ignore signals."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest

from mpdispatch.host.processes import process_start

PRELUDE = """
    import os, signal, subprocess, sys, time
    from mpdispatch.execution.descendants import has_children, kill_children
    from mpdispatch.host.linux import become_subreaper
    become_subreaper()
    assert not has_children()
"""


def run_in_worker(body: str) -> list[int]:
    """Run the body in a subreaper of its own; the pids it prints."""
    code = textwrap.dedent(PRELUDE) + textwrap.dedent(body)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def assert_dead(pids: list[int]) -> None:
    until_s = time.monotonic() + 5
    while any(process_start(pid) is not None for pid in pids):
        assert time.monotonic() < until_s, pids
        time.sleep(0.005)  # a probe: a killed process takes a moment to go


@pytest.mark.skipif(sys.platform != "linux", reason="a subreaper is Linux's")
def test_children_grandchildren_and_daemons_are_killed_and_reaped() -> None:
    pids = run_in_worker("""
        sleep = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
        stubborn = [sys.executable, "-c",
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
            "print('up', flush=True); time.sleep(60)"]
        parent = [sys.executable, "-c",
            "import subprocess, sys, time; p = subprocess.Popen(['sleep', '60'], start_new_session=True,"
            " stdout=subprocess.DEVNULL);"
            "print(p.pid, flush=True); time.sleep(60)"]
        children = [subprocess.Popen(c, stdout=subprocess.PIPE, text=True) for c in (sleep, stubborn, parent)]
        said = [child.stdout.readline() for child in children]
        daemon_parent = subprocess.run([sys.executable, "-c",
            "import subprocess; print(subprocess.Popen(['sleep', '60'], start_new_session=True,"
            " stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)"],
            capture_output=True, text=True)
        stopped = subprocess.Popen(["sleep", "60"])
        os.kill(stopped.pid, signal.SIGSTOP)
        assert has_children()
        print(*[c.pid for c in children], said[2], daemon_parent.stdout, stopped.pid)
        assert kill_children() == 6
        assert not has_children()
    """)
    assert len(pids) == 6
    assert_dead(pids)


def test_a_zombie_counts_as_a_child_and_is_reaped() -> None:
    run_in_worker("""
        child = subprocess.Popen(["true"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert has_children()
        assert kill_children() == 1
        assert not has_children()
        assert kill_children() == 0
    """)
