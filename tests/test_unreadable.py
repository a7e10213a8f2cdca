"""Stores with odd values everywhere: no command and no route ends in a traceback, and what they print is JSON in UTF-8."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from mpdispatch.cli.main import main
from mpdispatch.clock import SystemClock
from mpdispatch.extension import DispatchExtension
from mpdispatch.model import NewJob, Output, Stream
from mpdispatch.store import SQLiteStore
from tests.clock import FakeClock

from .store.conftest import TTL_US, Desk, completed, failed, registration
from .store.odd import ODD, columns_of, tamper

LARGE = b'{"text":"' + b"x" * 3000 + b'"}'
TABLES = {"attempt_rows": "job_id", "outputs": "job_id", "dead_letters": "job_id", "payloads": "job_id"}


def fill(path: Path) -> int:
    """A store with a job of every state for each column of the table of jobs; gives how many."""
    store = SQLiteStore(path, durability="process")
    store.check(create=True)
    clock = SystemClock()
    desk = Desk(store, FakeClock(*clock.now()))
    now = clock.now()
    columns = columns_of("jobs")
    jobs = []
    for _ in columns:
        for payload in (b"{}", LARGE, LARGE):
            store.enqueue(NewJob(name="render", payload=payload))
    jobs = desk.claim(slots=3 * len(columns))
    outcomes = [
        failed(job, now) if job.id % 3 else completed(job, now, result=LARGE)
        for job in jobs[: 2 * len(columns)]
    ]
    outputs = [Output(job_id=job.id, starts=1, stream=Stream.LOG, text="a", written=1) for job in jobs]
    desk.commit(*outcomes, outputs=outputs)
    for _ in columns:
        store.enqueue(NewJob(name="render", payload=b"{}"))
        store.enqueue(NewJob(name="render", payload=b"{}", run_at_us=now.wall_us + 10**9))
    store.set_paused("paused", True)
    for _ in columns_of("supervisors"):
        desk.supervisor_store.register(registration(), TTL_US)
    desk.close()
    store.close()
    return 5 * len(columns)


def spoil(path: Path, odd: str, count: int) -> None:
    """Set a column of each job to this value, column by column; and so in the other tables."""
    columns = [column for column in columns_of("jobs") if column != "id"]
    statements = [
        f"UPDATE mpdispatch_jobs SET {column} = {odd} WHERE id = {job_id}"
        for job_id, column in zip(range(1, count + 1), cycle(columns), strict=False)
    ]
    for table, key in TABLES.items():
        others = [column for column in columns_of(table) if column not in (key, "id")]
        statements += [
            f"UPDATE OR IGNORE mpdispatch_{table} SET {column} = {odd} WHERE {key} = {job_id}"
            for job_id, column in zip(range(1, count + 1), cycle(others), strict=False)
        ]
    for number, column in enumerate(columns_of("supervisors")):
        if column != "id":
            statements.append(f"UPDATE mpdispatch_supervisors SET {column} = {odd} WHERE id = {number + 1}")
    for column in columns_of("queues"):
        statements.append(f"INSERT OR IGNORE INTO mpdispatch_queues (name) VALUES ('{column}')")
        statements.append(f"UPDATE OR IGNORE mpdispatch_queues SET {column} = {odd} WHERE name = '{column}'")
    tamper(path, *statements)


@pytest.fixture(params=ODD)
def spoilt(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, int]:
    path = tmp_path / "mpdispatch.db"
    count = fill(path)
    spoil(path, request.param, count)
    return path, count


def test_no_command_ends_in_a_traceback_and_every_json_is_one(
    spoilt: tuple[Path, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, count = spoilt
    monkeypatch.chdir(path.parent)
    for name in [name for name in os.environ if name.startswith("MPDISPATCH_")]:
        monkeypatch.delenv(name)

    def run(*args: str, codes: tuple[int, ...] = (0,)) -> str:
        with pytest.raises(SystemExit) as ended:
            main(args)
        found = capsys.readouterr()
        assert int(ended.value.code or 0) in codes, (args, found)
        assert "Traceback" not in found.err, (args, found)
        return found.out

    jobs = json.loads(run("jobs", "--all", "--json"))
    assert [job["id"] for job in jobs] == [*range(count, 0, -1)]
    assert len(json.loads(run("stats", "--json"))["jobs"]) == 7
    for args in (["jobs", "--all"], ["stats"], ["queues"], ["workers"], ["dlq", "list"]):
        run(*args)
    for args in (["queues", "--json"], ["workers", "--json"], ["dlq", "list", "--json"]):
        json.loads(run(*args))
    assert "cannot be read" in run("doctor", codes=(1,))
    json.loads(run("doctor", "--json", codes=(1,)))
    for state in ("scheduled", "pending", "running", "retrying", "completed", "failed", "cancelled"):
        run("jobs", "--state", state)
    for job_id in map(str, range(1, count + 1, 3)):
        json.loads(run("show", job_id, "--json"))
        run("show", job_id)
        run("explain", job_id)
        run("logs", job_id)
        run("dlq", "show", job_id, codes=(0, 1))
        run("wait", job_id, "--for", "0.001", codes=(0, 1))
    for job_id in map(str, range(2, count + 1, 3)):
        run("cancel", job_id, codes=(0, 1))
        run("retry", job_id, codes=(0, 1))
    run("prune", "--older-than", "0s")
    run("dlq", "replay", "1", "2", "3", codes=(0, 1))
    run("dlq", "purge", "--yes")
    run("jobs", "--all", "--json")


@pytest.fixture
def client(spoilt: tuple[Path, int]) -> Iterator[TestClient]:
    ext = DispatchExtension(store=spoilt[0], supervise=False)
    with ext:
        bearer = {"Authorization": f"Bearer {ext.token}"}
        yield TestClient(ext.asgi_app, base_url="http://localhost", client=("127.0.0.1", 1), headers=bearer)


def test_every_route_answers(client: TestClient, spoilt: tuple[Path, int]) -> None:
    _, count = spoilt
    seen, path = [], "/v1/jobs?limit=100"
    while path:
        found = client.get(path)
        assert found.status_code == 200
        seen += [job["id"] for job in found.json()]
        cursor = found.headers.get("X-Next-Cursor")
        path = f"/v1/jobs?limit=100&cursor={cursor}" if cursor else ""
    assert seen == [*range(count, 0, -1)]
    for job_id in range(1, count + 1, 3):
        assert client.get(f"/v1/jobs/{job_id}").status_code == 200
    assert client.get("/v1/stats").status_code == 200
    assert client.get("/healthz").status_code == 200
