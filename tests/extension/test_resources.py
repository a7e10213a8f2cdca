"""What resources are recognised as, where they are looked for, and the stores they make."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import pytest
import sqlalchemy
import sqlite_utils
import svcs

from mpdispatch import ConfigError, SQLiteStore, UsageError, open_store
from mpdispatch.extension import DispatchExtension
from mpdispatch.extension.detect import Kind, detect, kind_of_type
from mpdispatch.extension.resources import as_resources
from mpdispatch.store.servers import POSTGRES, REDIS
from mpdispatch.store.sqlite.options import FileOptions
from tests.extension.stand_ins import (
    Dialect,
    postgres_engine,
    postgres_pool,
    redis_client,
    stand_in,
    valkey_client,
)

SHARED = FileOptions(shared=True)


@pytest.fixture
def app_db(folder: Path) -> Path:
    """The application's own database, with a table of its own."""
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        connection.execute("PRAGMA journal_mode = WAL")
    return folder / "app.db"


@pytest.fixture
def connection(app_db: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(app_db)) as opened:
        yield opened


# ---------------------------------------------------------------- recognised by type


@pytest.mark.parametrize(
    ("make", "kind", "what"),
    [
        (postgres_engine, Kind.DATABASE, "SQLAlchemy engine (postgresql)"),
        (postgres_pool, Kind.DATABASE, "PostgreSQL ConnectionPool"),
        (lambda: stand_in("psycopg", "Connection"), Kind.DATABASE, "PostgreSQL Connection"),
        (lambda: stand_in("psycopg_pool.x", "AsyncConnectionPool"), Kind.DATABASE, "PostgreSQL AsyncConnectionPool"),
        (lambda: "postgresql+psycopg://me:secret@host/db", Kind.DATABASE, "postgresql DSN"),
        (redis_client, Kind.KV, "Redis Redis"),
        (valkey_client, Kind.KV, "Redis Valkey"),
        (lambda: stand_in("redis.asyncio.client", "Redis"), Kind.KV, "Redis Redis"),
        (lambda: stand_in("fakeredis", "FakeRedis", type(redis_client())), Kind.KV, "Redis FakeRedis"),
        (lambda: "redis://localhost/0", Kind.KV, "redis DSN"),
        (lambda: "valkey://localhost/0", Kind.KV, "valkey DSN"),
        (lambda: "rediss://:secret@host", Kind.KV, "rediss DSN"),
        (lambda: "valkeys://host", Kind.KV, "valkeys DSN"),
        (lambda: "unix:///run/valkey.sock?db=1", Kind.KV, "unix DSN"),
        (lambda: "redis+unix:///run/redis.sock", Kind.KV, "redis DSN"),
    ],
)  # fmt: skip
def test_resources_on_servers_are_recognised_without_their_drivers(
    make: Any, kind: Kind, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = list[tuple[str, Any]]()
    monkeypatch.setattr(
        "mpdispatch.extension.detect.store_of", lambda product, thing: given.append((product, thing))
    )
    monkeypatch.setattr("mpdispatch.store.open.open_server", lambda product, url: given.append((product, url)))
    thing = make()
    found = detect(thing)
    assert found is not None
    assert (found.kind, found.what) == (kind, what)
    found.open(SHARED)
    assert given == [(POSTGRES if kind is Kind.DATABASE else REDIS, thing)]


def test_the_sync_engine_of_an_async_one_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    given = list[Any]()
    monkeypatch.setattr("mpdispatch.extension.detect.store_of", lambda product, thing: given.append(thing))
    inner = postgres_engine()
    found = detect(stand_in("sqlalchemy.ext.asyncio.engine", "AsyncEngine", sync_engine=inner))
    assert found is not None
    assert found.what == "SQLAlchemy engine (postgresql)"
    found.open(SHARED)
    assert given == [inner]


@pytest.mark.parametrize(
    ("make", "drivers", "extra"),
    [
        (postgres_engine, ["psycopg"], "postgres"),
        (lambda: "postgresql://me:secret@host/db", ["psycopg"], "postgres"),
        (redis_client, ["redis", "valkey"], "redis"),
        (lambda: "valkeys://:secret@host", ["redis", "valkey"], "redis"),
    ],
)
def test_a_missing_extra_is_named_with_the_line_that_brings_it(
    make: Any, drivers: list[str], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in drivers:
        monkeypatch.setitem(sys.modules, name, None)
    found = detect(make())
    assert found is not None
    with pytest.raises(UsageError, match=rf"pip install 'mpdispatch\[{extra}\]'") as raised:
        found.open(SHARED)
    assert f"needs the package {drivers[0]}, which is not installed" in str(raised.value)
    with pytest.raises(
        ConfigError, match=rf"grove_{found.kind}: .*pip install 'mpdispatch\[{extra}\]'"
    ) as told:
        DispatchExtension(**{f"grove_{found.kind}": ""}, resources={"": make()})
    assert "secret" not in str(raised.value) + str(told.value)


def test_a_driver_that_cannot_be_used_is_named_with_the_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "psycopg.py").write_text("raise ImportError('no pq wrapper available.\\nAttempts made: 3')")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "psycopg", raising=False)
    with pytest.raises(
        UsageError, match=r"cannot use the package psycopg \(no pq wrapper available\): pip install"
    ):
        open_store("postgresql://host/db")


