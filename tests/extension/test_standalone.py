"""The extension without a web framework: scripts, in the seed's own order, as a user would run them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mpdispatch import UsageError
from mpdispatch.execution import process_context
from mpdispatch.extension import DispatchExtension

ROOT = str(Path(__file__).resolve().parents[2])


def run(folder: Path, program: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(textwrap.dedent(program))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MPDISPATCH_")}
    return subprocess.run(
        [sys.executable, *options, "program.py"],
        cwd=folder,
        env={**clean, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=100,
    )


SEED = """
    from mpdispatch import SQLiteStore, job
    from mpdispatch.extension import DispatchExtension

    @job
    def send_email(to: str, subject: str = "hello") -> str:
        return f"{subject} to {to}"

    store = SQLiteStore("jobs.db")
    ext = DispatchExtension(store=store)
    ext.start()
    try:
        engine = ext.engine
        engine.register(send_email)
        sent = engine.enqueue("send_email", to="ann@example.com")
        print(engine.wait(sent.id, timeout=60).result)
        print(sum(engine.counts().values()))
    finally:
        ext.stop()
"""


def test_standalone_usage_in_the_seeds_own_order(folder: Path) -> None:
    """Register after start, in a script without a main guard: workers run it again and enqueue nothing."""
    done = run(folder, SEED)
    assert (done.stdout, done.stderr) == ("hello to ann@example.com\n1\n", "")


def test_standalone_usage_with_a_main_guard_and_as_a_context_manager(folder: Path) -> None:
    program = """
    import pathlib
    from mpdispatch.extension import DispatchExtension

    def double(n: int) -> int:
        return 2 * n

    ext = DispatchExtension(store="jobs.db", supervise=True)

    if __name__ == "__main__":
        with ext:
            ext.engine.register(double)
            print([ext.engine.wait(ext.engine.enqueue("double", n).id, timeout=60).result for n in range(3)])
            print(ext.health()["supervises"])
        print(pathlib.Path("jobs.db-wal").exists())
        print(ext.health()["supervises"], ext.engine.stats()["supervisors"])
    """
    done = run(folder, program)
    # Stopped, it leaves one file, and may be asked all the same.
    assert (done.stdout, done.stderr) == ("[0, 2, 4]\nTrue\nFalse\nFalse 0\n", "")


def test_in_memory_it_works_too_and_warns_once(folder: Path) -> None:
    done = run(folder, SEED.replace("DispatchExtension(store=store)", "DispatchExtension()"))
    assert done.stdout == "hello to ann@example.com\n1\n"
    assert done.stderr.count("jobs are kept in the memory of this process") == 1


def test_it_may_be_started_again_and_not_twice(folder: Path) -> None:
    program = """
    import signal
    from mpdispatch.extension import DispatchExtension

    ext = DispatchExtension(store="jobs.db")

    @ext.engine.job
    def double(n: int) -> int:
        return 2 * n

    if __name__ == "__main__":
        names = ("SIGTERM", "SIGINT", "SIGCHLD", "SIGHUP", "SIGALRM", "SIGUSR1")
        before = [signal.getsignal(getattr(signal, name)) for name in names]
        for n in range(2):
            ext.start()
            assert [signal.getsignal(getattr(signal, name)) for name in names] == before
            try:
                ext.start()
            except Exception as error:
                print(type(error).__name__)
            print(ext.engine.wait(double.enqueue(n).id, timeout=60).result)
            ext.stop()
            ext.stop()
    """
    done = run(folder, program)
    assert (done.stdout, done.stderr) == ("UsageError\n0\nUsageError\n2\n", "")


def test_hooks_middleware_and_backoff_of_the_extension_are_the_engines(folder: Path) -> None:
    program = """
    import threading
    from mpdispatch import backoff
    from mpdispatch.extension import DispatchExtension
    from mpdispatch.hooks import Extension

    told = []

    class Tell(Extension):
        name = "tell"
        def on_job_completed(self, event):
            told.append(threading.current_thread() is threading.main_thread())

    def shout(job, call_next):
        return call_next(job).upper()

    ext = DispatchExtension(
        store="jobs.db", extensions=[Tell()], middleware=[shout], backoff=backoff.Constant(3)
    )

    @ext.engine.job
    def greet(name: str) -> str:
        return "hello " + name

    if __name__ == "__main__":
        assert ext.engine.backoff == backoff.Constant(3)
        with ext:
            print(ext.engine.wait(greet.enqueue("ann").id, timeout=60).result)
        print("told on the main thread:", told)
    """
    done = run(folder, program)
    assert (done.stdout, done.stderr) == ("HELLO ANN\ntold on the main thread: [False]\n", "")


def test_an_interrupted_script_leaves_no_worker(folder: Path) -> None:
    program = """
    import os, signal
    from mpdispatch.extension import DispatchExtension

    ext = DispatchExtension(store="jobs.db")

    @ext.engine.job
    def who() -> int:
        return os.getpid()

    if __name__ == "__main__":
        ext.start()
        print(ext.engine.wait(who.enqueue().id, timeout=60).result, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = run(folder, program)
    assert done.returncode == -signal.SIGKILL
    worker = int(done.stdout)
    for _ in range(2000):
        try:
            state = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state in "ZX":
            return
    os.kill(worker, 0)
    pytest.fail("the worker lives on")


def test_a_supervisor_is_registered_before_its_first_worker_is_up(folder: Path) -> None:
    """So it takes over at once what another left, however long the app takes to import."""
    (folder / "slow.py").write_text(
        textwrap.dedent("""
        import pathlib, time
        from mpdispatch.execution.process_context import in_worker
        while in_worker() and not pathlib.Path("go").exists():
            time.sleep(0.01)
        """)
    )
    program = """
    import slow, threading, time
    from mpdispatch.extension import DispatchExtension

    ext = DispatchExtension(store="jobs.db", supervise=True)

    if __name__ == "__main__":
        ext.store.migrate()
        starting = threading.Thread(target=ext.start)
        starting.start()
        while not ext.store.supervisors():
            time.sleep(0.005)
        print("registered while", "starting" if starting.is_alive() else "started")
        open("go", "w").close()
        starting.join()
        ext.stop()
        print(ext.store.supervisors())
    """
    done = run(folder, program)
    assert (done.stdout, done.stderr) == ("registered while starting\n[]\n", "")


# ---------------------------------------------------------------- in a worker


def test_start_in_a_worker_does_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_context, "_is_worker", True)
    ext = DispatchExtension(store="jobs.db")
    ext.start()
    ext.start()
    ext.stop()
    assert list(folder.iterdir()) == []


