"""Bringing a supervisor up: an app that does not import burns nothing; later failures keep what there is."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpdispatch.clock import SystemClock
from mpdispatch.config import Config
from mpdispatch.errors import AppImportError, StoreForeign
from mpdispatch.execution.describe import AppDescription
from mpdispatch.execution.rulebook import DescribedRulebook
from mpdispatch.model import JobState, NewJob
from mpdispatch.store.sqlite import SQLiteStore
from mpdispatch.supervisor import Plan, SupervisorThread
from tests.pool.probes import lives, open_descriptors, pid_in, state_of, until, zombies
from tests.pool.rig import app_reference
from tests.supervisor.conftest import Build
from tests.supervisor.house import House

LOG = logging.getLogger("mpdispatch.test")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    before = open_descriptors()
    made = SQLiteStore(tmp_path / "jobs.db", durability="process")
    yield made
    made.close()
    assert open_descriptors() == before
    until(lambda: not zombies())


def _plan(store: SQLiteStore) -> Callable[[AppDescription], Plan]:
    def plan(description: AppDescription) -> Plan:
        return Plan(
            store=store,
            config=Config(concurrency=2, poll_interval=0.1),
            rulebook=DescribedRulebook(description),
            queue_configs=(),
        )

    return plan


def _module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> str:
    """An app of its own; gives its target."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    return f"{name}:engine"


COUNT = "from tests.pool.app import sign, engine\nsign({path!r})\n"


def _enqueue(store: SQLiteStore, name: str = "noop") -> int:
    return store.enqueue(NewJob(name=name, payload=b"{}"), now=SystemClock().now()).id


def _wait(store: SQLiteStore, job_id: int) -> JobState:
    until(lambda: store.state_of(job_id).is_terminal)
    return store.state_of(job_id)


# ---------------------------------------------------------------- the first worker