def test_the_text_of_a_dsn_is_never_shown() -> None:
    for name in ("x", ""):
        with pytest.raises(ConfigError) as raised:
            DispatchExtension(
                grove_database=name, resources={"": "postgresql://me:secret@host/db?durability=none"}
            )
        assert "secret" not in str(raised.value)


def test_sqlite_in_every_form_gives_a_store_on_its_file(app_db: Path, connection: sqlite3.Connection) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{app_db}")
    uri = sqlalchemy.create_engine(f"sqlite:///file:{app_db}?uri=true")
    for thing in (
        engine,
        uri,
        connection,
        sqlite_utils.Database(connection),
        f"sqlite:///{app_db}",
        str(app_db),
        app_db,
    ):
        found = detect(thing)
        assert found is not None
        assert found.kind is Kind.DATABASE
        store = found.open(FileOptions(shared=True, durability="process", switch_to_wal=False))
        # `&copy=sqlite3` follows where ours is another one.
        assert store.location.startswith(f"sqlite:///{app_db}?durability=process&shared=1&switch_to_wal=0")


def test_an_async_sqlalchemy_engine_is_taken_by_its_sync_one(app_db: Path) -> None:
    inner = sqlalchemy.create_engine(f"sqlite:///{app_db}")
    wrapper = stand_in("sqlalchemy.ext.asyncio.engine", "AsyncEngine", sync_engine=inner)
    found = detect(wrapper)
    assert found is not None
    assert found.open(SHARED).location.startswith(f"sqlite:///{app_db}")


def test_a_store_itself_serves_as_either_kind() -> None:
    store = SQLiteStore("jobs.db")
    assert DispatchExtension(grove_database="a", resources={"a": store}).store is store
    assert DispatchExtension(grove_kv="a", resources={"a": store}).store is store


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file::memory:?uri=true"])
def test_a_database_in_memory_is_refused_with_the_reason(url: str) -> None:
    resources = {"": sqlalchemy.create_engine(url)}
    with pytest.raises(
        ConfigError, match="is in memory, where only its own connections see it; jobs need a file"
    ):
        DispatchExtension(grove_database="", resources=resources)
    with closing(sqlite3.connect(":memory:")) as memory, pytest.raises(ConfigError, match="is in memory"):
        DispatchExtension(grove_database="", resources={"": memory})


