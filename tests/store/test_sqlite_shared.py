"""The application's own database: its journal mode, and the copy of SQLite that opens it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
import warnings
from contextlib import closing
from pathlib import Path

import pytest

from mpdispatch import sqlite3 as ours
from mpdispatch.errors import StoreError, UsageError
from mpdispatch.store import SQLiteStore, open_store
from mpdispatch.store.sqlite.options import FileOptions

ROOT = str(Path(__file__).resolve().parents[2])


def journal_mode(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


@pytest.fixture
def app_file(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    assert journal_mode(path) == "delete"
    return path


def test_a_switch_to_wal_is_announced(app_file: Path) -> None:
    store = SQLiteStore(app_file, shared=True)
    with pytest.warns(UserWarning, match="switched from delete to WAL, for every program"):
        store.migrate()
    assert journal_mode(app_file) == "wal"


def test_a_switch_to_wal_can_be_refused_and_nothing_is_changed(app_file: Path) -> None:
    before = app_file.read_bytes()
    for act in (SQLiteStore.migrate, SQLiteStore.check, lambda store: store.check(create=True)):
        store = SQLiteStore(app_file, shared=True, switch_to_wal=False)
        with pytest.raises(StoreError):
            act(store)
    with pytest.raises(StoreError, match=r"journal mode is delete.*PRAGMA journal_mode=WAL"):
        SQLiteStore(app_file, shared=True, switch_to_wal=False).migrate()
    assert app_file.read_bytes() == before


def test_warnings_as_errors_refuse_the_switch_too(app_file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning):
            SQLiteStore(app_file, shared=True).migrate()
    assert journal_mode(app_file) == "delete"


def test_a_file_of_ours_and_an_empty_one_are_switched_without_a_word(path: Path) -> None:
    SQLiteStore(path).migrate()
    other = path.with_name("empty.db")
    other.touch()
    SQLiteStore(other, shared=True).migrate()
    assert journal_mode(path) == journal_mode(other) == "wal"


def test_a_location_reopens_the_file_the_same_way(path: Path) -> None:
    store = SQLiteStore(path, "process", True, switch_to_wal=False)
    assert open_store(store.location).location == store.location
    assert "switch_to_wal=0" in store.location
    _, options = FileOptions.read(f"sqlite:///{path}?durability=process", defaults=FileOptions(shared=True))
    assert (options.durability, options.shared) == ("process", True)
    _, options = FileOptions.read(f"sqlite:///{path}?shared=0", defaults=FileOptions(shared=True))
    assert not options.shared


def test_an_unknown_copy_of_sqlite_is_refused_with_those_there_are(path: Path) -> None:
    with pytest.raises(UsageError, match="sqlite3"):
        SQLiteStore(path, copy="apsw")
    with pytest.raises(UsageError, match="durability, shared, switch_to_wal and copy"):
        open_store(f"sqlite:///{path}?mode=ro")


def test_the_copy_of_a_connection_is_known_by_its_type() -> None:
    class Mine(sqlite3.Connection):
        pass

    with closing(sqlite3.connect(":memory:", factory=Mine)) as connection:
        assert ours.copy_of(connection) == "sqlite3"
    assert ours.copy_of(object()) is None


OTHER_COPY = """
    # Stands in for pysqlite3: another module with classes of its own, as a second copy of SQLite has.
    import sqlite3 as _real
    from sqlite3 import *
    class Connection(_real.Connection): pass
    def connect(*args, **kwargs):
        return _real.connect(*args, **{**kwargs, "factory": Connection})
    class Error(_real.Error): pass
"""

PROGRAM = """
    import sqlite3, sys
    from mpdispatch import sqlite3 as ours
    from mpdispatch.clock import SystemClock
    from mpdispatch.errors import StoreError
    from mpdispatch.model import NewJob
    from mpdispatch.store import SQLiteStore, open_store

    now = SystemClock().now()
    assert list(ours.COPIES) == ["pysqlite3", "sqlite3"]
    theirs = SQLiteStore("app.db", shared=True, copy="sqlite3")
    job = theirs.enqueue(NewJob(name="a", payload=b"{}"))
    session = theirs._sessions.current()
    assert ours.copy_of(session.connection) == "sqlite3"
    try:
        SQLiteStore("app.db", shared=True).counts()
    except StoreError as error:
        assert "two copies" in str(error) and "copy='sqlite3'" in str(error), error
    else:
        raise AssertionError("a second copy of SQLite was let at the file")
    again = open_store(theirs.location)
    assert ours.copy_of(again._sessions.current().connection) == "sqlite3"
    theirs.close(), again.close()
    own = SQLiteStore("app.db", shared=True)
    assert own.get(job.id).name == "a"
    assert ours.copy_of(own._sessions.current().connection) == "pysqlite3"
    print("fine")
"""


def run_program(folder: Path, *path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        cwd=folder,
        env={"PYTHONPATH": ":".join([*path, ROOT])},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_store_uses_the_copy_it_was_given_and_no_second_one_comes_to_the_file(tmp_path: Path) -> None:
    package = tmp_path / "other" / "pysqlite3"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "dbapi2.py").write_text(textwrap.dedent(OTHER_COPY))
    # Installed as the real one in this test run only: sqlite-utils would take the stand-in for the real one.
    (package / "__init__.py").write_text("from .dbapi2 import *\n")
    done = run_program(tmp_path, str(package.parent))
    assert done.stdout == "fine\n", done.stderr
