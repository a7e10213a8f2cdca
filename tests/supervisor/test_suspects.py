"""Workers that die in our own code, before they begin what they hold: they are started ever more rarely, and a job that
is the reason ends. Nobody else pays for it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mpdispatch.model import Cause, JobState
from tests.pool.probes import state_of, until
from tests.supervisor.conftest import Build
from tests.supervisor.house import House

# Something in our own code that no test can foresee: what happens to a worker between two jobs.
CURSED = """
import os, signal
from mpdispatch.execution.executor import Executor
from tests.pool.app import engine, sign

sign({log!r})
run = Executor.run

def cursed(executor, job, reference=None):
    if job.idempotency_key == "cursed" and os.path.exists({curse!r}):
        {end}
    return run(executor, job, reference)

Executor.run = cursed
"""
UNREADABLE = """
import os
from mpdispatch.host.start_journal import WorkerRecord
from tests.pool.app import engine, sign

sign({log!r})
attach = WorkerRecord.attach

def cannot(path, index):
    if os.path.exists({curse!r}):
        raise FileNotFoundError(path)
    return attach(path, index)

WorkerRecord.attach = cannot
"""
ENDS = {"by itself": "os._exit(1)", "killed": "os.kill(os.getpid(), signal.SIGKILL)"}
WAITS_S = {"by itself": [0.1, 0.2, 0.4, 0.8], "killed": [0.0, 0.1, 0.2, 0.4]}


class Cursed:
    """A house whose workers end when they come to a cursed job, while there is a curse."""

    def __init__(
        self, build: Build, folder: Path, monkeypatch: pytest.MonkeyPatch, source: str, end: str = ""
    ) -> None:
        self.curse, self._log = folder / "curse", folder / "log"
        self.curse.touch()
        text = source.format(log=str(self._log), curse=str(self.curse), end=end)
        (folder / "cursed_app.py").write_text(text)
        monkeypatch.syspath_prepend(folder)
        self._build = build

    def house(self, **config: object) -> House:
        return self._build(target="cursed_app:engine", config=config)

    @property
    def workers_started(self) -> int:
        return len(self._log.read_text().split()) if self._log.exists() else 0


def _enqueue_cursed(house: House, *, max_retries: int = 0) -> int:
    return house.enqueue("noop", {"idempotency_key": "cursed", "max_retries": max_retries, "priority": 5})


def _failures(house: House) -> int:
    return house.wiring.boot_backoff.failures


@pytest.mark.parametrize("how", ENDS)
def test_a_job_its_workers_die_of_is_ended_and_no_other_pays(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    house = Cursed(build, tmp_path, monkeypatch, CURSED, ENDS[how]).house(prefetch_window=5.0)
    house.ended(house.enqueue("noop"))  # they are known to be short: many go to one worker
    good = [house.enqueue("noop", {"priority": 5, "max_retries": 0}) for _ in range(10)]
    cursed = _enqueue_cursed(house)
    good += [house.enqueue("noop", {"max_retries": 0}) for _ in range(30)]
    (job,) = house.ended(cursed)
    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    assert house.causes(cursed) == [Cause.WORKER_DIED]
    assert job.last_error is not None
    assert "5 workers in a row ended before they began it" in job.last_error.message
    assert {job.state for job in house.ended(*good)} == {JobState.COMPLETED}
    assert {job.attempt for job in house.ended(*good)} == {1}


@pytest.mark.parametrize("how", ENDS)
def test_workers_that_die_before_they_begin_are_started_ever_more_rarely(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    cursed = Cursed(build, tmp_path, monkeypatch, CURSED, ENDS[how])
    house = cursed.house()
    house.ended(house.enqueue("noop"))
    _enqueue_cursed(house)
    house.clock.freeze()
    for started, wait_s in enumerate(WAITS_S[how], 1):
        if wait_s:
            house.until(lambda: not house.workers, what=f"the end of worker {started}")
            house.steps(10)
            house.clock.advance(wait_s * 0.9)
            house.steps(5)
            assert (cursed.workers_started, house.workers) == (started, []), "not before its time"
            house.clock.advance(wait_s * 0.11)
        house.until(lambda started=started: cursed.workers_started > started, what="the next worker")


def test_a_cursed_job_with_retries_runs_when_the_curse_is_lifted(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursed = Cursed(build, tmp_path, monkeypatch, CURSED, ENDS["by itself"])
    house = cursed.house()
    job_id = _enqueue_cursed(house, max_retries=1)
    house.until_state(job_id, JobState.RETRYING)
    cursed.curse.unlink()
    house.clock.advance(120)
    (job,) = house.ended(job_id)
    assert (job.state, job.attempt) == (JobState.COMPLETED, 2)


def test_a_worker_beside_it_goes_on_with_the_rest_meanwhile(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = Cursed(build, tmp_path, monkeypatch, CURSED, ENDS["by itself"]).house(concurrency=2)
    house.enqueue("hold", {"priority": 9}, started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    cursed = _enqueue_cursed(house)
    good = [house.enqueue("noop") for _ in range(20)]
    assert house.ended(cursed)[0].state is JobState.FAILED
    (tmp_path / "gate").touch()
    assert {job.state for job in house.ended(*good)} == {JobState.COMPLETED}


def test_workers_that_cannot_even_read_a_job_are_no_job_s_fault(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursed = Cursed(build, tmp_path, monkeypatch, UNREADABLE)
    house = cursed.house()
    job_id = house.enqueue("noop", {"max_retries": 0})
    house.until(lambda: _failures(house) >= 4, what="four deaths")
    for _ in range(4):
        house.clock.advance(31)
        before = _failures(house)
        house.until(lambda before=before: _failures(house) > before, what="another death")
    cursed.curse.unlink()
    house.clock.advance(31)
    (job,) = house.ended(job_id)
    assert (job.state, job.attempt) == (JobState.COMPLETED, 1)


def test_an_idle_worker_that_is_killed_is_replaced_at_once_and_the_next_times_later(house: House) -> None:
    house.ready()
    house.clock.freeze()
    for wait_s in (0.0, 0.1, 0.2):
        (worker,) = house.ready()
        os.kill(worker.pid, signal.SIGKILL)
        house.until(lambda worker=worker: worker not in house.workers)
        if wait_s:
            house.steps(10)
            assert house.workers == []
            house.clock.advance(wait_s)
    house.ready()


def test_a_worker_that_is_killed_with_jobs_it_has_not_begun_is_replaced_at_once(house: House) -> None:
    (worker,) = house.ready()
    os.kill(worker.pid, signal.SIGSTOP)
    until(lambda: state_of(worker.pid) == "T")
    job_id = house.enqueue("noop", {"max_retries": 0})
    house.until(lambda: worker.assigned)
    house.clock.freeze()  # no time passes any more
    os.kill(worker.pid, signal.SIGKILL)
    (job,) = house.ended(job_id)
    assert (job.state, job.attempt) == (JobState.COMPLETED, 1)
