"""A supervisor on a cluster, from outside: its command line, a real store, and processes that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import distributed
import pytest

from mpdispatch import AppImportError, Config, Engine, JobState, PoolUnavailable, SQLiteStore
from mpdispatch.clock import SystemClock
from mpdispatch.model import Cause
from mpdispatch.pool.dask import cluster as connection
from mpdispatch.supervisor import Plan, SupervisorThread, run_foreground
from mpdispatch.supervisor.runtime import Runtime
from tests.conftest import Cli, Mp
from tests.dask.app import engine as app
from tests.dask.cluster import ROOT, Cluster, cluster
from tests.dask.rig import DaskRig
from tests.pool.probes import lives, until
from tests.pool.rig import app_reference
from tests.supervisor.house import LOG

Supervise = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """The app, in this process, on the store of the test."""
    store = SQLiteStore(tmp_path / "mpdispatch.db")
    with app.dispatcher.on_store(store):
        yield app
    store.close()


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    """Starts `mpdispatch supervise` in the folder of the test; its log is `log`."""
    running: list[subprocess.Popen[str]] = []

    def start(pool: str, *options: str, target: str = "tests.dask.app:engine") -> subprocess.Popen[str]:
        words = ["supervise", target, "--store", str(tmp_path / "mpdispatch.db"), *options]
        with (tmp_path / "log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mpdispatch", *words, *(["--pool", pool] if pool else [])],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": ROOT},
                stdout=log,
                stderr=log,
                text=True,
            )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
def beside(engine: Engine, shared: Cluster) -> Iterator[Callable[[], SupervisorThread]]:
    """Starts a supervisor of the shared cluster on a thread of this process."""
    started: list[SupervisorThread] = []

    def start(target: str = "tests.dask.app:engine") -> SupervisorThread:
        store = engine.dispatcher.store
        plan = Plan(
            store=store,
            store_for_workers=store.location,
            config=Config(pool=shared.pool),
            catalog=engine.catalog,
        )
        thread = SupervisorThread(app_reference(target), plan, log=LOG)
        thread.start()
        started.append(thread)
        return thread

    yield start
    for thread in started:
        thread.stop(0)


def ended(process: subprocess.Popen[str], folder: Path) -> int:
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        pytest.fail((folder / "log").read_text())


def signed(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def causes(engine: Engine, job_id: int) -> list[Cause]:
    return [each.cause for each in engine.dispatcher.store.attempts(job_id)]


def test_jobs_run_on_the_cluster_and_enqueue_into_the_store_of_their_supervisor(
    beside: Callable[[], object], engine: Engine
) -> None:
    spawning = engine.enqueue("spawn", count=5)
    failing = engine.enqueue("fail_once")
    beside()
    made = engine.wait(spawning.id, timeout=20).result
    assert [engine.wait(each, timeout=20).result for each in made] == [1, 2, 3, 4, 5]
    assert engine.wait(failing.id, timeout=20).result == 2
    assert causes(engine, failing.id) == [Cause.ERROR, Cause.COMPLETED]
    assert [each.text for each in engine.dispatcher.store.outputs(spawning.id)] == ["spawning\n"]


def test_the_cluster_may_be_the_apps_own_setting(engine: Engine, shared: Cluster, tmp_path: Path) -> None:
    """It is known only when a worker process here has imported the app."""
    job, store = engine.enqueue("wait", folder=str(tmp_path)), engine.dispatcher.store
    (tmp_path / "gate").touch()
    plan = Plan(
        store=store, store_for_workers=store.location, config=Config(pool=shared.pool), catalog=engine.catalog
    )
    report = run_foreground(app_reference("tests.dask.app:engine"), lambda _: plan, log=LOG, drain=True)
    assert (report.exit_code, report.completed) == (0, 1)
    assert lives(engine.get_job(job.id).result)  # a worker process of ours would have ended


@pytest.mark.parametrize("name", ["wait", "doze"])
def test_a_cancel_reaches_the_handler(
    beside: Callable[[], object], engine: Engine, tmp_path: Path, name: str
) -> None:
    job = engine.enqueue(name, folder=str(tmp_path))
    beside()
    until(lambda: signed(tmp_path / "began"))
    engine.cancel(job.id)
    until(lambda: engine.get_job(job.id).state is JobState.CANCELLED)
    assert signed(tmp_path / "cancelled") == signed(tmp_path / "began")


def test_a_stop_gives_back_what_does_not_end_in_time(
    beside: Callable[[], SupervisorThread], engine: Engine, tmp_path: Path
) -> None:
    job = engine.enqueue("wait", folder=str(tmp_path))
    supervisor = beside()
    until(lambda: signed(tmp_path / "began"))
    report = supervisor.stop(0.1)
    assert report is not None
    assert report.exit_code == 75
    found = engine.get_job(job.id)
    assert (found.state, found.attempt, found.starts) == (JobState.PENDING, 0, 1)
    assert signed(tmp_path / "cancelled")


def test_a_job_of_a_killed_supervisor_is_asked_to_end_and_runs_again_once(
    shared: Cluster, supervise: Supervise, engine: Engine, tmp_path: Path
) -> None:
    job = engine.enqueue("wait", folder=str(tmp_path))
    first = supervise(shared.pool)
    until(lambda: signed(tmp_path / "began"), timeout_s=20)
    first.send_signal(signal.SIGKILL)
    until(lambda: signed(tmp_path / "cancelled"), what="the handler to learn of it")
    (tmp_path / "gate").touch()
    assert ended(supervise(shared.pool, "--drain"), tmp_path) == 0
    assert engine.get_job(job.id).result == signed(tmp_path / "began")[-1]
    assert causes(engine, job.id) == [Cause.LEASE_LOST, Cause.COMPLETED]


def test_a_lost_scheduler_costs_a_start_and_the_supervisor_goes_on_with_the_next_one(
    supervise: Supervise, engine: Engine, tmp_path: Path
) -> None:
    with cluster(tmp_path, 1, "--no-nanny") as own:
        job = engine.enqueue("wait", folder=str(tmp_path))
        process = supervise(own.pool)
        until(lambda: signed(tmp_path / "began"), timeout_s=20)
        own.kill_scheduler()
        until(lambda: causes(engine, job.id) == [Cause.WORKER_DIED], what="its outcome")
        (tmp_path / "gate").touch()
        own.start_scheduler()
        own.add_workers(1, "--no-nanny")
        until(lambda: engine.get_job(job.id).state is JobState.COMPLETED, timeout_s=30)
        assert engine.get_job(job.id).attempt == 2
        process.terminate()
        assert ended(process, tmp_path) == 0


def test_an_app_that_does_not_import_there_is_refused_with_its_traceback(
    beside: Callable[..., object], engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('no such luck')\n")
    monkeypatch.syspath_prepend(tmp_path)
    job = engine.enqueue("add", a=1, b=2)
    with pytest.raises(AppImportError, match="no such luck") as refused:
        beside("broken:engine")
    assert "broken.py" in refused.value.traceback
    assert engine.get_job(job.id).starts == 0


def test_workers_and_doctor_say_where_jobs_run_and_what_that_does_not_promise(
    beside: Callable[[], object], shared: Cluster, engine: Engine, mp: Mp
) -> None:
    beside()
    (supervisor,) = json.loads(mp("workers", "--json")[1])
    assert (supervisor["pool"], supervisor["concurrency"]) == (shared.pool, 2)
    assert shared.pool not in supervisor["app"]
    assert f"run by {shared.pool}" in " ".join(mp("workers")[1].split())
    found = [each for each in json.loads(mp("doctor", "--json")[1])["findings"] if each["check"] == "pool"]
    assert shared.pool in found[0]["message"]
    assert any("is a file of this host" in each["message"] for each in found)
    assert any("a hard end" in each["message"] and each["level"] == "note" for each in found)


def test_without_the_package_the_extra_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "distributed.py").write_text("raise ModuleNotFoundError('no module', name='distributed')\n")
    found = cli(
        "supervise",
        "tests.dask.app:engine",
        "--pool",
        "dask://127.0.0.1",
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )
    assert found.returncode == 69
    assert "pip install 'mpdispatch[dask]'" in found.stderr


def test_the_scheduler_does_not_keep_what_jobs_have_reported(
    shared: Cluster, rig: DaskRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_TOLD_BYTES", 100)
    worker = rig.ready()
    with distributed.Client(shared.address, set_as_default=False) as client:

        def kept() -> int:
            events = client.get_events()
            return sum(isinstance(message, bytes) for topic in events.values() for _, message in topic)

        before, most = kept(), 0
        for _ in range(30):
            rig.settled(rig.give(worker, "noop"))
            most = max(most, kept() - before)
        assert 0 < most < 20


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_CONNECT_S", 0.2)
    with pytest.raises(PoolUnavailable, match=r"dask://127\.0\.0\.1:1: no dask scheduler answers at tcp://"):
        Runtime.assemble(app_reference(), log=LOG, clock=SystemClock(), pool="dask://127.0.0.1:1")


@pytest.mark.parametrize("pool", ["dask://", "http://host", "dask://host:0", "dask://me:secret@host"])
def test_a_bad_pool_is_refused_at_the_door(mp: Mp, pool: str) -> None:
    code, _, said = mp("supervise", "tests.dask.app:engine", "--pool", pool)
    assert code == 2
    assert "--pool must be 'processes'" in said
