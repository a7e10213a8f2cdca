"""Every row of the page "Forge Extension", each by its name there. Those that need a server are in test_servers."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from mpdispatch import ConfigError, SQLiteStore, StoreMissing, StoreTooOld, backoff, current_engine
from mpdispatch.extension import DispatchExtension
from mpdispatch.extension.detect import Kind
from mpdispatch.hooks import Extension, JobEnqueued
from mpdispatch.store.servers import POSTGRES
from mpdispatch.store.sqlite import schema
from tests.extension.server import until
from tests.extension.stand_ins import postgres_engine, redis_client


def option(name: str, **given: Any) -> Any:
    return DispatchExtension(store="jobs.db", **given).settings.others[name]


# ---------------------------------------------------------------- Extension options


def test_with_store_takes_a_store_a_path_or_a_url(folder: Path) -> None:
    store = SQLiteStore("a.db")
    assert DispatchExtension(store=store).store is store
    for given in ("a.db", Path("a.db"), "sqlite:///a.db"):
        assert DispatchExtension(store=given).store.location == str(folder / "a.db")


def test_with_concurrency_defaults_to_10() -> None:
    assert DispatchExtension(store="jobs.db").settings.config.concurrency == 10
    assert DispatchExtension(store="jobs.db", concurrency=20).engine.dispatcher.config.concurrency == 20


def test_with_queues_defaults_to_default() -> None:
    assert DispatchExtension(store="jobs.db").settings.config.queues == ("default",)
    ext = DispatchExtension(store="jobs.db", queues=["default", "critical"])
    assert ext.engine.dispatcher.config.queues == ("default", "critical")


def test_with_base_path_defaults_to_api_dispatch() -> None:
    for given, path in (({}, "/api/dispatch"), ({"base_path": "/jobs"}, "/jobs")):
        app = Starlette()
        ext = DispatchExtension(store="jobs.db", supervise=False, **given)
        ext.install(app)
        with TestClient(app, base_url="http://localhost", client=("127.0.0.1", 1)) as client:
            client.headers["authorization"] = f"Bearer {ext.token}"
            assert client.get(f"{path}/healthz").json()["status"] == "ok"


def test_with_extension_registers_a_lifecycle_extension() -> None:
    told = []

    class Tell(Extension):
        name = "tell"

        def on_job_enqueued(self, event: JobEnqueued) -> None:
            told.append(event.name)

    with DispatchExtension(store="jobs.db", supervise=False, extensions=[Tell()]) as ext:
        ext.engine.register(nothing).enqueue()
        until(lambda: told == ["nothing"], "it is told")


def nothing() -> None:
    return None


def test_with_middleware_adds_job_execution_middleware() -> None:
    def around(job: Any, call_next: Any) -> Any:
        return call_next(job)

    assert DispatchExtension(store="jobs.db").engine.middleware == ()
    assert DispatchExtension(store="jobs.db", middleware=[around]).engine.middleware == (around,)


def test_with_backoff_defaults_to_exponential() -> None:
    ext = DispatchExtension(store="jobs.db")
    rule = ext.engine.catalog.backoff_for("any")
    assert rule == backoff.ExponentialJitter(base=1, max=60)
    ceilings = [round(rule.delay_s(n, 0.999999)) for n in range(1, 9)]
    assert ceilings == [1, 2, 4, 8, 16, 32, 60, 60]
    given = backoff.Constant(3)
    assert DispatchExtension(store="jobs.db", backoff=given).engine.catalog.backoff_for("any") == given


def test_with_grove_database_defaults_to_not_asked() -> None:
    assert option("grove_database") is None


def test_with_grove_kv_defaults_to_not_asked() -> None:
    assert option("grove_kv") is None


def test_with_disable_routes_mounts_nothing_and_defaults_to_false() -> None:
    assert option("disable_routes") is False
    app = Starlette()
    DispatchExtension(store="jobs.db", supervise=False, disable_routes=True).install(app)
    assert app.router.routes == []
    with TestClient(app, base_url="http://localhost", client=("127.0.0.1", 1)) as client:
        assert client.get("/api/dispatch/healthz").status_code == 404
        assert app.state.dispatch.counts()


# ---------------------------------------------------------------- Auto-migration


def test_with_disable_migrate_defaults_to_false_and_start_migrates_the_store(folder: Path) -> None:
    assert option("disable_migrate") is False
    ext = DispatchExtension(store="jobs.db", supervise=False)
    assert not (folder / "jobs.db").exists()
    with ext:
        assert ext.store.migrate() == (schema.VERSION, schema.VERSION)


def test_with_disable_migrate_start_refuses_a_store_that_is_not_there(folder: Path) -> None:
    with pytest.raises(StoreMissing, match="mpdispatch migrate"):
        DispatchExtension(store="jobs.db", disable_migrate=True, supervise=False).start()
    assert not (folder / "jobs.db").exists()


def test_with_disable_migrate_start_refuses_an_old_schema_and_says_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    SQLiteStore("jobs.db").migrate()
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    ext = DispatchExtension(store="jobs.db", disable_migrate=True, supervise=False)
    with pytest.raises(StoreTooOld, match=r"run `mpdispatch migrate --store .*/jobs\.db`"):
        ext.start()
    ext.stop()


def test_with_disable_migrate_start_takes_a_store_that_is_up_to_date() -> None:
    SQLiteStore("jobs.db").migrate()
    with DispatchExtension(store="jobs.db", disable_migrate=True, supervise=False) as ext:
        assert ext.health()["status"] == "ok"


# ---------------------------------------------------------------- Accessing the engine


def test_engine_from_context_is_current_engine_while_started() -> None:
    with DispatchExtension(store="jobs.db", supervise=False) as ext:
        assert current_engine() is ext.engine
    with pytest.raises(Exception, match="DispatchExtension"):
        current_engine()


# ---------------------------------------------------------------- Grove database and KV integration


def database(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    return connection


def location(**given: Any) -> str:
    return DispatchExtension(**given).store.location


def test_the_default_grove_database_is_the_entry_without_a_name(folder: Path) -> None:
    with closing(database("a.db")) as a, closing(database("b.db")) as b:
        found = location(grove_database="", resources={"": a, "other": b})
        assert found.startswith(f"sqlite:///{folder}/a.db?shared=1")


def test_the_default_grove_database_is_the_only_one_there_is(folder: Path) -> None:
    resources = {"main": f"sqlite:///{folder}/a.db", "cache": redis_client(), "settings": {"x": 1}}
    assert location(grove_database="", resources=resources) == f"sqlite:///{folder}/a.db?shared=1"


def test_a_named_grove_database_is_resolved_by_its_name(folder: Path) -> None:
    with closing(database("a.db")) as a, closing(database("b.db")) as b:
        assert location(grove_database="jobs", resources={"": a, "jobs": b}).startswith(
            f"sqlite:///{folder}/b.db"
        )


def test_a_missing_named_grove_database_is_an_error_listing_what_there_is() -> None:
    resources = {"": postgres_engine(), "audit": "sqlite:///audit.db", "cache": redis_client()}
    with pytest.raises(ConfigError) as raised:
        DispatchExtension(grove_database="jobs", resources=resources)
    assert str(raised.value) == (
        "grove_database: no database 'jobs' in resources; "
        "there are (default): SQLAlchemy engine (postgresql), audit: sqlite DSN"
    )


def test_a_missing_named_grove_kv_store_is_an_error_listing_what_there_is() -> None:
    with pytest.raises(ConfigError, match="no kv 'jobs-kv' in resources; there are cache: Redis Redis"):
        DispatchExtension(grove_kv="jobs-kv", resources={"cache": redis_client(), "db": "a.db"})
    with pytest.raises(ConfigError, match="there are none, resources= was not given"):
        DispatchExtension(grove_kv="jobs-kv")


# ---------------------------------------------------------------- Store resolution order


class AnyStore(SQLiteStore):
    """Stands in for the stores on servers."""


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A database and a key-value store; which of them counts is what matters, so neither has a server."""
    db, kv = AnyStore("from-database.db"), AnyStore("from-kv.db")
    monkeypatch.setattr(
        "mpdispatch.extension.detect.store_of", lambda product, _: db if product is POSTGRES else kv
    )
    return {"": postgres_engine(), "jobs": postgres_engine(), "cache": redis_client()}


