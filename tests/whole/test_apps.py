"""Apps as users have them: scripts with and without a guard, apps that do not import, a prompt."""

from __future__ import annotations

import os
import signal
import textwrap
from typing import Any

import pytest

from tests.whole.harness import Place, is_alive, until

APP = """
from mpdispatch import Engine

engine = Engine.open("jobs.db", concurrency=2)

@engine.job()
def double(n: int) -> int:
    return 2 * n
"""

GUARDED = """
if __name__ == "__main__":
    jobs = [double.enqueue(n) for n in range(5)]
    {run}
    print([engine.get_job(job.id).result for job in jobs])
"""


def script(place: Place, body: str, name: str = "script.py") -> str:
    (place.folder / name).write_text(APP + textwrap.dedent(body))
    return name


@pytest.mark.parametrize(
    "run",
    [
        "ending = engine.dispatcher.run(drain=True); assert ending.exit_code == 0",
        "engine.dispatcher.start(); [engine.wait(j.id, timeout=20) for j in jobs]; engine.dispatcher.stop()",
        "\n    with engine.dispatcher: [engine.wait(j.id, timeout=20) for j in jobs]",
    ],
    ids=["run", "start-stop", "with"],
)
def test_a_script_with_a_guard_runs_its_own_jobs(place: Place, run: str) -> None:
    done = place.python("", script(place, GUARDED.format(run=run)))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[0, 2, 4, 6, 8]\n"
    assert done.stderr == ""
    assert place.left_over() == []


@pytest.mark.parametrize("call", ["run(drain=True)", "start()"])
def test_a_script_without_a_guard_is_told_so_and_ends(place: Place, call: str) -> None:
    done = place.python("", script(place, f"double.enqueue(1)\nengine.dispatcher.{call}\n"), within=20)
    assert done.returncode != 0
    assert "__main__" in done.stderr.strip().splitlines()[-1] + done.stderr
    assert 'if __name__ == "__main__":' in done.stderr
    assert place.left_over() == []
    assert place.job(1).starts == 0


@pytest.mark.parametrize("argv", [["-c"], ["-i", "-c"]], ids=" ".join)
def test_at_a_prompt_the_remedy_is_named(place: Place, argv: list[str]) -> None:
    done = place.python("", *argv, APP + "\nengine.dispatcher.start()")
    assert "AppReferenceError" in done.stderr
    last = [line for line in done.stderr.splitlines() if "AppReferenceError" in line][-1]
    assert "module" in last
    assert place.left_over() == []


def test_the_supervisors_own_process_ends_with_the_script_that_forgot_to_stop_it(place: Place) -> None:
    body = """
    if __name__ == "__main__":
        engine.dispatcher.start()
        print(engine.wait(double.enqueue(21).id, timeout=20).result, flush=True)
    """
    done = place.python("", script(place, body), within=20)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    assert place.left_over() == []


def test_an_app_that_does_not_import_burns_no_attempt_and_exits_70(place: Place) -> None:
    job_id = place.app.quick.options(max_retries=0).enqueue().id
    (place.folder / "broken.py").write_text("import tasks\nraise ValueError('half an app')\n")
    supervisor = place.supervise(app="broken:engine")
    assert supervisor.ended(15) == 70
    assert supervisor.err.count("Traceback (most recent call last)") == 1
    assert supervisor.err.count("ValueError: half an app") <= 2
    job = place.job(job_id)
    assert (str(job.state), job.starts, job.attempt) == ("pending", 0, 0)
    assert place.left_over() == []


@pytest.mark.parametrize("code", [0, 3])
def test_an_app_that_exits_at_import_burns_no_attempt_and_exits_70(place: Place, code: int) -> None:
    job_id = place.app.quick.options(max_retries=0).enqueue().id
    (place.folder / "broken.py").write_text(f"import os\nos._exit({code})\n")
    supervisor = place.supervise(app="broken:engine")
    assert supervisor.ended(15) == 70
    assert f"status {code}" in supervisor.err
    assert "Traceback" not in supervisor.err
    assert place.job(job_id).starts == 0


