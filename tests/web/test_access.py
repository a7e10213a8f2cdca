"""Who is served: the machine itself, bearers of the token, those the application says yes to, or everybody."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.testclient import TestClient

from mpdispatch.extension import DispatchExtension
from mpdispatch.web.access import stranger

LOCAL = {"base_url": "http://localhost:8000", "client": ("127.0.0.1", 50000)}
NEEDED = "a token is needed: `Authorization: Bearer TOKEN`"
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


def own_token() -> str:
    found = DispatchExtension(store="jobs.db", supervise=False).token
    assert found is not None
    return found


def bearing(token: str, on: TestClient) -> TestClient:
    on.headers["authorization"] = f"Bearer {token}"
    return on


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
def test_a_loopback_peer_with_a_loopback_host_and_the_stores_own_token_is_served(host: str, peer: str) -> None:
    assert status(bearing(own_token(), client(peer=(peer, 1))), host=host) == 200
    assert status(client(peer=(peer, 1)), host=host) == 401


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
        answer = bearing(own_token(), client(peer=(peer, 1))).get(path, headers=headers)
        assert answer.status_code == 403, "with its token as well"
        assert why in answer.json()["error"]
        assert answer.json()["error"].endswith(REMEDY)


def test_a_unix_socket_has_no_peer_and_is_not_served() -> None:
    assert stranger({"client": None, "headers": [(b"host", b"localhost")]}) == "the peer (unknown) is another"


SPELT = st.sampled_from(
    ["localhost", "LocalHost", "app.localhost", "localhost.", "127.0.0.1", "127.254.3.2", "[::1]"]
)
PORTS = st.integers(1, 65_535)
JUNK = st.sampled_from("@#?/\\%,; \t\n\0é[]:")


def is_local(host: str) -> bool:
    scope = {"client": ("127.0.0.1", 1), "headers": [(b"host", host.encode("utf-8", "replace"))]}
    return stranger(scope) is None


@given(SPELT, st.none() | PORTS)
def test_a_loopback_name_with_a_port_or_none_is_local(name: str, port: int | None) -> None:
    assert is_local(name if port is None else f"{name}:{port}")


@given(SPELT, st.none() | PORTS, JUNK, st.integers(0, 30))
def test_a_character_that_no_host_has_there_makes_it_foreign(
    name: str, port: int | None, junk: str, at: int
) -> None:
    host = name if port is None else f"{name}:{port}"
    spoilt = host[:at] + junk + host[at:]
    assert not is_local(spoilt), spoilt


@given(st.text() | st.text("localhst.127:0[]@-_5x", max_size=24))
@example("localhost:abc")
@example("[::1]junk")
@example("[::1%25eth0]")
@example("localhost:80:80")
@example("user@localhost")
@example("localhost:")
@example("localhost:0")
@example("localhost:65536")
@example("localhost:٣")
@example("127.1")
@example("0177.0.0.1")
@example("::1")
@example(".localhost")
@example("localhost..")
@example("")
def test_what_is_taken_for_local_means_just_that_to_another_parser_of_urls_too(host: str) -> None:
    if not is_local(host):
        return
    url = urlsplit(f"http://{host}/")
    assert (url.netloc, url.path, url.username, url.query) == (host, "/", None, "")
    assert url.port is None or 0 < url.port < 65_536
    assert not host.endswith(":")
    name = url.hostname or ""
    assert name.removesuffix(".").split(".")[-1] == "localhost" or ipaddress.ip_address(name).is_loopback


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost:abc",
            "[::1]junk",
            "[::1]:",
            "[::1",
            "localhost:80:80",
            "user@localhost",
            "user:x@localhost",
        ),
        *("localhost:", "localhost:0", "localhost:65536", "localhost:000080", "localhost,evil.example"),
        *("127.1", "0177.0.0.1", "::1", ".localhost", "localhost..", "a..localhost", "127.0.0.1."),
        *("notlocalhost", "localhost.evil.example", "[::2]", "[::ffff:10.0.0.1]", "128.0.0.1"),
    ],
)
def test_a_host_that_is_not_just_a_loopback_name_and_a_port_is_foreign(host: str) -> None:
    assert not is_local(host)
    assert bearing(own_token(), client()).get("/v1/jobs", headers={"host": host}).status_code == 403


@given(st.text())
def test_no_peer_breaks_the_rule(peer: str) -> None:
    found = stranger({"client": (peer, 1), "headers": [(b"host", b"localhost")]})
    assert found is None or found == f"the peer {peer} is another"


def test_two_hosts_are_one_too_many() -> None:
    headers = [(b"host", b"localhost"), (b"host", b"localhost")]
    assert stranger({"client": ("127.0.0.1", 1), "headers": headers}) is not None


# ---------------------------------------------------------------- other pages in a local browser


def posted(on: TestClient, **headers: str) -> tuple[int, str]:
    """Status and error of a job that is enqueued with these headers; a Content-Type of JSON unless they say another."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = on.post(
        "/v1/jobs", content='{"name": "nothing"}', headers={"content-type": "application/json"} | named
    )
    return answer.status_code, answer.json().get("error", "")


def saying_yes(request: Request) -> bool:
    return True


OPEN = [
    pytest.param({"auth": saying_yes}, id="auth"),
    pytest.param({"allow_anonymous": True}, id="anonymous"),
]
HERE = {"peer": ("10.0.0.7", 1), "base_url": "http://jobs.example"}


