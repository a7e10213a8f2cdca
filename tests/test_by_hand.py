"""The printed schema, and jobs that the databases' own shells enqueue with it, as `migrate --print` says."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mpdispatch import sqlite3
from mpdispatch.model import Job, JobState
from mpdispatch.store import SQLiteStore, open_store
from mpdispatch.store.filters import JobFilter, PruneFilter
from mpdispatch.store.sqlite.script import script

from .conftest import Cli, Mp
from .servers.fixtures import Place

APP = """
from mpdispatch import Engine
engine = Engine.open({!r})

@engine.job
def render(path: str) -> str:
    return path.upper()
"""
NOW = "now.us, 3, now.us"


def by_sqlite3(path: Path, sql: str) -> str:
    """What the program sqlite3 prints."""
    program = shutil.which("sqlite3")
    if program is None:
        pytest.skip("the program sqlite3 is not here")
    done = subprocess.run(
        [program, "-bail", str(path)], input=sql, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def documented_insert(text: str) -> str:
    """The statement in the comments at the head of a script."""
    head, _, rest = text.partition("-- To enqueue from any language")
    assert "-- mpdispatch's tables" in head
    lines = rest.splitlines()[1:]
    return "\n".join(line.removeprefix("--     ") for line in lines[: lines.index("--")])


def jobs(store: SQLiteStore) -> list[Job]:
    return list(store.list_jobs(JobFilter(), limit=9, cursor=None).items)


def schema(path: Path) -> set[tuple[str, str]]:
    with closing(sqlite3.connect(str(path))) as connection:
        return {
            (name, sql.rstrip(";"))
            for name, table, sql in connection.execute(
                "SELECT name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL"
            )
            if table != "mpdispatch_migrations" and not name.startswith("sqlite_")
        }


def test_the_printed_schema_is_the_one_that_is_made(mp: Mp, tmp_path: Path) -> None:
    code, sql, err = mp("migrate", "--print", "--store", "by-hand.db")
    assert (code, err) == (0, "")
    assert not (tmp_path / "by-hand.db").exists(), "nothing is done"
    (tmp_path / "by-hand.db").touch(0o600)
    by_sqlite3(tmp_path / "by-hand.db", sql)
    SQLiteStore(tmp_path / "made.db").migrate()
    assert schema(tmp_path / "by-hand.db") == schema(tmp_path / "made.db")
    store = SQLiteStore(tmp_path / "by-hand.db")
    assert store.migrate() == (5, 5)
    store.check()
    assert not [each for each in store.examine() if each.needs_doing]
    _, out, _ = mp("migrate", "--print", "--json", "--store", "by-hand.db")
    assert json.loads(out) == {"store": str(tmp_path / "by-hand.db"), "sql": sql[:-1]}
    store.close()


def test_the_script_of_a_shared_file_leaves_the_file_as_it_is(mp: Mp, tmp_path: Path) -> None:
    code, sql, err = mp("migrate", "--print", "--store", "sqlite:///shop.db?shared=1")
    assert (code, err) == (0, "")
    assert "\nPRAGMA" not in sql
    by_sqlite3(tmp_path / "shop.db", "CREATE TABLE orders (id);" + sql)
    store = open_store(f"sqlite:///{tmp_path}/shop.db?shared=1")
    with pytest.warns(UserWarning, match="journal mode"):
        store.check()
    store.close()


def test_the_program_sqlite3_enqueues_as_it_is_documented(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    store = SQLiteStore(path)
    store.migrate()
    insert = documented_insert(script(is_shared=False))
    began_us = time.time_ns() // 1000
    with_key = (
        insert.replace("payload)", "payload, idempotency_key)")
        .replace("}'\n", "}', 'k''1'\n")
        .replace(
            ";",
            "\nWHERE true ON CONFLICT (name, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING;",
        )
    )
    later = insert.replace("'pending', 1", "'scheduled', 2").replace(NOW, "now.us + 3600000000, 3, now.us")
    assert later != insert
    by_sqlite3(path, "PRAGMA busy_timeout = 30000; PRAGMA wal_autocheckpoint = 0;" + insert)
    by_sqlite3(path, with_key + with_key + later)
    last, keyed, first = jobs(store)
    assert [first.id, keyed.id, last.id] == [1, 2, 3]
    assert (first.name, first.queue, first.payload) == ("render", "default", {"path": "a.pdf"})
    assert began_us - 10_000 <= first.created_at.timestamp() * 1e6 <= time.time_ns() / 1000 + 10_000
    assert keyed.idempotency_key == "k'1"
    assert (last.state, round((last.run_at - last.created_at).total_seconds())) == (JobState.SCHEDULED, 3600)
    assert not [each for each in store.examine() if each.check == "rows" and each.needs_doing]
    (tmp_path / "tasks.py").write_text(APP.format(str(path)))
    done = cli("supervise", "tasks:engine", "--drain")
    assert done.returncode == 0, done.stderr
    assert [(job.state, job.result) for job in jobs(store)[1:]] == [(JobState.COMPLETED, "A.PDF")] * 2
    store.cancel(last.id)
    store.close()


def test_an_id_of_a_pruned_job_is_not_used_again(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "jobs.db")
    store.migrate()
    insert = documented_insert(script(is_shared=False))
    by_sqlite3(tmp_path / "jobs.db", insert)
    store.cancel(1)
    assert store.prune(PruneFilter(keep=0)).by_state
    by_sqlite3(tmp_path / "jobs.db", insert)
    assert [job.id for job in jobs(store)] == [2]
    store.close()


# ---------------------------------------------------------------- on a server


def by_psql(place: Place, sql: str) -> str:
    """What the program psql prints."""
    program = shutil.which("psql")
    if program is None:
        pytest.skip("the program psql is not here")
    done = subprocess.run(
        [program, place.dsn, "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1"],
        input=sql,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


_COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, coalesce(column_default, ''), is_identity
FROM information_schema.columns WHERE table_schema = '$schema' ORDER BY 1, 2;
SELECT replace(indexdef, '$schema.', '') FROM pg_indexes WHERE schemaname = '$schema' ORDER BY indexname;
"""


