"""Who is served: the machine itself, bearers of the token, those the application says yes to, or everybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.testclient import TestClient

from mpdispatch.extension import DispatchExtension
from mpdispatch.web.access import stranger

LOCAL = {"base_url": "http://localhost:8000", "client": ("127.0.0.1", 50000)}
REMEDY = (
    "give the extension token=..., auth=a function of the request, or allow_anonymous=True to serve everybody"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    DispatchExtension(store="jobs.db", supervise=False).store.migrate()


def client(*, base_url: str = LOCAL["base_url"], peer: Any = LOCAL["client"], **access: Any) -> TestClient:
    ext = DispatchExtension(store="jobs.db", supervise=False, **access)
    ext.engine.register(nothing)
    return TestClient(ext.asgi_app, base_url=base_url, client=peer)


def nothing() -> None:
    return None


def status(on: TestClient, method: str = "GET", **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"name": "nothing"} if method == "POST" else None
    return on.request(method, "/v1/jobs", headers=named, json=body).status_code


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "app.localhost", "LOCALHOST."]
)
@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_a_loopback_peer_with_a_loopback_host_is_served(host: str, peer: str) -> None:
    assert status(client(peer=(peer, 1)), host=host) == 200


@pytest.mark.parametrize(
    ("peer", "headers", "why"),
    [
        ("10.0.0.7", {}, "the peer 10.0.0.7 is another"),
        ("testclient", {}, "the peer testclient is another"),
        ("127.0.0.1", {"host": "evil.example"}, "its Host 'evil.example' is no loopback name"),
        ("127.0.0.1", {"host": "127.0.0.1.evil.example"}, "is no loopback name"),
        ("127.0.0.1", {"host": "localhost@evil.example"}, "is no loopback name"),
        ("127.0.0.1", {"host": ""}, "is no loopback name"),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}, "a proxy has forwarded this (x-forwarded-for)"),
        ("127.0.0.1", {"x-forwarded-host": "localhost"}, "a proxy has forwarded this"),
        ("127.0.0.1", {"forwarded": "for=1.2.3.4"}, "a proxy has forwarded this (forwarded)"),
        ("127.0.0.1", {"via": "1.1 proxy"}, "a proxy has forwarded this (via)"),
        ("127.0.0.1", {"x-real-ip": "127.0.0.1"}, "a proxy has forwarded this (x-real-ip)"),
    ],
)
def test_others_get_403_with_the_reason_and_the_remedy(peer: str, headers: dict[str, str], why: str) -> None:
    for path in ("/v1/jobs", "/v1/stats", "/healthz", "/v1/jobs/1", "/nowhere"):
        answer = client(peer=(peer, 1)).get(path, headers=headers)
        assert answer.status_code == 403
        assert why in answer.json()["error"]
        assert answer.json()["error"].endswith(REMEDY)


def test_a_unix_socket_has_no_peer_and_is_not_served() -> None:
    assert stranger({"client": None, "headers": [(b"host", b"localhost")]}) == "the peer (unknown) is another"


@given(st.text(), st.text())
def test_no_host_or_peer_breaks_the_rule(peer: str, host: str) -> None:
    scope = {"client": (peer, 1), "headers": [(b"host", host.encode("utf-8", "replace"))]}
    assert stranger(scope) is None or isinstance(stranger(scope), str)


def test_two_hosts_are_one_too_many() -> None:
    headers = [(b"host", b"localhost"), (b"host", b"localhost")]
    assert stranger({"client": ("127.0.0.1", 1), "headers": headers}) is not None


# ---------------------------------------------------------------- other pages in a local browser


def test_a_page_of_another_site_cannot_enqueue() -> None:
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://localhost:8000"},
    ):
        answer = client().post("/v1/jobs", json={"name": "nothing"}, headers=headers)
        assert (answer.status_code, answer.json()["error"][:10]) == (403, "a web page")
    assert (
        client(auth=lambda request: True).post("/v1/jobs", headers={"sec-fetch-site": "cross-site"}).status_code
        == 403
    )
    assert status(client(), "POST", origin="http://localhost:8000") == 201
    assert status(client(), "POST", sec_fetch_site="same-origin") == 201
    assert status(client(), "GET", sec_fetch_site="cross-site") == 200


# ---------------------------------------------------------------- token, auth, everybody


def test_a_token_serves_its_bearer_from_anywhere_and_nobody_else() -> None:
    remote = client(peer=("10.0.0.7", 1), base_url="http://jobs.example", token="s3cret")
    assert status(remote, authorization="Bearer s3cret") == 200
    assert status(remote, "POST", authorization="bearer s3cret", origin="http://other.example") == 201
    for wrong in ("Bearer s3cre", "Bearer s3cretx", "Basic s3cret", "s3cret", "Bearer ", "Bearer sécret"):
        answer = remote.get("/v1/jobs", headers={"authorization": wrong.encode()})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert status(client(token="s3cret")) == 401, "the machine itself needs it too"


def test_the_applications_rule_is_asked_sync_or_async() -> None:
    def by_header(request: Request) -> bool:
        return request.headers.get("x-user") == "ann"

    async def by_header_async(request: Request) -> bool:
        return by_header(request)

    class Rule:
        async def __call__(self, request: Request) -> bool:
            return by_header(request)

    for rule in (by_header, by_header_async, Rule()):
        remote = client(peer=("10.0.0.7", 1), base_url="http://jobs.example", auth=rule)
        assert status(remote, x_user="ann") == 200
        answer = remote.get("/v1/jobs")
        assert (answer.status_code, answer.json()) == (
            403,
            {"error": "the application's auth= does not allow this request"},
        )


def test_a_token_or_the_applications_rule_will_do() -> None:
    remote = client(
        peer=("10.0.0.7", 1), token="s3cret", auth=lambda request: request.headers.get("x-user") == "ann"
    )
    assert status(remote, x_user="ann") == status(remote, authorization="Bearer s3cret") == 200
    assert status(remote) == 401


def test_allow_anonymous_serves_everybody() -> None:
    remote = client(peer=("10.0.0.7", 1), base_url="http://jobs.example", allow_anonymous=True)
    assert status(remote) == 200
    assert status(remote, x_forwarded_for="1.2.3.4") == 200
