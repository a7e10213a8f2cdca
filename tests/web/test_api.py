"""The routes of the API, each answer and each error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from mpdispatch import StoreIOError
from mpdispatch.engine import Engine
from mpdispatch.extension import DispatchExtension
from mpdispatch.model import NewBatch, NewJob
from mpdispatch.model.json import job_to_json

NOW = datetime(2026, 5, 1, tzinfo=UTC)  # no job of these tests has started: it has no duration yet


def render(path: str, dpi: int = 300) -> str:
    return path


@pytest.fixture
def ext(tmp_path: Path) -> Iterator[DispatchExtension]:
    found = DispatchExtension(store=tmp_path / "jobs.db", supervise=False, max_payload_bytes=2000)
    found.engine.register(render)
    with found:
        yield found


@pytest.fixture
def engine(ext: DispatchExtension) -> Engine:
    return ext.engine


@pytest.fixture
def client(ext: DispatchExtension) -> TestClient:
    found = TestClient(
        ext.asgi_app, base_url="http://localhost", client=("127.0.0.1", 1), raise_server_exceptions=False
    )
    found.headers["authorization"] = f"Bearer {ext.token}"
    return found


def post(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/jobs", json=body)


# ---------------------------------------------------------------- GET


def test_stats_are_those_of_the_engine(client: TestClient, engine: Engine) -> None:
    engine.enqueue("render", "a.pdf")
    found = client.get("/v1/stats").json()
    assert found == engine.stats()
    assert found["jobs"]["pending"] == 1
    assert set(found["jobs"]) == {
        "scheduled",
        "pending",
        "running",
        "retrying",
        "completed",
        "failed",
        "cancelled",
    }


def test_jobs_are_an_array_of_jobs_newest_first(client: TestClient, engine: Engine) -> None:
    jobs = [engine.enqueue("render", f"{n}.pdf") for n in range(3)]
    answer = client.get("/v1/jobs")
    assert answer.json() == [job_to_json(engine.get_job(job.id), NOW) for job in reversed(jobs)]
    assert "link" not in answer.headers


def test_jobs_are_filtered_and_paged(client: TestClient, engine: Engine) -> None:
    for n in range(5):
        engine.options(queue="bulk" if n % 2 else "default").enqueue("render", f"{n}.pdf")
    assert len(client.get("/v1/jobs?queue=bulk").json()) == 2
    assert client.get("/v1/jobs?state=failed").json() == []
    assert len(client.get("/v1/jobs?name=render&state=pending&queue=").json()) == 5
    batch = engine.store.batches.open(NewBatch(name="b")).id
    member = engine.store.enqueue(NewJob(name="member", payload=b"{}", batch_id=batch)).id
    assert [job["id"] for job in client.get(f"/v1/jobs?batch={batch}").json()] == [member]
    assert client.get(f"/v1/jobs?batch={batch}&state=failed").json() == []
    seen, url = [], "/v1/jobs?limit=2&name=render"
    while url:
        answer = client.get(url)
        seen += [job["id"] for job in answer.json()]
        assert (answer.headers.get("x-next-cursor") is None) == ("next" not in answer.links)
        url = answer.links.get("next", {}).get("url")
    assert seen == [5, 4, 3, 2, 1]


def test_a_job_is_shown_with_its_attempts(client: TestClient, engine: Engine) -> None:
    job = engine.enqueue("render", "a.pdf")
    nothing = {"attempts": [], "parents": [], "dependents": 0}
    assert client.get(f"/v1/jobs/{job.id}").json() == {
        **job_to_json(engine.get_job(job.id), NOW),
        **nothing,
    }


def test_a_job_may_wait_for_others(client: TestClient, engine: Engine) -> None:
    parent = engine.enqueue("render", path="a")
    wish = {"name": "render", "payload": {"path": "b"}, "after": [parent.id], "on_parent_failure": "run"}
    made = client.post("/v1/jobs", json=wish)
    assert (made.status_code, made.json()["blocked_reason"]) == (201, "waiting for 1 job")
    shown = client.get(f"/v1/jobs/{made.json()['id']}").json()
    assert shown["parents"] == [{"id": parent.id, "state": "pending"}]
    assert client.get(f"/v1/jobs/{parent.id}").json()["dependents"] == 1
    assert client.post("/v1/jobs", json={**wish, "after": ["x"]}).status_code == 422
    assert "after: there is no job 99" in client.post("/v1/jobs", json={**wish, "after": 99}).json()["error"]


def test_a_job_shown_as_ended_has_its_attempts(
    client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read the other way round, a job that ends in between is completed without ever having been started."""
    order = []
    for name in ("get_job", "attempts"):
        real = getattr(Engine, name)
        monkeypatch.setattr(
            Engine, name, lambda *args, real=real, name=name: (order.append(name), real(*args))[1]
        )
    client.get(f"/v1/jobs/{engine.enqueue('render', 'a.pdf').id}")
    assert order == ["get_job", "attempts"]


