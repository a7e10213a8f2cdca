"""Signals and the keyboard: drain, abort, and their exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Protocol

import pytest

from tests.whole.harness import CLI, Place, Process, Terminal, descendants, is_alive, until


class OpenTerminal(Protocol):
    def __call__(self, *argv: str) -> Terminal: ...


@pytest.fixture
def terminal(place: Place) -> Iterator[OpenTerminal]:
    made: list[Terminal] = []

    def start(*argv: str) -> Terminal:
        made.append(Terminal(place, argv))
        return made[-1]

    try:
        yield start
    finally:
        for each in made:
            each.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_jobs_finish_and_exits_0(place: Place, number: int) -> None:
    supervisor = place.supervising("-c", "2")
    running = place.app.until_file.options(max_retries=0).enqueue("go").id
    place.started(running)
    supervisor.kill(number)
    until(lambda: "stopping" in supervisor.err, "it stops")
    late = place.app.quick.enqueue().id
    (place.folder / "go").touch()
    assert supervisor.ended() == 0
    assert str(place.job(running).state) == "completed"
    assert str(place.job(late).state) == "pending", "nothing is claimed while it drains"
    assert place.left_over() == []
    assert "Traceback" not in supervisor.err


def test_jobs_that_outlast_the_drain_go_back_unspent_and_it_exits_75(place: Place) -> None:
    supervisor = place.supervising("-c", "2", shutdown_timeout=0.3, cancel_grace=0.2)
    soft = place.app.until_file.enqueue("never").id
    hard = place.app.ignore_everything.options(max_retries=1).enqueue().id
    pids = [place.started(job_id)[3] for job_id in (soft, hard)]
    supervisor.kill(signal.SIGTERM)
    assert supervisor.ended(5) == 75
    assert not any(map(is_alive, pids))
    for job_id in (soft, hard):
        job = place.job(job_id)
        assert (str(job.state), job.attempt, job.starts) == ("pending", 0, 1)
        assert [a["cause"] for a in place.show(job_id)["attempts"]] == ["aborted"]
    assert place.left_over() == []


def test_a_started_job_without_a_retry_is_not_run_again_after_an_abort(place: Place) -> None:
    supervisor = place.supervising("-c", "1", shutdown_timeout=0, cancel_grace=0)
    job_id = place.app.until_file.options(max_retries=0).enqueue("never").id
    place.started(job_id)
    supervisor.kill(signal.SIGTERM)
    assert supervisor.ended(5) == 75
    assert str(place.job(job_id).state) == "failed"
    place.drain()
    assert len(place.starts_of(job_id)) == 1


def test_a_second_signal_ends_it_at_once_with_75(place: Place) -> None:
    supervisor = place.supervising("-c", "1")
    job_id = place.app.ignore_everything.options(max_retries=1).enqueue().id
    place.started(job_id)
    supervisor.kill(signal.SIGTERM)
    until(lambda: "stopping" in supervisor.err, "it stops")
    assert supervisor.popen.poll() is None
    supervisor.kill(signal.SIGTERM)
    assert supervisor.ended(2) == 75
    assert str(place.job(job_id).state) == "pending"
    assert place.job(job_id).attempt == 0
    assert place.left_over() == []


def test_ctrl_c_in_a_terminal_drains_and_exits_0_without_a_traceback(
    place: Place, terminal: OpenTerminal
) -> None:
    screen = terminal(*CLI, "supervise", "tasks:engine", "-c", "2")
    job_id = place.app.until_file.options(max_retries=0).enqueue("go").id
    place.started(job_id)
    screen.type("\x03")
    until(lambda: "stopping" in screen.read(), "it stops")
    (place.folder / "go").touch()
    assert screen.ended() == 0
    assert "Traceback" not in screen.text
    assert "KeyboardInterrupt" not in screen.text
    assert place.job(job_id).result == "go", "Ctrl-C reached the supervisor only"


def test_a_second_ctrl_c_ends_it_at_once_with_75(place: Place, terminal: OpenTerminal) -> None:
    screen = terminal(*CLI, "supervise", "tasks:engine", "-c", "2")
    job_id = place.app.until_file.enqueue("never").id
    place.started(job_id)
    screen.type("\x03")
    until(lambda: "stopping" in screen.read(), "it stops")
    screen.type("\x03")
    assert screen.ended(3) == 75
    assert "Traceback" not in screen.text
    assert str(place.job(job_id).state) == "pending"
    assert place.left_over() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_app_is_being_imported_ends_it_cleanly(place: Place, number: int) -> None:
    (place.folder / "slow.py").write_text("import time\nopen('importing', 'w').close()\ntime.sleep(60)\n")
    supervisor = place.supervise(app="slow:engine")
    until((place.folder / "importing").exists, "a worker imports the app")
    supervisor.kill(number)
    assert supervisor.ended(5) == 0
    assert "Traceback" not in supervisor.err
    assert place.left_over() == []


def test_a_closed_terminal_ends_it(place: Place, terminal: OpenTerminal) -> None:
    """SIGHUP: drain, for nobody is there any more."""
    screen = terminal(*CLI, "supervise", "tasks:engine", "-c", "2")
    place.complete(place.app.quick.enqueue().id)
    screen.hang_up()
    until(lambda: place.left_over() == [], "nothing is left", within=5)


@pytest.mark.parametrize(
    ("shell", "number"),
    [
        pytest.param('nohup "$@" & echo $! > pid; wait', signal.SIGHUP, id="nohup"),
        pytest.param('"$@" & echo $! > pid; wait', signal.SIGINT, id="the background of a script"),
    ],
)
def test_a_signal_it_was_started_to_ignore_does_not_end_it(place: Place, shell: str, number: int) -> None:
    shown = place.start(["sh", "-c", shell, "sh", *CLI, "supervise", "tasks:engine", "-c", "1"])
    place.complete(place.app.quick.enqueue().id)
    pid = int((place.folder / "pid").read_text())
    for _ in range(3):
        os.kill(pid, number)
    # What is enqueued after a signal that stops is not run any more.
    place.complete(place.app.quick.enqueue().id)
    assert is_alive(pid)
    os.kill(pid, signal.SIGTERM)
    shown.ended()
    assert place.left_over() == []


def test_a_second_signal_ends_it_while_a_foreign_writer_holds_the_file(place: Place) -> None:
    supervisor = place.supervising("-c", "1")
    job_id = place.app.until_file.enqueue("go").id
    pid = place.started(job_id)[3]
    holder = place.hold_write_lock()
    supervisor.kill(signal.SIGTERM)
    until(lambda: "stopping" in supervisor.err, "it stops")
    supervisor.kill(signal.SIGTERM)
    assert supervisor.ended(10) == 75
    assert not is_alive(pid)
    holder.kill()
    (place.folder / "go").touch()
    assert place.drain("-c", "1") == 0
    assert place.job(job_id).result == "go"
    place.assert_sound()


# ---------------------------------------------------------------- SIGTERM to the whole service


def _terminate_service(supervisor: Process) -> None:
    """As service managers do by default: to every process of the service."""
    for pid in [supervisor.pid, *descendants(supervisor.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def test_a_sigterm_to_every_process_of_the_service_lets_running_jobs_finish(place: Place) -> None:
    supervisor = place.supervising("-c", "3")
    running = [place.app.until_file.options(max_retries=0).enqueue("go").id for _ in range(2)]
    running.append(place.app.until_file.options(max_retries=3).enqueue("go").id)
    for job_id in running:
        place.started(job_id)
    assert len(descendants(supervisor.pid)) >= 4, "workers and the zygote"
    _terminate_service(supervisor)
    until(lambda: "stopping" in supervisor.err, "it stops")
    (place.folder / "go").touch()
    assert supervisor.ended() == 0
    for job_id in running:
        job = place.job(job_id)
        assert (str(job.state), job.attempt, job.starts) == ("completed", 1, 1)
    assert place.left_over() == []
    assert "Traceback" not in supervisor.err


def test_a_sigterm_to_every_process_of_an_idle_service_ends_it_with_0(place: Place) -> None:
    supervisor = place.supervising("-c", "2")
    _terminate_service(supervisor)
    assert supervisor.ended(5) == 0
    assert place.left_over() == []
    assert "Traceback" not in supervisor.err


def test_a_command_that_the_sigterm_of_its_service_ended_goes_back_unspent(place: Place) -> None:
    supervisor = place.supervising("-c", "1", "--allow-commands")
    program = "touch began; exec sleep 60"
    done = place.cli("run", "--store", "jobs.db", "--max-retries", "1", "--", "sh", "-c", program)
    assert done.returncode == 0, done
    job_id = int(done.stdout)
    until((place.folder / "began").exists, "the program runs")
    _terminate_service(supervisor)
    assert supervisor.ended(5) == 75
    job = place.job(job_id)
    assert (str(job.state), job.attempt, job.starts) == ("pending", 0, 1)
    assert [a["cause"] for a in place.show(job_id)["attempts"]] == ["aborted"]


def test_hooks_are_told_of_a_stop_by_a_sigterm_to_every_process(place: Place) -> None:
    with (place.folder / "tasks.py").open("a") as tasks:
        tasks.write(HOOKED)
    supervisor = place.supervising("-c", "1")
    job_id = place.app.until_file.options(max_retries=0).enqueue("go").id
    place.started(job_id)
    _terminate_service(supervisor)
    until(lambda: "stopping" in supervisor.err, "it stops")
    (place.folder / "go").touch()
    assert supervisor.ended() == 0
    assert (place.folder / "told").read_text().split() == ["completed", str(job_id), "shutdown", "0"]


HOOKED = """

from mpdispatch import hooks


class Told(hooks.Extension):
    name = "told"

    def _tell(self, *what):
        with open(HERE / "told", "a") as file:
            print(*what, file=file)

    def on_job_completed(self, event):
        if event.name == "until_file":
            self._tell("completed", event.job_id)

    def on_shutdown(self, event):
        self._tell("shutdown", event.exit_code)


engine = Engine.build(
    Dispatcher(store=SQLiteStore(HERE / "jobs.db")), extensions=[Told()], backoff=backoff.Constant(0)
)
engine.register(until_file.__wrapped__)
engine.register(plain.__wrapped__)
"""
