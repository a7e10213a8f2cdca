"""`stop()` while `start()` is still on its way: from a thread, a signal handler, an extension; and imports that hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = str(Path(__file__).resolve().parents[1])

# Workers hang in their import of the app until somebody ends them; each leaves its pid first.
HANGS = """
    import os, signal, sys, threading, time
    from mpdispatch import AppImportError, Dispatcher, Engine, SQLiteStore
    from mpdispatch.execution.process_context import in_worker
    from mpdispatch.extension import DispatchExtension

    if in_worker():
        with open("workers", "a") as file:
            print(os.getpid(), file=file)
        while not os.path.exists("go"):
            time.sleep(0.01)

    def until(probe, within=30.0):
        end = time.monotonic() + within
        while not probe():
            assert time.monotonic() < end
            time.sleep(0.005)

    def hanging():
        return os.path.exists("workers") and os.path.getsize("workers")

    def timed(call, *args):
        begun = time.monotonic()
        call(*args)
        return time.monotonic() - begun
"""
DISPATCHER = """
    engine = Engine.build(Dispatcher(store=SQLiteStore("jobs.db"), concurrency=1))
    thing = engine.dispatcher
    is_supervising = lambda: thing.is_supervising
"""
EXTENSIONS = {
    "one that always supervises": "True",
    "one that is elected": '"auto"',
}
EXTENSION = """
    thing = ext = DispatchExtension(store=SQLiteStore("jobs.db"), concurrency=1, supervise={how})
    is_supervising = lambda: ext.health()["supervises"]
"""
FROM_A_THREAD = """
    if __name__ == "__main__":
        starting = threading.Thread(target=thing.start)
        starting.start()
        until(hanging)
        took = timed(thing.stop, 0.1)
        starting.join(1)
        print(took < 3, starting.is_alive(), is_supervising())
        open("go", "w").close()
        thing.start()
        print(is_supervising())
        thing.stop()
"""
FROM_A_HANDLER = """
    if __name__ == "__main__":
        signal.signal(signal.SIGALRM, lambda *_: thing.stop(0.1))
        threading.Thread(target=lambda: (until(hanging), os.kill(os.getpid(), signal.SIGALRM))).start()
        print(timed(thing.start) < 10, is_supervising())
        open("go", "w").close()
        thing.start()
        print(is_supervising())
        thing.stop()
"""


def things() -> list[object]:
    return [pytest.param(DISPATCHER, id="a dispatcher")] + [
        pytest.param(EXTENSION.format(how=how), id=name) for name, how in EXTENSIONS.items()
    ]


def start(folder: Path, *parts: str, **env: str) -> subprocess.Popen[str]:
    (folder / "program.py").write_text("".join(textwrap.dedent(part) for part in parts))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MPDISPATCH_")}
    return subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=folder,
        env={**clean, "PYTHONPATH": ROOT, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *parts: str, **env: str) -> str:
    process = start(folder, *parts, **env)
    try:
        out, err = process.communicate(timeout=45)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"the program did not end; it said {out!r} {err!r}")
    assert process.returncode == 0, err
    return out


def leftovers(folder: Path) -> list[int]:
    """Workers that live."""
    found = []
    for pid in map(int, (folder / "workers").read_text().split()):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            found.append(pid)
    return found


@pytest.mark.parametrize("thing", things())
def test_stop_from_another_thread_ends_a_start_whose_import_hangs(tmp_path: Path, thing: str) -> None:
    assert run(tmp_path, HANGS, thing, FROM_A_THREAD) == "True False False\nTrue\n"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("thing", things())
def test_stop_from_a_signal_handler_inside_start_ends_it(tmp_path: Path, thing: str) -> None:
    assert run(tmp_path, HANGS, thing, FROM_A_HANDLER) == "True False\nTrue\n"
    assert leftovers(tmp_path) == []


def test_an_elected_one_that_takes_over_stops_while_it_starts(tmp_path: Path) -> None:
    """Its start is on a thread of its own then, not in the caller's."""
    body = """
    if __name__ == "__main__":
        import subprocess
        from mpdispatch.host.runtime_folder import runtime_folder
        from mpdispatch.host.process_lock import SUPERVISING, ProcessLock

        ext.store.migrate()
        lock = ProcessLock(runtime_folder(ext.store), SUPERVISING)
        assert lock.try_acquire()
        if os.fork() == 0:
            lock = None
            ext.start()
            print(is_supervising(), flush=True)
            open("waits", "w").close()
            until(hanging)
            print(timed(ext.stop, 0.1) < 3, flush=True)
            os._exit(0)
        until(lambda: os.path.exists("waits"))
        lock.release()
        os.wait()
    """
    assert run(tmp_path, HANGS, EXTENSION.format(how='"auto"'), body) == "False\nTrue\n"
    assert leftovers(tmp_path) == []


