"""Signals and the keyboard: drain, abort, and their exit codes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Protocol

import pytest

from tests.whole.harness import CLI, Place, Terminal, is_alive, until


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
