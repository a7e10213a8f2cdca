"""The store's own token: made once, kept beside the store, asked for where the app gave neither a token nor a rule."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from mpdispatch import SQLiteStore, StoreMissing, StorePermission
from mpdispatch.extension import DispatchExtension
from mpdispatch.host.http_token import HttpToken
from tests.extension import apps
from tests.extension.server import ROOT, Place

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
FILE = Path("jobs.db-mpd/http-token")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(store: Any = "jobs.db", **access: Any) -> DispatchExtension:
    return DispatchExtension(store=store, supervise=False, **access)


def browser(ext: DispatchExtension) -> TestClient:
    return TestClient(ext.asgi_app, base_url="http://localhost", client=("127.0.0.1", 1))  # type: ignore[arg-type]


def status(on: TestClient, token: str | None = None) -> int:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return on.get("/v1/jobs", headers=headers).status_code


def test_it_is_made_at_the_first_start_long_random_and_for_its_owner_only() -> None:
    before = os.umask(0)
    try:
        with browser(made()):
            first = FILE.read_text()
            assert stat.S_IMODE(FILE.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert len(first.strip()) == 43, "256 bits in base64"
    with browser(made()):
        assert FILE.read_text() == first, "it is that store's, whoever starts"
    with browser(made("other.db")):
        assert Path("other.db-mpd/http-token").read_text() != first


def test_without_it_the_answer_is_401_with_the_remedy_and_nothing_is_told() -> None:
    with browser(made()) as on:
        for path in ("/v1/jobs", "/v1/stats", "/healthz", "/v1/jobs/1", "/nowhere"):
            answer = on.get(path)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.json()["error"] == (
                "a token is needed: `Authorization: Bearer TOKEN`; `mpdispatch token --store STORE` prints the store's"
                " own; or give the extension token=..., auth=a function of the request, or allow_anonymous=True to"
                " serve everybody"
            )
        assert on.post("/v1/jobs", json={"name": "x"}).status_code == 401
        for wrong in ("", "x", FILE.read_text().strip()[:-1], FILE.read_text().strip() + "x"):
            assert status(on, wrong) == 401
        assert status(on, FILE.read_text().strip()) == 200


def test_what_the_command_prints_is_served(cli: Cli) -> None:
    with browser(made()) as on:
        done = cli("token", "--store", "jobs.db")
        assert (done.returncode, done.stderr) == (0, "")
        assert status(on, done.stdout.strip()) == 200
        assert json.loads(cli("token", "--json", "--store", "jobs.db").stdout) == {
            "store": str(Path("jobs.db").resolve()),
            "token": done.stdout.strip(),
        }


def test_the_command_makes_it_for_the_server_to_come_but_no_store(cli: Cli) -> None:
    done = cli("token", "--store", "jobs.db")
    assert (done.returncode, done.stdout) == (69, "")
    assert list(Path().iterdir()) == []
    SQLiteStore("jobs.db").migrate()
    done = cli("token", "--store", "jobs.db")
    with browser(made()) as on:
        assert status(on, done.stdout.strip()) == 200
    assert cli("token", "--store", ":memory:").returncode == 2


def test_all_that_start_at_once_have_the_same() -> None:
    SQLiteStore("jobs.db").migrate()
    code = """if 1:
        import sys
        from mpdispatch import SQLiteStore
        from mpdispatch.host.http_token import HttpToken
        token = HttpToken(SQLiteStore("jobs.db"))
        print("ready", flush=True)
        sys.stdin.readline()
        print(token.value(), flush=True)
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MPDISPATCH_")}
    for _ in range(5):
        FILE.unlink(missing_ok=True)
        running = [
            subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**clean, "PYTHONPATH": ROOT},
            )
            for _ in range(4)
        ]
        assert [process.stdout.readline() for process in running if process.stdout] == ["ready\n"] * 4
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = {process.communicate(timeout=60)[0] for process in running}
        assert said == {FILE.read_text()}


def test_one_that_comes_while_another_makes_it_waits_and_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SQLiteStore("jobs.db")
    store.migrate()
    real, found = secrets.token_urlsafe, list[str]()
    late = threading.Thread(target=lambda: found.append(HttpToken(store).value()))

    def while_another_comes(count: int) -> str:
        if not late.ident:
            late.start()
            late.join(0.5)  # Without the lock it would make one of its own meanwhile.
        return real(count)

    monkeypatch.setattr(secrets, "token_urlsafe", while_another_comes)
    first = HttpToken(store).value()
    late.join()
    assert found == [first]
    assert FILE.read_text() == f"{first}\n"


@pytest.mark.parametrize(
    "content", ["", "half-of-a-tok", "\0" * 44, "x" * 43, "x" * 44 + "\n", "x y" * 14 + "x\n"]
)
def test_what_a_crash_left_there_is_no_token(content: str) -> None:
    SQLiteStore("jobs.db").migrate()
    FILE.write_text(content)
    FILE.chmod(0o600)
    found = made().token
    assert found is not None
    assert FILE.read_text() == f"{found}\n"
    assert len(found) == 43


