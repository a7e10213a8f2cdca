"""A store moved to another one while there is work in it: killed again and again, and then the work goes on there."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpdispatch.store import open_store
from mpdispatch.store.filters import BatchFilter, JobFilter
from tests.whole.harness import Place, until

from .test_batches import APP


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, APP)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["file", "postgres"])
def to(request: pytest.FixtureRequest, place: Place) -> str:
    """The location of the new store."""
    if request.param == "file":
        return str(place.folder / "new.db")
    location: str = request.getfixturevalue("new_place")(request.param).location
    return location


@pytest.mark.timeout(300)
def test_a_batch_that_was_moved_in_the_middle_ends_in_the_new_store(place: Place, to: str) -> None:
    move = ("migrate-store", "jobs.db", to)
    target = open_store(to)
    app = place.app
    with app.engine.batch("moved", on_success=app.succeeded, on_end=app.ended) as batch:
        app.nap.enqueue_many({"s": 0.002} for _ in range(3_000))
    supervisor = place.supervise("-c", "2")
    until(lambda: batch.status().counts["completed"] > 400, "some of it is done")
    refused = place.cli(*move)
    assert refused.returncode == 69
    assert f"has a running supervisor, process {supervisor.pid} on" in refused.stderr
    supervisor.kill(signal.SIGKILL)
    supervisor.ended()
    refused = place.cli(*move)
    assert refused.returncode == 69
    assert "start a supervisor and stop it once" in refused.stderr
    supervisor = place.supervise("-c", "1")
    until(lambda: "registered" in supervisor.err, "it is up")
    supervisor.kill(signal.SIGTERM)
    assert supervisor.ended() == 0
    done = batch.status().counts["completed"]
    assert done < 3_000
    app.engine.store.close_all()
    killed = 0
    for hit in range(1, 40):
        point = f"move.{'before' if hit % 2 else 'after'}_commit:kill@{1 + hit % 5}"
        ended = place.cli(*move, "--json", env={"MPDISPATCH_FAILPOINTS": point})
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended
        killed += 1
        enqueued = place.cli("enqueue", "plain", "--store", "jobs.db")
        assert killed < 2 or (enqueued.returncode, enqueued.stdout) == (69, ""), enqueued
    moved = json.loads(ended.stdout)
    assert killed > 5
    assert (moved["moved"], moved["resumed"]) == (True, True)
    assert moved["rows"]["jobs"] == sum(place.counts().values())
    on = place.supervise("--drain", "-c", "2", "--store", to)
    assert on.ended(60) == 0
    (info,) = target.batches.page(BatchFilter(), limit=9, cursor=None).items
    assert (info.total, info.counts["completed"], info.ended_at is not None) == (3_000, 3_000, True)
    for name, event in (("succeeded", "on_success"), ("ended", "on_end")):
        (callback,) = target.list_jobs(JobFilter(name=name), limit=9, cursor=None).items
        assert (callback.state, callback.id) == ("completed", info.callbacks[event].job_id)
    assert batch.status().counts["completed"] == done, "nothing happens in the old store"
    off = place.supervise("-c", "1")
    assert off.ended() == 69
    assert f"was moved to {target.display}; use that store" in off.err
    assert place.cli("cancel", "3000", "--store", "jobs.db").returncode == 69
    assert place.cli("show", "3000", "--store", "jobs.db").returncode == 0
    target.close_all()