def test_install_in_a_worker_mounts_nothing_but_tells_the_app_its_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class App:
        class state:
            pass

    monkeypatch.setattr(process_context, "_is_worker", True)
    ext = DispatchExtension(store="jobs.db")
    ext.install(App())
    assert App.state.dispatch is ext.engine
    with pytest.raises(UsageError, match="installed already"):
        ext.install(App())


def test_an_app_of_another_kind_is_refused_with_what_to_do_instead() -> None:
    class Flask:
        class state:
            pass

    with pytest.raises(UsageError, match=r"not Flask; mount ext.asgi_app yourself and run ext.lifespan"):
        DispatchExtension(store="jobs.db").install(Flask())


def test_routes_without_the_http_extra_say_what_to_install(folder: Path) -> None:
    program = """
    import sys
    sys.modules["starlette"] = None
    from mpdispatch.extension import DispatchExtension
    class App:
        class state: pass
    try:
        DispatchExtension(store="jobs.db").install(App())
    except Exception as error:
        print(error)
    """
    done = run(folder, program)
    assert done.stdout == (
        "the routes need starlette: pip install 'mpdispatch[http]', or disable_routes=True\n"
    ), done.stderr


CRONS = """
    import pathlib
    import time
    from mpdispatch.extension import DispatchExtension

    pathlib.Path("app.yaml").write_text(
        "dispatch: {crons: {of a file: {schedule: '* * * * * *', job: send_email, args: {to: ann}}}}"
    )

    def send_email(to: str = "bob") -> str:
        return to

    ext = DispatchExtension(store="jobs.db", poll_interval=0.2)
    if __name__ == "__main__":
        with ext:
            engine = ext.engine
            handler = engine.job(queue="default", max_retries=9)(send_email)
            engine.crons.register(handler, "* * * * * *", name="late in code")
            while len({each.name for each in engine.crons.list() if each.last_job_id}) < 2:
                time.sleep(0.05)
            for each in engine.crons.list():
                print(each.name, each.origin, each.max_retries, engine.wait(each.last_job_id, timeout=60).result)
"""


def test_cron_entries_of_its_file_and_of_code_that_runs_after_the_start(folder: Path) -> None:
    done = run(folder, CRONS)
    assert done.stdout == "late in code code 9 bob\nof a file file 9 ann\n", done.stderr
    assert done.stderr == (
        "a cron entry of the configuration file is for job 'send_email', which no handler has yet\n"
    )