def test_a_server_goes_on_with_it_when_the_folder_is_removed_and_takes_the_new_one_when_it_comes(
    cli: Cli,
) -> None:
    with browser(made()) as on, browser(made()) as neighbour:
        old = FILE.read_text().strip()
        shutil.rmtree("jobs.db-mpd")
        assert status(on, old) == status(neighbour, old) == 200
        assert status(on, "x" * 43) == 401
        assert not FILE.exists(), "a stranger's guess makes nothing"
        new = cli("token", "--store", "jobs.db").stdout.strip()
        assert new != old
        assert status(neighbour, old) == 401, "though nobody has come with the new one"
        assert status(on, new) == status(neighbour, new) == 200
        assert status(on, old) == status(neighbour, old) == 401


def test_an_extension_says_what_its_routes_ask_for() -> None:
    with pytest.raises(StoreMissing):
        made().token  # noqa: B018
    assert list(Path().iterdir()) == [], "nothing is made beside a store that is not there"
    SQLiteStore("jobs.db").migrate()
    assert made().token == HttpToken(SQLiteStore("jobs.db")).value() == FILE.read_text().strip()
    FILE.unlink()
    assert made(token="s3cret").token == "s3cret"
    assert made(auth=lambda request: True).token is None
    assert made(allow_anonymous=True).token is None
    for access in ({"token": "s3cret"}, {"auth": lambda request: True}, {"allow_anonymous": True}):
        with browser(made(**access)):
            assert not FILE.exists(), "nobody asks for it"
    with made():  # no routes
        assert not FILE.exists()


def test_of_a_store_in_memory_the_log_says_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    ext = made(":memory:")
    with browser(ext) as on:
        assert status(on) == 401
        told = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
        (line,) = [text for text in told if "asks for the token in" in text]
        assert status(on, Path(line.rpartition(" ")[2]).read_text().strip()) == 200
        assert ext.token == Path(line.rpartition(" ")[2]).read_text().strip()


def test_it_is_in_no_log_and_no_answer(caplog: pytest.LogCaptureFixture, cli: Cli) -> None:
    caplog.set_level(logging.DEBUG)
    for store in ("jobs.db", ":memory:"):
        ext = made(store)
        with browser(ext) as on:
            token = str(ext.token)
            answers = [
                on.get("/v1/nope", headers={"authorization": f"Bearer {token}"}),
                on.get("/v1/jobs", headers={"authorization": f"Basic {token}"}),
                on.get("/v1/jobs", headers={"authorization": f"Bearer {token}"}),
            ]
            assert all(token not in f"{answer.headers} {answer.text}" for answer in answers)
            ours = [each for each in caplog.records if each.name.startswith("mpdispatch")]
            assert all(token not in str(vars(each)) for each in ours)
            assert token not in repr(ext)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda: FILE.chmod(0o644), r"http-token can be read by others \(-rw-r--r--\); chmod 600"),
        (lambda: FILE.parent.chmod(0o777), r"jobs.db-mpd can be written by others"),
        (lambda: (FILE.unlink(), FILE.symlink_to("/etc/hostname")), r"http-token is a symbolic link"),
    ],
)
def test_one_that_others_may_know_or_change_is_none(
    spoil: Callable[[], object], why: str, cli: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    SQLiteStore("jobs.db").migrate()
    assert made().token
    content = FILE.read_text().strip()
    spoil()
    with pytest.raises(StorePermission, match=why):
        made().token  # noqa: B018
    assert cli("token", "--store", "jobs.db").returncode == 77
    with browser(made()) as on:  # The app lives; who would come in is told.
        assert "serves nobody yet" in caplog.text
        answer = on.get("/v1/jobs", headers={"authorization": f"Bearer {content}"})
        assert answer.status_code == 503
        assert answer.json()["error"] == "the store's own token cannot be read; the server's log says why"
        assert status(on) == 401


def test_a_plain_proxy_on_this_machine_opens_it_to_nobody(tmp_path: Path) -> None:
    """nginx's `proxy_pass` without more: a loopback peer, a loopback Host, and no header that says it forwarded."""
    with Place(tmp_path, apps.STARLETTE) as place:
        place.serve()
        job = place.order("secret.pdf")["id"]
        for method, path in (("GET", "jobs"), ("GET", f"jobs/{job}"), ("POST", "jobs"), ("GET", "stats")):
            body = {"json": {"name": "render", "payload": {"path": "x"}}} if method == "POST" else {}
            answer = place.client.request(method, f"/api/dispatch/v1/{path}", auth=None, **body)
            assert (answer.status_code, "secret.pdf" in answer.text) == (401, False)
        assert place.completed(job)["payload"] == {"path": "secret.pdf"}