@pytest.mark.parametrize("job_id", ["99", "0", "-1", "x", "9" * 19, "9" * 20, "9" * 5000, "1.0", "٣"])
def test_a_job_that_is_not_there_is_404(client: TestClient, job_id: str) -> None:
    answer = client.get(f"/v1/jobs/{job_id}")
    assert answer.status_code == 404
    assert answer.json() == {"error": f"job {job_id[:40]} not found"}


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("state=done", "state: must be one of scheduled, pending"),
        ("limit=0", "limit: must be a whole number from 1 to 1,000"),
        ("limit=1001", "limit: must be"),
        ("limit=ten", "limit: must be a whole number, not 'ten'"),
        ("batch=ten", "batch: must be a whole number, not 'ten'"),
        ("batch=0", "batch: must be the id of a batch"),
        ("cursor=x", "cursor"),
        ("quueue=a", "quueue: no such parameter; there are state, queue, name, batch, limit, cursor"),
        ("queue=a&queue=b", "queue: is there twice"),
    ],
)
def test_a_bad_query_is_422_and_names_the_parameter(client: TestClient, query: str, text: str) -> None:
    answer = client.get(f"/v1/jobs?{query}")
    assert answer.status_code == 422
    assert text in answer.json()["error"]


def test_everything_wrong_with_a_query_is_told_at_once(client: TestClient) -> None:
    wrong = {"quueue": "a", "limit": "0", "state": "done", "cursor": "x"}
    error = client.get("/v1/jobs", params=wrong).json()["error"]
    for text in ("quueue: no such parameter", "limit: must be", "state: must be one of", "cursor"):
        assert error.count(text) >= 1, error
    del wrong["quueue"]
    error = client.get("/v1/jobs?queue=a", params=wrong | {"limit": "ten"}).json()["error"]
    assert [part.partition(":")[0] for part in error.split("; ")][:2] == ["limit", "state"]
    assert "cursor" in error
    error = client.get("/v1/jobs?state=done&limit=0").json()["error"]
    assert (error.count("state:"), error.count("limit:")) == (1, 1)


def test_health_is_ok_or_503_with_the_reason(
    client: TestClient, ext: DispatchExtension, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, ext.health())
    assert answer.json() == {
        "status": "ok",
        "error": None,
        "store": ext.store.location,
        "supervises": False,
        "supervisors": 0,
    }

    def fail(*_: object, **__: object) -> None:
        raise StoreIOError("jobs.db")

    monkeypatch.setattr(type(ext.store), "check", fail)
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert (answer.json()["status"], answer.json()["error"]) == ("failing", "jobs.db: disk I/O error")


# ---------------------------------------------------------------- POST


def test_a_job_is_enqueued_and_given_back(client: TestClient, engine: Engine) -> None:
    answer = post(client, name="render", payload={"path": "a.pdf"})
    assert answer.status_code == 201
    job = engine.get_job(1)
    assert answer.json() == job_to_json(job, NOW)
    assert answer.headers["location"] == "/v1/jobs/1"
    assert job.payload == {"path": "a.pdf"}


def test_every_option_of_a_job_is_taken(client: TestClient, engine: Engine) -> None:
    answer = post(
        client,
        name="render",
        payload={"path": "a.pdf", "dpi": 72},
        queue="bulk",
        priority=-3,
        delay="5m",
        max_retries=0,
        timeout=1.5,
        idempotency_key="k",
    )
    assert answer.status_code == 201, answer.text
    job = engine.get_job(1)
    assert (job.queue, job.priority, job.max_retries, job.idempotency_key) == ("bulk", -3, 0, "k")
    assert answer.json()["timeout"] == 1.5
    assert job.run_at - job.created_at == timedelta(minutes=5)
    post(client, name="render", payload={"path": "a"}, run_at="2040-05-01T10:00:00+02:00")
    assert engine.get_job(2).run_at == datetime(2040, 5, 1, 8, tzinfo=UTC)
    for expires, seconds in (("5m", 300), (90, 90)):
        job = engine.get_job(post(client, name="render", payload={"path": "a"}, expires=expires).json()["id"])
        assert job.expires_at == job.created_at + timedelta(seconds=seconds)
    answer = post(client, name="render", payload={"path": "a"}, expires="2040-05-01T10:00:00+02:00")
    assert answer.json()["expires_at"] == "2040-05-01T08:00:00.000000Z"
    for expires, text in (("tomorrow", "expires: must be a duration"), ("2020-05-01T10:00:00Z", "is over")):
        answer = post(client, name="render", payload={"path": "a"}, expires=expires)
        assert answer.status_code == 422
        assert text in answer.json()["error"]