@pytest.mark.parametrize(
    ("app", "said"),
    [("nowhere:engine", "nowhere"), ("tasks:nothing", "nothing"), ("tasks:measured", "measured")],
)
def test_an_app_that_is_none_exits_70_naming_it(place: Place, app: str, said: str) -> None:
    supervisor = place.supervise(app=app)
    assert supervisor.ended(15) == 70
    assert said in supervisor.err
    assert supervisor.err.count("Traceback") <= 1


def test_an_app_that_breaks_later_leaves_the_jobs_alone(place: Place) -> None:
    """The last good worker dies, and no new one comes up any more."""
    supervisor = place.supervising("-c", "1")
    (place.folder / "tasks.py").write_text("raise ValueError('deployed too early')\n")
    bad = place.app.end_badly.enqueue("sigkill").id
    place.ended(bad, "failed")
    good = place.app.quick.options(max_retries=0).enqueue(n=1).id
    from tests.whole.harness import TASKS, until

    until(lambda: "deployed too early" in supervisor.err or place.job(good).result == 1, "it tries again")
    (place.folder / "tasks.py").write_text(TASKS.read_text())
    job = place.complete(good, within=40)
    assert (job.result, job.attempt) == (1, 1)
    assert is_alive(supervisor.pid)


def test_the_store_in_memory_lives_in_one_process(place: Place) -> None:
    body = """
    from mpdispatch import open_store, Dispatcher
    memory = Engine.build(Dispatcher(store=open_store(":memory:"), concurrency=1))
    memory.register(double)
    if __name__ == "__main__":
        with memory.dispatcher:
            print(memory.wait(memory.enqueue("double", n=4).id, timeout=20).result)
    """
    done = place.python("", script(place, body))
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout == "8\n", done.stderr


# ------------------------------------------------------------------ the first worker

COUNTED = """
import os, pathlib, time
from mpdispatch import Engine

engine = Engine.open("jobs.db")
with open("imports", "a") as file:
    file.write(f"{os.getpid()}\\n")

@engine.job
def hold() -> int:
    pathlib.Path("begun").touch()
    while not pathlib.Path("gate").exists():
        time.sleep(0.005)
    return os.getpid()
"""


def _imports(place: Place) -> list[int]:
    return [int(line) for line in (place.folder / "imports").read_text().split()]


def _run_hold(place: Place) -> int:
    """The pid of the worker that ran it."""
    return int(place.cli("enqueue", "--wait", "hold", "--store", "jobs.db").stdout.split()[-1])


@pytest.mark.parametrize("more", ["", "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"])
def test_the_first_worker_gives_way_to_a_fork_when_it_has_nothing_to_do(place: Place, more: str) -> None:
    (place.folder / "counted.py").write_text(COUNTED + more)
    (place.folder / "gate").touch()
    supervisor = place.supervise("-c", "1", app="counted:engine")
    _run_hold(place)
    first, zygote = until(lambda: len(found := _imports(place)) == 2 and found, "the zygote to import the app")
    until(lambda: not is_alive(first), "the first worker to end")
    ran = _run_hold(place)
    assert ran not in (first, zygote)
    assert len(_imports(place)) == 2, "the fork imported nothing"
    assert sorted(supervisor.workers) == sorted([zygote, ran])
    assert "warning" not in supervisor.err
    assert "error" not in supervisor.err
    assert "Traceback" not in supervisor.err


@pytest.mark.parametrize("where", ["environment", "app", "file"])
def test_start_method_spawn_leaves_workers_unshared(place: Place, where: str) -> None:
    (place.folder / "gate").touch()
    source = COUNTED.replace('jobs.db"', 'jobs.db", start_method="spawn"') if where == "app" else COUNTED
    (place.folder / "counted.py").write_text(source)
    if where == "file":
        (place.folder / "mpdispatch.yaml").write_text("dispatch: {start_method: spawn}")
    env = {"start_method": "spawn"} if where == "environment" else {}
    supervisor = place.supervise("-c", "1", app="counted:engine", **env)
    first = _run_hold(place)
    assert supervisor.workers == [first], "there is no zygote beside it"
    os.kill(first, signal.SIGKILL)
    until(lambda: not is_alive(first), "its end")
    second = _run_hold(place)
    assert _imports(place) == [first, second], "each worker has imported the app itself"
    assert supervisor.workers == [second]
    assert "error" not in supervisor.err