def test_other_databases_and_other_copies_of_sqlite_are_refused_with_the_reason() -> None:
    mysql = stand_in("sqlalchemy.engine.base", "Engine", dialect=Dialect("mysql"))
    with pytest.raises(ConfigError, match="there is no store for mysql"):
        DispatchExtension(grove_database="", resources={"": mysql})
    cipher = Dialect("sqlite")
    cipher.dbapi = stand_in("x", "X", __name__="sqlcipher3.dbapi2")  # type: ignore[attr-defined]
    engine = stand_in("sqlalchemy.engine.base", "Engine", dialect=cipher)
    with pytest.raises(ConfigError, match=r"'sqlcipher3.dbapi2' brings a copy of SQLite .* corrupt it"):
        DispatchExtension(grove_database="", resources={"": engine})


def test_recognising_imports_no_driver() -> None:
    code = (
        "import sys, mpdispatch.extension as e\n"
        "e.DispatchExtension(grove_database='', grove_kv='', supervise=False, resources={'': 3, 'a': 'a.db'})\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'sqlalchemy', 'psycopg', 'redis', 'valkey', 'svcs',"
        " 'starlette', 'fastapi', 'litestar', 'sqlite_utils', 'yaml', 'click'}), sorted(m for m in sys.modules"
        " if m.startswith(('mpdispatch.supervisor', 'mpdispatch.pool', 'mpdispatch.web', 'mpdispatch.cli'))))"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "[] []\n"


# ---------------------------------------------------------------- on the application's own file


def test_an_engine_on_a_file_with_the_apps_tables_is_shared_by_itself(app_db: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{app_db}")
    with DispatchExtension(grove_database="", resources={"": engine}, supervise=False) as ext:
        job = ext.engine.register(_nothing).enqueue()
        with engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO orders DEFAULT VALUES")
            assert connection.exec_driver_sql("SELECT count(*) FROM mpdispatch_jobs").scalar() == 1
            tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars()
            assert {t for t in tables if not t.startswith(("mpdispatch_", "sqlite_"))} == {"orders"}
        # The same copy of SQLite: its connections may carry an enqueue in their transaction.
        with closing(engine.raw_connection()) as raw:
            inner = ext.engine.options(connection=raw.driver_connection).enqueue("_nothing")
            raw.rollback()
        assert ext.engine.get_job(job.id).name == "_nothing"
        with pytest.raises(Exception, match="not found"):
            ext.engine.get_job(inner.id)
    engine.dispose()


def _nothing() -> None:
    return None


def test_a_switch_of_the_apps_file_to_wal_is_announced_and_refusable(folder: Path) -> None:
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    engine = sqlalchemy.create_engine("sqlite:///app.db")
    refusing = DispatchExtension(
        grove_database="", resources={"": engine}, supervise=False, switch_to_wal=False
    )
    with pytest.raises(Exception, match="journal mode is delete"):
        refusing.start()
    ext = DispatchExtension(grove_database="", resources={"": engine}, supervise=False)
    with pytest.warns(UserWarning, match="switched from delete to WAL"):
        ext.start()
    ext.stop()
    refusing.start()
    refusing.stop()
    engine.dispose()


# ---------------------------------------------------------------- where they are looked for


def test_an_entry_of_another_kind_is_an_error_that_says_what_it_is() -> None:
    with pytest.raises(
        ConfigError, match="grove_database: the resource 'jobs' is a Redis Redis, not a database"
    ):
        DispatchExtension(grove_database="jobs", resources={"jobs": redis_client()})
    with pytest.raises(ConfigError, match="grove_kv: the resource 'jobs' is a dict, not a key-value store"):
        DispatchExtension(grove_kv="jobs", resources={"jobs": {}})


def test_a_callable_is_asked_by_kind_and_name() -> None:
    things = {("database", "jobs"): "jobs.db", ("database", ""): "default.db", ("kv", "x"): "x.db"}
    ask = lambda kind, name: things[kind, name]  # noqa: E731
    assert "jobs.db" in DispatchExtension(grove_database="jobs", resources=ask).store.location
    assert "default.db" in DispatchExtension(grove_database="", resources=ask).store.location
    with pytest.raises(
        ConfigError, match="no database 'other' in resources; the resources= function gave none"
    ):
        DispatchExtension(grove_database="other", resources=ask)
    with pytest.raises(ConfigError, match="the resource 'x' is a sqlite DSN, not a key-value store"):
        DispatchExtension(grove_kv="x", resources=ask)
    assert DispatchExtension(grove_database="", resources=lambda kind, name: None).store.location == ":memory:"


def test_an_svcs_container_is_asked_by_annotated_type(app_db: Path) -> None:
    made = []

    def never() -> object:
        made.append("never")
        return object()

    def engine() -> sqlalchemy.Engine:
        made.append("engine")
        return sqlalchemy.create_engine(f"sqlite:///{app_db}")

    with svcs.Registry() as registry:
        registry.register_factory(dict, never)
        registry.register_factory(sqlalchemy.Engine, lambda: sqlalchemy.create_engine("sqlite:///default.db"))
        registry.register_factory(Annotated[sqlalchemy.Engine, "jobs"], engine)
        registry.register_value(Annotated[str, "dsn"], "sqlite:///dsn.db")
        with svcs.Container(registry) as container:
            named = DispatchExtension(grove_database="jobs", resources=container)
            assert named.store.location.startswith(f"sqlite:///{app_db}")
            assert made == ["engine"], "only what is asked for is made"
            assert "default.db" in DispatchExtension(grove_database="", resources=container).store.location
            assert "dsn.db" in DispatchExtension(grove_database="dsn", resources=container).store.location
            with pytest.raises(ConfigError, match=r"no database 'x'.*jobs: SQLAlchemy engine \(sqlite\)"):
                DispatchExtension(grove_database="x", resources=container)
        with pytest.raises(ConfigError, match=r"wrap it: svcs.Container\(registry\)"):
            DispatchExtension(resources=registry)


@pytest.mark.parametrize("given", [3, "jobs.db", [1]])
def test_anything_else_as_resources_is_an_error(given: Any) -> None:
    with pytest.raises(ConfigError, match="resources: must be a mapping"):
        as_resources(given)


def test_types_are_known_before_there_is_an_object() -> None:
    assert kind_of_type(sqlalchemy.Engine) is kind_of_type(sqlite3.Connection) is Kind.DATABASE
    assert kind_of_type(sqlite_utils.Database) is kind_of_type(SQLiteStore) is Kind.DATABASE
    assert kind_of_type(type(redis_client())) is Kind.KV
    assert kind_of_type(dict) is None


# ---------------------------------------------------------------- third parties


@pytest.fixture
def plug_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with entry points of our group."""
    info = folder / "plug_in-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[mpdispatch.stores]\nduckdb = plug_in:open_it\nmysql = plug_in:open_it\nbroken = plug_in:broken\n"
    )
    (folder / "plug_in.py").write_text(
        "from mpdispatch import SQLiteStore\n"
        "def open_it(thing): return SQLiteStore(f'{type(thing).__name__}.db')\n"
        "def broken(thing): return 3\n"
    )
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.usefixtures("plug_in")
def test_entry_points_open_what_is_unknown_here() -> None:
    duck = stand_in("duckdb.connection", "DuckConnection")
    mysql = stand_in("sqlalchemy.engine.base", "Engine", dialect=Dialect("mysql"))
    assert DispatchExtension(grove_database="", resources={"": duck}).store.location.endswith(
        "DuckConnection.db"
    )
    assert DispatchExtension(grove_kv="d", resources={"d": duck}).store.location.endswith("DuckConnection.db")
    assert DispatchExtension(grove_database="", resources={"": mysql}).store.location.endswith("Engine.db")
    assert DispatchExtension(store="duckdb://x").store.location.endswith("str.db")
    with pytest.raises(
        ConfigError, match=r"store: plug_in:broken \(entry point 'broken' of mpdispatch.stores\) gave no store"
    ):
        DispatchExtension(store="broken://x")
    with pytest.raises(ConfigError, match="cassandra:// names no store"):
        DispatchExtension(store="cassandra://x")