def test_ctrl_c_while_it_starts_leaves_no_worker_and_it_can_be_started_again(tmp_path: Path) -> None:
    body = """
    if __name__ == "__main__":
        threading.Thread(target=lambda: (until(hanging), os.kill(os.getpid(), signal.SIGINT))).start()
        try:
            with thing:
                print("inside")
        except KeyboardInterrupt:
            print("interrupted", is_supervising(), len(threading.enumerate()))
        open("go", "w").close()
        with thing:
            print(is_supervising())
    """
    assert run(tmp_path, HANGS, DISPATCHER, body) == "interrupted False 1\nTrue\n"
    assert leftovers(tmp_path) == []


def test_sigterm_between_two_tries_of_an_import_ends_the_supervisor_at_once(tmp_path: Path) -> None:
    body = """
    if __name__ != "__main__":
        raise LookupError("no database yet")
    import logging
    from mpdispatch.supervisor import startup

    logging.basicConfig(level=logging.DEBUG)
    startup.boot_backoff_s = lambda failures: 30.0  # as it is after many failures
    print(thing.run().exit_code)
    """
    (tmp_path / "go").touch()
    process = start(tmp_path, HANGS, DISPATCHER, body)
    assert process.stderr is not None
    for line in process.stderr:
        if "the app does not import" in line:
            break
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    out, err = process.communicate(timeout=45)
    assert out == "0\n", err
    assert time.monotonic() - begun < 15


# ---------------------------------------------------------------- boot_timeout

TIMED_OUT = "took longer than boot_timeout (2 s)"


def test_an_import_that_hangs_counts_as_a_failed_start_and_names_the_setting(tmp_path: Path) -> None:
    body = """
    if __name__ == "__main__":
        try:
            thing.start()
        except AppImportError as error:
            print(error)
        print(is_supervising())
    """
    said = run(tmp_path, HANGS, DISPATCHER, body, MPDISPATCH_BOOT_TIMEOUT="2")
    assert TIMED_OUT in said
    assert "MPDISPATCH_BOOT_TIMEOUT" in said
    assert said.endswith("False\n")
    assert len((tmp_path / "workers").read_text().split()) == 3
    assert leftovers(tmp_path) == []


def test_the_command_line_ends_with_70_when_the_import_hangs(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import time\ntime.sleep(600)\n")
    done = subprocess.run(
        [sys.executable, "-m", "mpdispatch", "supervise", "app:engine", "--store", "jobs.db"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT, "MPDISPATCH_BOOT_TIMEOUT": "2s"},
        capture_output=True,
        text=True,
        timeout=45,
    )
    assert done.returncode == 70, done.stderr
    assert TIMED_OUT in done.stderr


def test_a_running_supervisor_replaces_a_worker_whose_import_hangs(tmp_path: Path) -> None:
    """Only its second worker hangs; the job it is started for waits, and then runs in the third."""
    body = """
    if in_worker() and len(open("workers").read().split()) == 2:
        time.sleep(600)

    @engine.job
    def pid() -> int:
        return os.getpid()

    @engine.job
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if __name__ == "__main__":
        with thing:
            die.options(max_retries=0).enqueue()
            ran = engine.wait(pid.enqueue().id, timeout=30).result
        print(open("workers").read().split().index(str(ran)))
    """
    (tmp_path / "go").touch()
    assert run(tmp_path, HANGS, DISPATCHER, body, MPDISPATCH_BOOT_TIMEOUT="2") == "2\n"