def test_an_apps_own_start_method_beats_that_of_a_file(place: Place) -> None:
    (place.folder / "gate").touch()
    (place.folder / "mpdispatch.yaml").write_text("dispatch: {start_method: spawn}")
    source = COUNTED.replace('jobs.db"', 'jobs.db", start_method="forkserver"')
    (place.folder / "counted.py").write_text(source)
    supervisor = place.supervise("-c", "1", app="counted:engine")
    first = _run_hold(place)
    os.kill(first, signal.SIGKILL)
    until(lambda: len(supervisor.workers) == 2 and first not in supervisor.workers, "a zygote and a worker")


def test_the_first_worker_does_not_give_way_while_it_runs_something(place: Place) -> None:
    (place.folder / "counted.py").write_text(COUNTED)
    # There before the worker is: one that waits for the job may have given way already.
    job = place.json("enqueue", "hold")
    supervisor = place.supervise("-c", "1", app="counted:engine")
    until((place.folder / "begun").exists, "the job to begin")
    first, zygote = until(lambda: len(found := _imports(place)) == 2 and found, "the zygote to import the app")
    # A look at every worker at each poll, and at each of these.
    for _ in range(20):
        place.json("enqueue", "hold")
    assert sorted(supervisor.workers) == sorted([zygote, first])
    (place.folder / "gate").touch()
    until(lambda: place.unended() == 0, "the jobs to end")
    assert place.show(job["id"])["starts"] == 1
    assert place.show(job["id"])["result"] == first


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_zygote_that_is_killed_or_too_slow_once_is_followed_by_one_with_the_app(
    place: Place, number: int
) -> None:
    (place.folder / "counted.py").write_text(COUNTED)
    (place.folder / "gate").touch()
    place.supervise("-c", "1", app="counted:engine")
    _run_hold(place)
    first, zygote = until(lambda: len(found := _imports(place)) == 2 and found, "the zygote to import the app")
    until(lambda: not is_alive(first), "the first worker to give way")
    fork = _run_hold(place)
    os.kill(zygote, number)
    os.kill(fork, signal.SIGKILL)
    until(lambda: not is_alive(fork), "its end")
    until(lambda: _run_hold(place) not in (first, fork), "another worker")
    until(lambda: len(_imports(place)) == 4, "a worker and a zygote to import the app")
    until(lambda: _run_hold(place) not in _imports(place), "a fork that has the app")
    assert not is_alive(zygote)


NOT_TWICE = """
import os, signal
from mpdispatch import Engine

engine = Engine.open("jobs.db")
forks = 0

def not_twice():
    global forks
    forks += 1
    if forks == 2:
        {fate}

os.register_at_fork(after_in_child=not_twice)  # a worker from the zygote is forked twice

@engine.job
def plain() -> int:
    return os.getpid()
"""