def test_the_printed_schema_is_the_one_that_is_made_on_a_server(
    mp: Mp, new_place: Callable[[str], Place]
) -> None:
    printed, made = new_place("postgres"), new_place("postgres")
    code, sql, err = mp("migrate", "--print", "--store", printed.location)
    assert (code, err) == (0, "")
    by_psql(printed, sql)
    assert mp("migrate", "--store", made.location)[0] == 0
    found, wanted = (by_psql(each, _COLUMNS.replace("$schema", each.name)) for each in (printed, made))
    assert found == wanted
    assert "mpdispatch_jobs|payload" in found
    code, out, _ = mp("migrate", "--store", printed.location)
    assert (code, out.endswith("schema version 5, nothing to do\n")) == (0, True)
    assert mp("enqueue", "render", "--store", printed.location) == (0, "1\n", "")


def test_the_program_psql_enqueues_as_it_is_documented(
    cli: Cli, new_place: Callable[[str], Place], tmp_path: Path
) -> None:
    place = new_place("postgres")
    store = open_store(place.location)
    store.migrate()
    insert = documented_insert(store.script())
    conflict = "\nON CONFLICT (name, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING;"
    with_key = insert.replace("payload)", "payload, idempotency_key)").replace("}'\n", "}', 'k''1'\n")
    with_key = with_key.replace(";", conflict)
    later = insert.replace("'pending', 1", "'scheduled', 2").replace(NOW, "now.us + 3600000000, 3, now.us")
    notify = next(line for line in store.script().splitlines() if "NOTIFY" in line).split()[2]
    by_psql(place, f"BEGIN; {insert} NOTIFY {notify} COMMIT;")
    by_psql(place, with_key + with_key + later)
    last, keyed, first = store.list_jobs(JobFilter(), limit=9, cursor=None).items
    assert first.id < keyed.id < last.id
    assert (first.name, first.queue, first.payload) == ("render", "default", {"path": "a.pdf"})
    assert keyed.idempotency_key == "k'1"
    assert (last.state, round((last.run_at - last.created_at).total_seconds())) == (JobState.SCHEDULED, 3600)
    (tmp_path / "tasks.py").write_text(APP.format(place.location))
    done = cli("supervise", "tasks:engine", "--drain")
    assert done.returncode == 0, done.stderr
    ended = store.list_jobs(JobFilter(), limit=9, cursor=None).items[1:]
    assert [(job.state, job.result) for job in ended] == [(JobState.COMPLETED, "A.PDF")] * 2
    store.close_all()


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_the_printed_functions_are_loaded_and_called_as_they_are_documented(
    mp: Mp, new_place: Callable[[str], Place], kind: str
) -> None:
    import redis

    place = new_place(kind)
    code, text, err = mp("migrate", "--print", "--store", place.location)
    assert (code, err) == (0, "")
    mp("migrate", "--store", place.location)
    call = next(line for line in text.splitlines() if "FCALL mpdispatch_enqueue" in line).removeprefix("--")
    server = redis.Redis.from_url(place.dsn)
    server.function_load(text, replace=True)
    assert server.execute_command(*shlex.split(call)) == 1
    server.close()
    code, out, _ = mp("show", "1", "--store", place.location, "--json")
    found = json.loads(out)
    assert (found["name"], found["queue"], found["payload"]) == ("render", "default", {"path": "a.pdf"})