def test_resolution_1_an_explicit_store_is_used_and_grove_is_ignored(backends: dict[str, Any]) -> None:
    store = SQLiteStore("a.db")
    ext = DispatchExtension(store=store, grove_database="missing", grove_kv="missing", resources=backends)
    assert ext.store is store


def test_resolution_2_the_grove_database_comes_before_the_kv_store(backends: dict[str, Any]) -> None:
    for name in ("", "jobs"):
        ext = DispatchExtension(grove_database=name, grove_kv="cache", resources=backends)
        assert ext.store.location.endswith("from-database.db")


def test_resolution_3_the_grove_kv_store_is_next(backends: dict[str, Any]) -> None:
    for name in ("", "cache"):
        assert DispatchExtension(grove_kv=name, resources=backends).store.location.endswith("from-kv.db")
    del backends[""], backends["jobs"]
    ext = DispatchExtension(grove_database="", grove_kv="", resources=backends)
    assert ext.store.location.endswith("from-kv.db"), "a missing default falls through"


def test_resolution_4_without_any_the_store_is_in_memory_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "mpdispatch"):
        ext = DispatchExtension()
    assert ext.store.location == ":memory:"
    assert "memory of this process" in caplog.text
    assert "store=" in caplog.text


def test_missing_defaults_fall_through_to_memory_and_are_named(caplog: pytest.LogCaptureFixture) -> None:
    resources = {"a": "a.db", "b": "b.db"}
    ext = DispatchExtension(grove_database="", grove_kv="", resources=resources)
    assert ext.store.location == ":memory:"
    assert "no default database in resources; there are a: sqlite DSN, b: sqlite DSN" in caplog.text
    assert "no default kv in resources; there are none" in caplog.text


