"""SIGTERM to a worker ends nothing: it is for its supervisor to stop it. What the job starts ends by it as ever."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mpdispatch.model import Completed
from tests.pool.probes import pid_in
from tests.pool.rig import Rig, Settled


def _completed(settled: Settled) -> bytes:
    assert isinstance(settled.outcome, Completed), settled.outcome
    return settled.outcome.result


def test_a_running_job_goes_on(rig: Rig, tmp_path: Path) -> None:
    worker = rig.ready()
    job = rig.give(worker, "hold", started=tmp_path / "started", gate=tmp_path / "gate")
    pid_in(tmp_path / "started")
    for _ in range(3):
        os.kill(worker.pid, signal.SIGTERM)
        rig.receive()
    (tmp_path / "gate").touch()
    assert _completed(rig.settled(job)) == str(worker.pid).encode()


def test_an_idle_worker_takes_its_next_job(rig: Rig) -> None:
    worker = rig.ready()
    os.killpg(worker.pid, signal.SIGTERM)
    assert _completed(rig.settled(rig.give(worker, "echo", value=1))) == b"1"


def test_a_worker_that_imports_an_app_which_ends_itself_by_sigterm_goes_on(
    tmp_path: Path, no_leaks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As servers' own handlers of it do, if a module of theirs is imported."""
    (tmp_path / "server_app.py").write_text(
        "import signal, sys\nfrom tests.pool.app import engine\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    other = Rig(tmp_path, target="server_app:engine")
    try:
        other.open()
        worker = other.ready()
        os.kill(worker.pid, signal.SIGTERM)
        assert _completed(other.settled(other.give(worker, "echo", value=1))) == b"1"
    finally:
        other.close()


def test_a_handler_s_own_disposition_ends_with_its_job(rig: Rig) -> None:
    worker = rig.ready()
    assert _completed(rig.settled(rig.give(worker, "take_sigterm"))) == b'"taken"'
    os.kill(worker.pid, signal.SIGTERM)
    assert _completed(rig.settled(rig.give(worker, "echo", value=1))) == b"1"


@pytest.mark.parametrize("how", ["fork", "spawn", "program"])
def test_what_a_job_starts_ends_by_sigterm(rig: Rig, how: str) -> None:
    job = rig.give(rig.ready(), "terminate", how=how)
    assert _completed(rig.settled(job)) == str(-signal.SIGTERM).encode()


def test_a_worker_that_is_just_being_started_is_not_ended_either(rig: Rig) -> None:
    worker = rig.pool.spawn()
    os.kill(worker.pid, signal.SIGTERM)  # before its first instruction
    rig.until(lambda: worker in rig.pool.ready, "the worker")
    assert _completed(rig.settled(rig.give(worker, "echo", value=1))) == b"1"