def test_an_idempotency_key_in_use_gives_the_older_job_with_200(client: TestClient) -> None:
    first = post(client, name="render", payload={"path": "a.pdf"}, idempotency_key="k")
    again = post(client, name="render", payload={"path": "b.pdf"}, idempotency_key="k")
    assert (first.status_code, again.status_code) == (201, 200)
    assert (again.json()["id"], again.json()["created"]) == (1, False)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"name": "nope"}, "no handler 'nope' in this engine; registered: render"),
        (
            {"name": "mpdispatch.command", "payload": {"argv": ["id"], "cwd": "/", "env": {}}},
            "'mpdispatch.command' is reserved for commands",
        ),
        ({"name": "render"}, "path: is missing"),
        ({"name": "render", "payload": {"path": 3}}, "path"),
        ({"name": "render", "payload": {"path": "a", "x": 1}}, "x: is no argument of this job"),
        ({"name": "render", "payload": [1]}, "payload: must be an object"),
        ({"payload": {}}, "name: must be the name of a job"),
        (
            {"name": "render", "payload": {"path": "a"}, "qeue": "x"},
            "qeue: no such field; there are name, payload",
        ),
        ({"name": "render", "payload": {"path": "a"}, "queue": ""}, "queue must not be empty"),
        ({"name": "render", "payload": {"path": "a"}, "priority": "high"}, "priority: must be a whole number"),
        ({"name": "render", "payload": {"path": "a"}, "delay": "soon"}, "delay: must be a duration"),
        (
            {"name": "render", "payload": {"path": "a"}, "run_at": "tomorrow"},
            "run_at: 'tomorrow' is no RFC 3339",
        ),
        ({"name": "render", "payload": {"path": "a"}, "run_at": 7}, "run_at: must be a time"),
        ({"name": "render", "payload": {"path": "a"}, "connection": 7}, "connection: no such field"),
        ({"name": "render", "payload": {"path": "\ud800"}}, "surrogate"),
        ({"name": "render", "payload": {"path": "x" * 3000}}, "max_payload_bytes"),
    ],
)
def test_a_job_that_cannot_be_is_422_and_says_why(
    client: TestClient, engine: Engine, body: dict[str, Any], text: str
) -> None:
    answer = client.post("/v1/jobs", content=json.dumps(body))
    assert answer.status_code == 422, answer.text
    assert text in answer.json()["error"]
    assert sum(engine.counts().values()) == 0


def test_every_fault_of_a_job_is_told_at_once(client: TestClient) -> None:
    error = post(client, payload=3, run_at=7, x=1).json()["error"]
    assert all(f"{field}: " in error for field in ("name", "payload", "run_at", "x"))


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", "3", '{"name": NaN}', '{"name": "a", "name": "b"}', "[" * 50_000, "\xff", '"\\ud800'],
)
def test_a_body_that_is_no_json_object_is_400(client: TestClient, body: str) -> None:
    answer = client.post("/v1/jobs", content=body.encode("latin-1"))
    assert answer.status_code in (400, 413)
    assert set(answer.json()) == {"error"}


def test_a_body_past_the_limit_is_413_also_where_its_length_is_not_said(client: TestClient) -> None:
    body = b'{"name": "render", "payload": {"path": "' + b"x" * 20_000 + b'"}}'
    answer = client.post("/v1/jobs", content=body)
    assert answer.status_code == 413
    taken = []

    def parts() -> Iterator[bytes]:
        for _ in range(1000):
            taken.append(1)
            yield b" " * 1000

    assert client.post("/v1/jobs", content=parts()).status_code == 413


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_no_json_breaks_it(client: TestClient, body: Any) -> None:
    assert client.post("/v1/jobs", content=json.dumps(body)).status_code in (201, 400, 413, 422)


# ---------------------------------------------------------------- errors


def test_an_unknown_path_and_method_have_the_same_shape(client: TestClient) -> None:
    answer = client.get("/v1/nope")
    assert (answer.status_code, answer.json()) == (404, {"error": "there is nothing at /v1/nope"})
    answer = client.delete("/v1/jobs")
    assert (answer.status_code, answer.json()) == (405, {"error": "DELETE is not allowed at /v1/jobs"})
    assert set(answer.headers["allow"].split(", ")) >= {"GET"}


def test_trouble_with_the_store_is_500_with_its_text_and_a_bug_tells_nothing(
    client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreIOError("jobs.db")

    monkeypatch.setattr(engine, "stats", fail)
    answer = client.get("/v1/stats")
    assert (answer.status_code, answer.json()) == (500, {"error": "jobs.db: disk I/O error"})
    assert "a request failed" in caplog.text
    monkeypatch.setattr(engine, "stats", lambda: 1 / 0)
    answer = client.get("/v1/stats")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