# ---------------------------------------------------------------- YAML configuration

DOCUMENTED = """
  dispatch:
    base_path: /tasks
    grove_database: jobs
    grove_kv: dispatch-kv
    concurrency: 20
    queues:
      - default
      - critical
    disable_routes: true
    disable_migrate: true
"""


def write(text: str, name: str = "forge.yaml") -> None:
    Path(name).write_text(text)


@pytest.mark.parametrize("name", ["mpdispatch.yaml", "app.yaml", "config.yaml", "forge.yaml"])
def test_yaml_key_extensions_dispatch_is_loaded_from_the_apps_file(name: str) -> None:
    write(f"extensions:{DOCUMENTED}", name)
    ext = DispatchExtension(resources={"jobs": "sqlite:///jobs.db"})
    assert ext.base_path == "/tasks"
    assert ext.engine.dispatcher.config.concurrency == 20
    assert ext.engine.dispatcher.config.queues == ("default", "critical")
    assert ext.settings.others["disable_routes"] is ext.settings.others["disable_migrate"] is True
    assert ext.store.location.endswith("jobs.db?shared=1")


def test_yaml_key_dispatch_is_the_fallback() -> None:
    write(
        'dispatch:\n  base_path: /tasks\n  grove_database: ""\n  grove_kv: ""\n  concurrency: 11\n  queues: [bulk]\n'
    )
    ext = DispatchExtension()
    assert (ext.base_path, ext.engine.dispatcher.config.concurrency) == ("/tasks", 11)
    write("dispatch: {concurrency: 11}\nextensions: {dispatch: {concurrency: 12}}\n")
    assert DispatchExtension().engine.dispatcher.config.concurrency == 12


YAML_ROWS = [
    ("base_path", "/jobs", "/api/dispatch"),
    ("grove_database", "", None),
    ("grove_kv", "", None),
    ("concurrency", 3, 10),
    ("queues", ["bulk"], ["default"]),
    ("disable_routes", True, False),
    ("disable_migrate", True, False),
]


@pytest.mark.parametrize(("key", "value", "default"), YAML_ROWS)
def test_yaml_configuration_reference_row(key: str, value: Any, default: Any) -> None:
    def found(ext: DispatchExtension) -> Any:
        value = ext.settings.others.get(key, getattr(ext.settings.config, key, None))
        return list(value) if isinstance(value, tuple) else value

    assert found(DispatchExtension()) == default
    # JSON is YAML: a list as a list, true as true, "" as "".
    write(f"dispatch: {json.dumps({key: value})}")
    ext = DispatchExtension()
    assert found(ext) == value
    assert ext.settings.origins[key] == f"forge.yaml: dispatch.{key}"


def test_grove_names_of_the_file_choose_the_store(backends: dict[str, Any]) -> None:
    write("dispatch: {grove_kv: cache}")
    assert DispatchExtension(resources=backends).store.location.endswith("from-kv.db")


def test_kinds_of_resources_are_database_and_kv() -> None:
    asked = []

    def ask(kind: str, name: str) -> None:
        asked.append((kind, name))

    DispatchExtension(grove_database="", grove_kv="", resources=ask)
    assert asked == [("database", ""), ("kv", "")] == [(Kind.DATABASE, ""), (Kind.KV, "")]