FAULTS = {
    "an import error": ("import mpdispatch.nowhere", "mpdispatch.nowhere"),
    "a syntax error": ("def (", "SyntaxError"),
    "its own exception": ("raise RuntimeError('no database')", "no database"),
    "sys.exit": ("import sys; sys.exit(4)", "SystemExit"),
    "os._exit": ("import os; os._exit(9)", "status 9"),
    "junk in the channel": ("from tests.pool.mischief import act; act('junk'); act('sigkill')", "SIGKILL"),
    "no engine": ("del engine", "no attribute 'engine'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_app_that_does_not_import_is_tried_three_times_and_no_job_is_touched(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    text, reason = FAULTS[fault]
    path = str(tmp_path / "tries")
    if fault != "a syntax error":
        text = COUNT.format(path=path) + text
    target = _module(tmp_path, monkeypatch, "broken_app", text)
    job_id = _enqueue(store)
    thread = SupervisorThread(app_reference(target), _plan(store), log=LOG)
    with pytest.raises(AppImportError, match="broken_app") as caught:
        thread.start()
    assert reason in str(caught.value) + caught.value.traceback
    assert caught.value.exit_code == 70
    if fault != "a syntax error":
        assert len((tmp_path / "tries").read_text().split()) == 3
    assert store.get(job_id).starts == 0
    assert store.supervisors() == []
    assert not thread.is_alive


def test_an_import_error_carries_its_traceback(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = _module(tmp_path, monkeypatch, "traced_app", "def deep():\n    1 / 0\n\n\ndeep()\n")
    with pytest.raises(AppImportError) as caught:
        SupervisorThread(app_reference(target), _plan(store), log=LOG).start()
    assert "ZeroDivisionError" in caught.value.traceback
    assert "traced_app.py" in caught.value.traceback
    assert "in deep" in caught.value.traceback


def test_a_first_failure_is_not_the_last_word(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = COUNT.format(path=str(tmp_path / "tries")) + (
        f"if len(open({str(tmp_path / 'tries')!r}).readlines()) < 3:\n    raise OSError('not yet')\n"
    )
    target = _module(tmp_path, monkeypatch, "slow_app", text)
    thread = SupervisorThread(app_reference(target), _plan(store), log=LOG)
    thread.start()
    assert _wait(store, _enqueue(store)) is JobState.COMPLETED
    ending = thread.stop()
    assert ending is not None
    assert ending.exit_code == 0


def test_a_store_that_is_none_stops_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    before = open_descriptors()
    import sqlite3

    foreign = sqlite3.connect(tmp_path / "jobs.db")
    foreign.execute("CREATE TABLE theirs (a)")
    foreign.close()
    store = SQLiteStore(tmp_path / "jobs.db")
    with pytest.raises(StoreForeign):
        SupervisorThread(app_reference(), _plan(store), log=LOG).start()
    store.close()
    assert open_descriptors() == before
    until(lambda: not zombies())


# ---------------------------------------------------------------- on a thread


def test_a_thread_runs_jobs_and_stops_when_told(store: SQLiteStore) -> None:
    thread = SupervisorThread(app_reference(), _plan(store), log=LOG)
    thread.start()
    assert _wait(store, _enqueue(store)) is JobState.COMPLETED
    ending = thread.stop(timeout=5)
    assert ending is not None
    assert (ending.exit_code, ending.completed) == (0, 1)
    assert store.supervisors() == []


# ---------------------------------------------------------------- later workers


def test_later_boot_failures_keep_the_old_workers_and_back_off(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = build(config={"concurrency": 2})
    (worker,) = house.ready()
    monkeypatch.setenv("BOOT_ACTION", "exit 3")
    house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    second = house.enqueue("noop")
    house.until(lambda: house.supervisor._assigner.boot_failures >= 2)
    house.steps(10)
    assert worker in house.workers
    (tmp_path / "gate").touch()
    (job,) = house.ended(second)
    assert (job.state, job.worker_pid) == (JobState.COMPLETED, worker.pid)
    # The app works again: at the next try there is a second worker.
    monkeypatch.delenv("BOOT_ACTION")
    house.clock.advance(40)
    house.enqueue("hold", started=tmp_path / "a", gate=tmp_path / "b")
    house.enqueue("hold", started=tmp_path / "c", gate=tmp_path / "b")
    house.ready(2)
    (tmp_path / "b").touch()


def test_without_any_worker_claimed_jobs_go_back_and_boots_are_tried_ever_more_rarely(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (worker,) = house.ready()
    os.kill(worker.pid, 19)
    until(lambda: state_of(worker.pid) == "T")
    job_id = house.enqueue("noop")
    house.until(lambda: worker.hand)
    monkeypatch.setenv("BOOT_ACTION", "exit 3")
    os.kill(worker.pid, 9)
    house.clock.freeze()
    for failures in (1, 2, 3):
        house.until(lambda failures=failures: house.supervisor._assigner.boot_failures == failures)
        house.steps(10)
        # Not before its time, and each time later.
        assert house.supervisor._assigner.boot_failures == failures
        assert house.crew.pool.workers == []
        house.clock.advance(0.1 * 2 ** (failures - 1))
    monkeypatch.delenv("BOOT_ACTION")
    job = house.until_state(job_id, JobState.PENDING)
    assert (job.attempt, job.starts) == (0, 1)
    house.clock.advance(2)
    assert house.ended(job_id)[0].state is JobState.COMPLETED


def test_nothing_is_kept_for_a_worker_whose_import_takes_long(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = build(config={"concurrency": 2})
    house.ready()
    house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    monkeypatch.setenv("BOOT_GATE", str(tmp_path / "boot"))
    house.clock.freeze()  # however long it takes to get to its import
    other = house.enqueue("noop")
    house.until((tmp_path / "boot.waiting").exists)
    house.clock.advance(4)
    house.steps(10)
    assert house.state(other) is JobState.RUNNING, "claimed for it: mostly it is up in a moment"
    house.clock.advance(1.5)
    house.until_state(other, JobState.PENDING)  # another supervisor may have a worker free
    house.clock.advance(1)
    house.steps(20)
    assert (house.state(other), house.job(other).starts) == (JobState.PENDING, 1)
    (tmp_path / "boot").touch()
    (job,) = house.ended(other)
    assert (job.state, job.attempt, job.starts) == (JobState.COMPLETED, 1, 2)
    (tmp_path / "gate").touch()


def test_nothing_is_claimed_for_a_worker_that_may_not_be_started_yet(build: Build, tmp_path: Path) -> None:
    house = build(config={"concurrency": 2})
    house.ready()
    house.enqueue("hold", started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    house.clock.freeze()
    for _ in range(8):
        house.supervisor._assigner.boot_failed(house.clock.now().boot_us)
    other = house.enqueue("noop")
    for _ in range(4):
        house.clock.advance(2)
        house.steps(10)
    assert (house.state(other), house.job(other).starts) == (JobState.PENDING, 0)
    (tmp_path / "gate").touch()
    house.ended(other)


def test_a_dead_worker_is_replaced(house: House) -> None:
    (worker,) = house.ready()
    os.kill(worker.pid, 9)
    house.until(lambda: house.crew.pool.ready and house.crew.pool.ready != [worker])
    assert house.ended(house.enqueue("noop"))[0].state is JobState.COMPLETED


def test_a_worker_is_replaced_after_its_number_of_jobs(build: Build) -> None:
    house = build(config={"max_jobs_per_worker": 3})
    jobs = house.ended(*[house.enqueue("noop") for _ in range(9)])
    pids = [job.worker_pid for job in jobs]
    assert {pids.count(pid) for pid in pids} == {3}


# ---------------------------------------------------------------- in the foreground

_PROGRAM = """
import logging, sys
from mpdispatch.config import Config
from mpdispatch.execution.rulebook import DescribedRulebook
from mpdispatch.store.sqlite import SQLiteStore
from mpdispatch.supervisor import Plan, run_foreground
from tests.pool.rig import app_reference

def plan(description):
    config = Config(concurrency=2, poll_interval=0.1, cancel_grace=0.3, heartbeat_interval=0.3)
    return Plan(store=SQLiteStore(sys.argv[1]), config=config, rulebook=DescribedRulebook(description), queue_configs=())

ending = run_foreground(app_reference(), plan, log=logging.getLogger("x"), owns_process=True)
sys.exit(ending.exit_code)
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, tmp_path / "jobs.db"], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(("rings", "name", "status"), [(1, "noop", 0), (2, "stubborn", 75)])
def test_signals_stop_a_supervisor_in_the_foreground(
    store: SQLiteStore, tmp_path: Path, program: subprocess.Popen[bytes], rings: int, name: str, status: int
) -> None:
    payload = b"{}" if name == "noop" else f'{{"started": "{tmp_path}/started"}}'.encode()
    job_id = store.enqueue(NewJob(name=name, payload=payload), now=SystemClock().now()).id
    if name == "noop":
        _wait(store, job_id)
    else:
        worker = pid_in(tmp_path / "started")
    program.terminate()
    if rings == 2:
        program.send_signal(2)
    assert program.wait(timeout=10) == status
    assert store.supervisors() == []
    if name != "noop":
        assert not lives(worker)
        assert store.get(job_id).state is JobState.PENDING


def test_a_daemon_a_job_left_behind_is_ended_and_reaped_by_a_supervisor_that_owns_its_process(
    store: SQLiteStore, tmp_path: Path, program: subprocess.Popen[bytes]
) -> None:
    payload = f'{{"folder": "{tmp_path}", "kinds": ["daemon", "cleared"], "action": "sigkill"}}'.encode()
    job = NewJob(name="leave", payload=payload, max_retries=0)
    job_id = store.enqueue(job, now=SystemClock().now()).id
    pids = [pid_in(tmp_path / name) for name in ("daemon", "cleared")]
    assert _wait(store, job_id) is JobState.FAILED
    for pid in pids:
        until(lambda pid=pid: state_of(pid) == "", what=f"{pid} gone, not even a zombie")


# ---------------------------------------------------------------- an import that takes long

LATE = "mpdispatch.supervisor.boots._LATE_US"
WAITS = (
    "import pathlib, time\nfrom tests.pool.app import engine\n"
    "while not pathlib.Path({gate!r}).exists(): time.sleep(0.01)\n"
)


def _late(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "importing the app for" in record.getMessage()]


def test_an_import_that_takes_long_is_said_once_and_goes_on(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LATE, 100_000)
    gate = tmp_path / "gate"
    target = _module(tmp_path, monkeypatch, "long_app", WAITS.format(gate=str(gate)))
    job_id = _enqueue(store)
    thread = SupervisorThread(app_reference(target), _plan(store), log=LOG)
    opener = threading.Thread(target=lambda: (until(lambda: _late(caplog)), gate.touch()))
    opener.start()
    thread.start()
    opener.join()
    assert _wait(store, job_id) is JobState.COMPLETED
    (said,) = _late(caplog)
    pid = store.get(job_id).worker_pid
    assert f"kill -USR2 {pid}" in said
    thread.stop()


def test_an_import_that_takes_long_is_said_of_a_later_worker_too(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(LATE, 2_000_000)
    gate = tmp_path / "gate"
    house = build(target=_module(tmp_path, monkeypatch, "later_app", WAITS.format(gate=str(gate))))
    house.until(lambda: house.workers)
    house.steps(3)
    house.clock.advance(0.9)
    house.steps(3)
    assert _late(caplog) == []
    house.clock.advance(2.0)
    house.steps(3)
    assert len(_late(caplog)) == 1
    gate.touch()
    house.ready()