@pytest.mark.parametrize(
    "rule", [*OPEN, pytest.param({}, id="own token"), pytest.param({"token": "s3cret"}, id="token")]
)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://[x"},
        {"origin": "http://localhost:8001"},
        {"origin": "http://localhost"},
        {"origin": "http://evil@localhost:8000"},
        {"origin": "localhost:8000"},
        {"cookie": "session=1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "cross-site", "origin": "http://localhost:8000"},
        {"sec_fetch_site": "same-site", "origin": "http://localhost:8000"},
    ],
)
def test_a_page_of_another_site_cannot_enqueue(rule: dict[str, Any], headers: dict[str, str]) -> None:
    for kind in ("application/json", "text/plain"):
        code, error = posted(client(**rule), content_type=kind, **headers)
        assert code == 403
        assert error.startswith(
            ("a web page of another site sent this", "a web page of another site could have")
        )


def test_what_a_proxy_was_asked_for_makes_no_other_site_ours() -> None:
    foreign = {"origin": "http://evil.example", "host": "127.0.0.1:8000"}
    for hosts in ("shop.example", "shop.example, evil.example", ", evil.example", "x@evil.example"):
        code, error = posted(client(allow_anonymous=True), x_forwarded_host=hosts, **foreign)
        assert code == 403
        assert "its Origin 'http://evil.example' is not the Host '127.0.0.1:8000" in error
        assert error.endswith("(nginx: proxy_set_header Host $http_host)")


@pytest.mark.parametrize("rule", OPEN)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://jobs.example"},
        {"origin": "http://JOBS.example:80"},
        {"origin": "https://jobs.example", "host": "jobs.example:443"},
        {"origin": "https://jobs.example", "cookie": "session=1"},
        {"origin": "http://[::1]:8000", "host": "[0::1]:8000", "cookie": "session=1"},
        # The page is one of a proxy that calls us by another name.
        {"origin": "https://shop.example", "host": "127.0.0.1:8000", "x_forwarded_host": "shop.example"},
        {"origin": "https://shop.example", "host": "127.0.0.1:8000", "x_forwarded_host": "shop.example, inner"},
        {"origin": "https://shop.example", "host": "127.0.0.1:8000", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "same-origin", "cookie": "session=1"},
        {"sec_fetch_site": "none"},
    ],
)
def test_a_page_of_the_same_site_and_what_is_no_page_can(rule: dict[str, Any], headers: dict[str, str]) -> None:
    assert posted(client(**HERE, **rule), **headers) == (201, "")


@pytest.mark.parametrize("rule", OPEN)
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"]
)
def test_what_a_form_can_send_is_not_taken_from_anybody(rule: dict[str, Any], kind: str) -> None:
    assert posted(client(**rule), content_type=kind) == (
        415,
        f"POST needs `Content-Type: application/json`, not {kind!r}",
    )
    assert posted(client(**rule), content_type="Application/JSON; charset=utf-8")[0] == 201


@pytest.mark.parametrize("rule", [*OPEN, {}, {"token": "s3cret"}])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("Content-Type", "application/json", "text/plain"),
        ("Content-Type", "application/json", "application/json"),
        ("Origin", "http://127.0.0.1:8000", "http://evil.example"),
        ("Host", "127.0.0.1:8000", "evil.example"),
    ],
)
def test_a_header_that_is_judged_by_is_not_taken_twice(
    rule: dict[str, Any], method: str, name: str, first: str, second: str
) -> None:
    on = client(**rule)
    on.headers["authorization"] = f"Bearer {rule.get('token') or own_token()}"
    answer = on.request(
        method, "/v1/jobs", headers=[(name, first), (name.lower(), second)], content=b'{"name": "nothing"}'
    )
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        f"the header {name} is there 2 times; send it once",
    )
    assert on.get("/v1/jobs").json() == []


def test_one_whom_the_applications_rule_refuses_is_told_that_and_not_of_his_type() -> None:
    code, error = posted(client(auth=lambda request: False), content_type="text/plain")
    assert (code, error) == (403, "the application's auth= does not allow this request")


def test_a_page_that_bears_the_token_is_served_wherever_it_is() -> None:
    """No page of another site can send this header: we allow none to (CORS)."""
    for on in (bearing(own_token(), client()), bearing("s3cret", client(token="s3cret", **HERE))):
        assert posted(on, origin="http://evil.example", cookie="a=1", content_type="text/plain") == (201, "")


def test_to_look_changes_nothing_so_any_page_may_ask() -> None:
    for rule in ({"auth": saying_yes}, {"allow_anonymous": True}):
        assert status(client(**rule), "GET", sec_fetch_site="cross-site", origin="http://[x") == 200


# ---------------------------------------------------------------- token, auth, everybody


def test_a_token_serves_its_bearer_from_anywhere_and_nobody_else() -> None:
    remote = client(peer=("10.0.0.7", 1), base_url="http://jobs.example", token="s3cret")
    assert status(remote, authorization="Bearer s3cret") == 200
    assert status(remote, "POST", authorization="bearer s3cret", origin="http://other.example") == 201
    for wrong in ("Bearer s3cre", "Bearer s3cretx", "Basic s3cret", "s3cret", "Bearer ", "Bearer sécret"):
        answer = remote.get("/v1/jobs", headers={"authorization": wrong.encode()})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json() == {"error": NEEDED}
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


def test_a_client_that_leaves_while_the_applications_rule_reads_its_body_is_no_trouble(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def by_body(request: Request) -> bool:
        return bool(await request.body())

    async def request_that_ends_early() -> list[Any]:
        sent: list[Any] = []
        messages = iter(
            [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
        )

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "query_string": b"", "headers": headers}
        ext = DispatchExtension(store="jobs.db", supervise=False, auth=by_body)
        await ext.asgi_app(scope, receive, send)
        return sent

    assert asyncio.run(request_that_ends_early())[0]["status"] == 400
    assert not [each for each in caplog.records if each.levelno > logging.DEBUG]
