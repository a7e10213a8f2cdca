"""`migrate-store` as people and programs use it: what it prints, what it refuses, and how far it is on a terminal."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mpdispatch.engine.moving import move_store
from mpdispatch.failpoints import FailpointError, arm
from mpdispatch.model import AlikeJobs, NewJob
from mpdispatch.store import SQLiteStore

from .conftest import Cli, Mp
from .terminal import Terminal


@pytest.fixture
def old(tmp_path: Path) -> SQLiteStore:
    store = SQLiteStore(tmp_path / "old.db")
    store.enqueue_many(AlikeJobs(NewJob(name="render", payload=b"{}"), [b"{}"] * 5))
    store.close()
    return store


def test_people_read_a_line_and_programs_all_of_it(mp: Mp, old: SQLiteStore, tmp_path: Path) -> None:
    code, out, err = mp("migrate-store", "old.db", "kept.db", "--keep")
    assert (code, err) == (0, "")
    assert out == (
        f"{tmp_path}/old.db: copied to {tmp_path}/kept.db: 5 jobs, 6 rows in all; counts and checksums agree\n"
    )
    code, out, err = mp("migrate-store", "old.db", "new.db", "--json")
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert answer.pop("seconds") >= 0
    assert set(answer["checksums"]) == set(answer["rows"])
    assert answer["checksums"]["jobs"] != answer["checksums"]["payloads"] == "0" * 32
    assert {name: count for name, count in answer["rows"].items() if count} == {"jobs": 5, "batches": 1}
    del answer["rows"], answer["checksums"]
    assert answer == {
        "from": f"{tmp_path}/old.db",
        "to": f"{tmp_path}/new.db",
        "moved": True,
        "kept": False,
        "resumed": False,
        "jobs": 5,
    }
    code, out, err = mp("enqueue", "render", "--store", "old.db")
    assert (code, out) == (69, "")
    assert f"{tmp_path}/old.db: was moved to {tmp_path}/new.db; use that store" in err
    assert mp("jobs", "--store", "old.db")[0] == 0
    assert mp("enqueue", "render", "--store", "new.db") == (0, "6\n", "")


def test_what_is_refused_names_the_argument(mp: Mp, old: SQLiteStore) -> None:
    for args, said in (
        (["old.db", "ftp://x"], "TO: ftp:// names no store"),
        ([":memory:", "new.db"], "FROM: :memory: is in the memory of one process"),
        (["old.db", "old.db"], "are one store"),
        (["old.db", "new.db", "--keep", "--abandon"], "--keep and --abandon: give one of them"),
        (["old.db", "new.db", "--abandon"], "is not being moved"),
        (["old.db", "new.db", "--store", "other.db"], "name the two stores as FROM and TO"),
    ):
        code, out, err = mp("migrate-store", *args)
        assert (code, out) == (2, ""), args
        assert said in err
    code, _, err = mp("migrate-store", "none.db", "new.db")
    assert code == 69
    assert "none.db: no store here" in err
    assert not os.path.lexists("new.db")
    assert old.enqueue(NewJob(name="render", payload=b"{}")).id == 6


def test_a_move_that_fails_says_that_the_old_store_is_frozen(mp: Mp, old: SQLiteStore, tmp_path: Path) -> None:
    arm("move.after_commit:raise@2")
    with pytest.raises(FailpointError):
        move_store(old, SQLiteStore(tmp_path / "new.db"))
    arm("")
    code, _, err = mp("migrate-store", "old.db", "other.db")
    assert code == 69
    lines = err.splitlines()
    assert (
        "nothing can be enqueued here until the move is finished (run it again) or given up (--abandon)"
        in lines[0]
    )
    assert f"old.db: is being moved to {tmp_path}/new.db" in lines[1]
    code, out, err = mp("migrate-store", "old.db", "new.db", "--abandon")
    assert (code, err) == (0, "")
    assert out == (
        f"{tmp_path}/old.db: not moved, and usable again; {tmp_path}/new.db holds a part of it and is of no use\n"
    )
    assert mp("enqueue", "render", "--store", "old.db") == (0, "6\n", "")
    assert "is being filled with what" in mp("enqueue", "render", "--store", "new.db")[2]


def test_a_terminal_shows_how_far_it_is(old: SQLiteStore, tmp_path: Path) -> None:
    with Terminal(tmp_path, "migrate-store", "old.db", "new.db", columns=120) as terminal:
        text = terminal.rest()
        assert terminal.process.returncode == 0
    assert "copying" in text
    assert "comparing ████████████████████ 6 of 6 rows" in text
    assert "moved to" in text


def test_a_store_that_was_moved_is_named_by_the_doctor(mp: Mp, old: SQLiteStore, tmp_path: Path) -> None:
    mp("migrate-store", "old.db", "new.db")
    _, out, _ = mp("doctor", "--store", "old.db")
    assert f"was moved to {tmp_path}/new.db" in out
    _, out, _ = mp("doctor", "--store", "new.db")
    assert "was moved" not in out


def test_supervise_ends_at_once_on_a_store_that_was_moved(cli: Cli, old: SQLiteStore, tmp_path: Path) -> None:
    cli("migrate-store", "old.db", "new.db")
    done = cli("supervise", "--store", "old.db", "--drain", "--allow-commands")
    assert done.returncode == 69
    assert f"was moved to {tmp_path}/new.db; use that store" in done.stderr