@pytest.mark.parametrize("fate", ["os._exit(1)", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_the_first_worker_stays_if_the_app_does_not_survive_a_fork(place: Place, fate: str) -> None:
    (place.folder / "frail.py").write_text(NOT_TWICE.format(fate=fate))
    supervisor = place.supervise("-c", "1", app="frail:engine")
    ran = [place.json("enqueue", "--wait", "plain")["result"] for _ in range(3)]
    if "exit" in fate:
        until(lambda: supervisor.err.count("did not start") == 2, "two forks that do not start")
    ran += [place.json("enqueue", "--wait", "plain")["result"] for _ in range(3)]
    assert all(ran)
    assert supervisor.err.count("did not start") <= 2, "then it is given up"


CONNECTED = """
import os, socket
from mpdispatch import Engine

{line}
engine = Engine.open("jobs.db")
with open("imports", "a") as file:
    file.write(f"{{os.getpid()}}\\n")

@engine.job
def plain() -> int:
    return os.getpid()
"""


@pytest.mark.parametrize(
    "line",
    [
        "kept = socket.socketpair()",
        "import asyncio; loop = asyncio.new_event_loop()",
        "import select; poll = select.epoll()",
        "kept = os.pipe()",
        "kept = os.eventfd(0)",
        "import subprocess; kept = subprocess.Popen(['sleep', '1000'])",
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "import sqlite3; kept = sqlite3.connect('own.db'); kept.execute('CREATE TABLE IF NOT EXISTS t (x)')",
    ],
)
def test_workers_do_not_share_what_the_app_has_open(place: Place, line: str) -> None:
    (place.folder / "connected.py").write_text(CONNECTED.format(line=line))
    supervisor = place.supervise("-c", "1", app="connected:engine")
    ran = [place.json("enqueue", "--wait", "plain")["result"] for _ in range(2)]
    assert ran[0] == ran[1], "it was not replaced by a fork"
    os.kill(ran[0], signal.SIGKILL)
    until(lambda: not is_alive(ran[0]), "its end")
    ran.append(place.json("enqueue", "--wait", "plain")["result"])
    assert ran[2] != ran[0]
    assert _imports(place) == [ran[0], ran[2]], "each worker has imported the app itself"
    assert "error" not in supervisor.err
    supervisor.kill(signal.SIGTERM)
    assert supervisor.ended() == 0
    assert place.left_over() == []


def test_what_an_import_has_started_in_the_zygote_ends_with_it(place: Place) -> None:
    # Not in the first worker, or the zygote would not import it.
    second = "if os.path.exists('imports'): import subprocess; subprocess.Popen(['sleep', '1000'])"
    (place.folder / "connected.py").write_text(CONNECTED.format(line=second))
    supervisor = place.supervise("-c", "1", app="connected:engine")
    place.json("enqueue", "--wait", "plain")
    _, zygote = until(lambda: len(found := _imports(place)) == 2 and found, "the zygote to import the app")
    until(lambda: not is_alive(zygote), "it to be given up")
    supervisor.kill(signal.SIGTERM)
    assert supervisor.ended() == 0
    assert place.left_over() == []


RANDOM = """
import functools, os, pathlib, random, time
import numpy.random
from mpdispatch import Engine

engine = Engine.open("jobs.db")
with open("imports", "a") as file:
    file.write(f"{os.getpid()}\\n")

@functools.cache
def first_draw() -> list:
    return [os.getpid(), random.random(), numpy.random.random()]

@engine.job
def draw() -> list:
    while len(list(pathlib.Path(".").glob("at.*"))) < 2:
        pathlib.Path(f"at.{os.getpid()}").touch()
        time.sleep(0.005)
    return first_draw()
"""
# A stand-in for its global generator, which the import seeds and a fork copies.
NUMPY_RANDOM = "import random as _r\n_state = _r.Random(1)\nseed, random = _state.seed, _state.random\n"


def test_workers_that_share_the_apps_memory_draw_other_numbers(place: Place) -> None:
    (place.folder / "numpy").mkdir()
    (place.folder / "numpy" / "__init__.py").touch()
    (place.folder / "numpy" / "random.py").write_text(NUMPY_RANDOM)
    (place.folder / "drawing.py").write_text(RANDOM)
    place.supervise("-c", "2", app="drawing:engine")

    def drawn_by_forks() -> list[Any] | None:
        for left in place.folder.glob("at.*"):
            left.unlink()
        ids = [place.json("enqueue", "draw")["id"] for _ in range(2)]
        until(lambda: place.unended() == 0, "the draws to end")
        found = [place.show(job_id)["result"] for job_id in ids]
        return None if {each[0] for each in found} & set(_imports(place)) else found

    one, two = until(drawn_by_forks, "two workers that share the app's memory")
    assert one[0] != two[0]
    assert (one[1] != two[1], one[2] != two[2]) == (True, True)
