"""Who lives: all that say whether a supervisor runs say the same, also after one was killed while it was idle."""

from __future__ import annotations

import signal
import tracemalloc

import pytest

from mpdispatch import Engine, WaitTimeoutError
from mpdispatch.clock import SystemClock
from mpdispatch.engine.explain import explain
from mpdispatch.engine.supervisors import supervisors_of
from mpdispatch.extension import DispatchExtension, lifecycle
from mpdispatch.model import AlikeJobs, NewJob
from mpdispatch.store import SQLiteStore
from tests.store.requests import request
from tests.test_cli_status import register
from tests.whole.harness import Place, is_alive, until

NOBODY = "no supervisor is running"


def why(engine: Engine, job_id: int) -> str:
    """What the error of a wait says."""
    with pytest.raises(WaitTimeoutError) as caught:
        engine.wait(job_id, timeout=0)
    return str(caught.value)


def test_after_a_kill_nobody_says_that_an_idle_supervisor_runs(place: Place) -> None:
    supervisor = place.supervising("-c", "1", stale_job_threshold=300)
    engine = place.app.engine
    ext = DispatchExtension(store=str(place.db), supervise=False)
    assert (ext.health()["status"], ext.health()["supervisors"]) == ("ok", 1)
    assert place.json("stats")["supervisors"] == engine.stats()["supervisors"] == 1
    supervisor.kill(signal.SIGKILL)
    supervisor.ended()
    # Nothing waits: nothing is wrong with that.
    assert (ext.health()["status"], ext.health()["supervisors"]) == ("ok", 0)
    pending = place.app.quick.enqueue().id
    later = place.app.quick.options(delay="1h").enqueue().id
    for job_id in (pending, later):
        assert NOBODY in why(engine, job_id)
        reasons = explain(engine.store, job_id, now=SystemClock().now())[1]
        assert "no_supervisor" in [reason.code for reason in reasons]
    assert place.json("stats")["supervisors"] == engine.stats()["supervisors"] == 0
    waited = place.cli("wait", str(pending), "--for", "100ms", "--store", "jobs.db")
    assert NOBODY in waited.stderr.splitlines()[0]
    health = ext.health()
    assert (health["status"], health["supervisors"]) == ("failing", 0)
    assert health["error"] == f"{NOBODY}, and jobs wait: mpdispatch supervise APP"


def test_jobs_that_nobody_comes_for_are_a_failure_after_a_while(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ext = DispatchExtension(store=str(place.db), supervise=False)
    place.app.quick.enqueue()
    assert ext.health()["status"] == "ok"  # one may be about to start
    monkeypatch.setattr(lifecycle, "_GRACE_S", 0.2)
    until(lambda: ext.health()["status"] == "failing", "it has lasted too long", within=5)
    assert NOBODY in ext.health()["error"]
    place.drain("-c", "1")
    assert ext.health() | {"status": "ok", "error": None, "supervisors": 0} == ext.health()


def test_after_a_kill_a_running_job_is_said_to_have_lost_its_supervisor(place: Place) -> None:
    supervisor = place.supervising("-c", "1", stale_job_threshold=300)
    job_id = place.app.until_file.enqueue("go").id
    pid = place.started(job_id)[3]
    assert "attempt 1, for " in why(place.app.engine, job_id)
    supervisor.kill(signal.SIGKILL)
    supervisor.ended()
    until(lambda: not is_alive(pid), "its worker dies with it")
    (reason,) = place.app.engine.explain(job_id)[1]
    assert reason.code == "supervisor_gone"
    assert "takes its jobs over" in why(place.app.engine, job_id)
    assert DispatchExtension(store=str(place.db), supervise=False).health()["status"] == "failing"


def test_looking_at_supervisors_does_not_load_what_their_jobs_are_given(place: Place) -> None:
    """`workers`, `explain` and `doctor` count running jobs: their payloads may be a megabyte each."""
    store = SQLiteStore(place.db)
    clock = SystemClock()
    store.check(create=True)
    owner = register(store)
    payload = b'{"text": "' + b"x" * (1 << 20) + b'"}'
    store.enqueue_many(AlikeJobs(NewJob(name="large", payload=b""), [payload] * 40))
    supervisor_store = store.supervisor_store()
    assert len(supervisor_store.commit(owner, [], claim=request(slots=40)).claimed) == 40
    supervisor_store.close()
    tracemalloc.start()
    try:
        (supervisor,) = supervisors_of(store, clock.now())
        explain(store, 40, now=clock.now())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    store.close()
    assert supervisor.jobs == 40
    assert peak < 8 << 20  # explain has the one job it is asked about
