"""The extension in real apps under a real uvicorn: routes, requests, lifecycle, signals, reload."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.extension import apps
from tests.extension.server import Place, end, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


@pytest.mark.parametrize("framework", apps.ALL)
def test_an_app_serves_its_own_routes_and_ours_and_ends_with_everything_on_sigterm(
    tmp_path: Path, framework: str
) -> None:
    with Place(tmp_path, apps.ALL[framework]) as place:
        server = place.serve()
        here = place.client.get("/ping").json()
        # In the host's process: its signal handlers are its own, and it gathers no orphans.
        assert "uvicorn" in here["handlers"]["SIGTERM"]
        assert "uvicorn" in here["handlers"]["SIGINT"]
        assert all("SIG_DFL" in here["handlers"][name] for name in ("SIGCHLD", "SIGHUP", "SIGALRM"))
        assert not here["is_subreaper"]

        made = place.order("a.pdf")
        job = place.completed(made["id"])
        assert job["result"]["path"] == "a.pdf"
        assert job["result"]["pid"] not in (here["pid"], server.pid), "handlers run in workers"
        assert [attempt["cause"] for attempt in job["attempts"]] == ["completed"]

        client = place.client
        assert client.get("/api/dispatch/healthz").json()["supervises"] is True
        assert client.get("/api/dispatch/v1/stats").json()["jobs"]["completed"] == 1
        assert [each["id"] for each in client.get("/api/dispatch/v1/jobs").json()] == [made["id"]]
        second = client.post("/api/dispatch/v1/jobs", json={"name": "render", "payload": {"path": "b.pdf"}})
        assert second.status_code == 201
        assert place.completed(second.json()["id"])["result"]["path"] == "b.pdf"
        nowhere = client.get("/api/dispatch/v1/nope")
        assert (nowhere.status_code, nowhere.json()["error"]) == (
            404,
            "there is nothing at /api/dispatch/v1/nope",
        )
        assert client.get("/api/dispatch/v1/jobs", headers={"host": "evil.example"}).status_code == 403

        assert end(server) in (0, -signal.SIGTERM), place.said()
        until(lambda: not place.marked(), "no process is left")
        assert place.store.supervisors() == []
        # Around the app's own lifespan: the engine works at both ends of it.
        assert "mine begins 1" in place.said()
        assert "mine ends True" in place.said()


def test_disable_routes_starts_and_stops_with_the_app_and_mounts_nothing(tmp_path: Path) -> None:
    app = apps.FASTAPI.replace("concurrency=2", "concurrency=2, disable_routes=True")
    with Place(tmp_path, app) as place:
        server = place.serve()
        assert place.client.get("/api/dispatch/healthz").status_code == 404
        job_id = place.order("a.pdf")["id"]
        until(lambda: place.store.get(job_id).state == "completed", "the job is completed")
        end(server)
        until(lambda: not place.marked(), "no process is left")


def test_a_base_path_of_its_own_is_where_the_routes_are(tmp_path: Path) -> None:
    for number, framework in enumerate(apps.ALL):
        folder = tmp_path / str(number)
        folder.mkdir()
        app = apps.ALL[framework].replace("concurrency=2", "base_path='/internal/tasks', supervise=False")
        with Place(folder, app) as place:
            place.serve()
            assert place.client.get("/internal/tasks/healthz").json()["supervises"] is False
            assert place.client.get("/api/dispatch/healthz").status_code == 404


def test_a_running_job_may_finish_when_the_server_gets_sigterm(tmp_path: Path) -> None:
    with Place(tmp_path, apps.STARLETTE) as place:
        server = place.serve()
        job_id = place.client.post(
            "/api/dispatch/v1/jobs", json={"name": "nap", "payload": {"seconds": 1.5}}
        ).json()["id"]
        until(lambda: place.store.get(job_id).state == "running", "the job runs")
        end(server)
        assert place.store.get(job_id).state == "completed"
        until(lambda: not place.marked(), "no process is left")


def test_reload_starts_anew_and_leaves_no_process(tmp_path: Path) -> None:
    with Place(tmp_path, apps.FASTAPI) as place:
        server = place.serve("--reload")
        first = place.only()
        job_id = place.order("a.pdf")["id"]
        assert place.completed(job_id)["result"]["path"] == "a.pdf"
        place.write(apps.FASTAPI.replace('"path": path,', '"path": path + "!",'))
        second = until(
            lambda: next((peer for peer in place.living() if peer.pid != first.pid), None),
            f"another process supervises after the reload\n{place.said()}",
        )
        assert second is not None
        until(place.answers, "it answers again")
        assert place.completed(place.order("b.pdf")["id"])["result"]["path"] == "b.pdf!"
        assert first.pid not in place.marked()
        assert len(place.living()) == 1
        end(server)
        until(lambda: not place.marked(), f"no process is left\n{place.said()}")


def test_a_killed_server_leaves_no_worker(tmp_path: Path) -> None:
    with Place(tmp_path, apps.STARLETTE) as place:
        server = place.serve()
        place.completed(place.order("a.pdf")["id"])
        end(server, signal.SIGKILL)
        until(lambda: not place.marked(), "no process is left", within=5)


def test_an_app_that_workers_cannot_find_does_not_start_and_says_why(tmp_path: Path) -> None:
    app = """
    from mpdispatch.extension import DispatchExtension
    from starlette.applications import Starlette

    def make():
        app = Starlette()
        DispatchExtension(store="jobs.db").install(app)
        return app
    """
    with Place(tmp_path, app) as place:
        server = place.run("uvicorn", "main:make", "--factory", "--port", str(place.port))
        assert server.wait(60) == 3
        assert "no module has this engine as an attribute" in place.said()
        assert "supervise=False" in place.said()


@pytest.mark.parametrize("kind", apps.ALL)
def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_trouble(tmp_path: Path, kind: str) -> None:
    app = (
        apps.ALL[kind]
        + """
    import logging
    logging.getLogger("mpdispatch.web").addHandler(logging.StreamHandler())
    logging.getLogger("mpdispatch.web").setLevel(logging.DEBUG)
    logging.getLogger("mpdispatch.web").propagate = False
"""
    )
    with Place(tmp_path, app) as place:
        place.serve()
        token = (tmp_path / "jobs.db-mpd" / "http-token").read_text().strip()
        head = (
            f"POST /api/dispatch/v1/jobs HTTP/1.1\r\nHost: localhost:{place.port}\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nContent-Length: 10000\r\n\r\n"
        )
        before = len(place.said().splitlines())
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", place.port)) as client:
                client.sendall(head.encode() + b'{"name": "ren')
        until(lambda: place.said().count("a client left") + place.said().count("Error") >= 3, "it has noticed")
        assert place.answers()
        said = [line for line in place.said().splitlines()[before:] if "/ping" not in line]
        assert said == ["a client left before its request ended"] * 3
        assert place.client.get("/api/dispatch/v1/jobs").json() == []
