"""An app that mounts the routes itself, and one that is nothing but the routes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from mpdispatch import DispatchError, UsageError, current_engine
from mpdispatch.extension import DispatchExtension, get_engine


def client(app: Starlette) -> TestClient:
    return TestClient(app, base_url="http://localhost", client=("127.0.0.1", 1))


def bearing_its_token(browser: TestClient, ext: DispatchExtension) -> TestClient:
    browser.headers["authorization"] = f"Bearer {ext.token}"
    return browser


def render(path: str) -> str:
    return path


@pytest.fixture
def ext(folder: Path) -> Iterator[DispatchExtension]:
    made = DispatchExtension(store="jobs.db", supervise=False)
    made.engine.register(render)
    yield made
    with pytest.raises(DispatchError):
        current_engine()  # It was stopped with its app.


def test_an_app_may_mount_the_routes_itself_and_run_the_lifespan(ext: DispatchExtension) -> None:
    app = Starlette(routes=[Mount("/jobs", ext.asgi_app)], lifespan=ext.lifespan)
    with client(app) as browser:
        assert app.state.dispatch is current_engine() is ext.engine
        bearing_its_token(browser, ext)
        made = browser.post("/jobs/v1/jobs", json={"name": "render", "payload": {"path": "a.pdf"}})
        assert made.status_code == 201
        assert made.headers["location"] == "/jobs/v1/jobs/1"
        assert browser.get(made.headers["location"]).json()["payload"] == {"path": "a.pdf"}


def test_the_routes_served_alone_start_and_stop_the_extension(ext: DispatchExtension) -> None:
    with client(ext.asgi_app) as browser:  # type: ignore[arg-type]
        assert bearing_its_token(browser, ext).get("/healthz").json()["status"] == "ok"
        assert current_engine() is ext.engine


def test_each_app_of_a_process_has_its_own_engine_in_its_requests(
    ext: DispatchExtension, tmp_path: Path
) -> None:
    async def where(request: Request) -> PlainTextResponse:
        assert current_engine() is await get_engine() is request.app.state.dispatch
        return PlainTextResponse(current_engine().store.location)

    other = DispatchExtension(store=tmp_path / "other.db", supervise=False)
    browsers = []
    for each in (ext, other):
        app = Starlette(routes=[Route("/where", where)])
        each.install(app)
        browsers.append(client(app))
    with browsers[0], browsers[1]:
        for _ in range(2):
            assert [Path(b.get("/where").text).name for b in browsers] == ["jobs.db", "other.db"]


def test_an_app_that_has_served_already_takes_no_extension(ext: DispatchExtension) -> None:
    app = Starlette()
    with client(app) as browser:
        browser.get("/")
    with pytest.raises(UsageError, match="before the app has started"):
        ext.install(app)
