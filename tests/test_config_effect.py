"""Every field of Config by its environment variable, as a dispatcher takes it; and `durability`, all the way down."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpdispatch import Config, ConfigError, Dispatcher, Engine, SQLiteStore, open_store
from mpdispatch.handlers.description import describe
from mpdispatch.handlers.registry import Registry

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

VALUES: dict[str, tuple[str, Any]] = {
    "concurrency": ("3", 3),
    "queues": ("critical, default", ("critical", "default")),
    "poll_interval": ("250ms", 0.25),
    "shutdown_timeout": ("1m", 60.0),
    "heartbeat_interval": ("2s", 2.0),
    "stale_job_threshold": ("5m", 300.0),
    "kill_grace": ("1.5", 1.5),
    "cancel_grace": ("9s", 9.0),
    "max_payload_bytes": ("2048", 2048),
    "max_result_bytes": ("4096", 4096),
    "child_policy": ("leave", "leave"),
    "prefetch_window": ("0", 0.0),
    "max_prefetch": ("7", 7),
    "max_jobs_per_worker": ("100", 100),
    "boot_timeout": ("5m", 300.0),
    "start_method": ("spawn", "spawn"),
    "max_worker_rss": ("104857600", 100 << 20),
    "durability": ("process", "process"),
    "pool": ("dask://scheduler", "dask://scheduler:8786"),
    "retention": ("30d", 30 * 86_400.0),
    "retention_failed": ("90d", 90 * 86_400.0),
    "retention_limit": ("100000", 100_000),
}

CAUSES: dict[str, dict[str, Any]] = {"pool": {"concurrency": "auto"}}
"""What a field changes of others that are not given."""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MPDISPATCH_")]:
        monkeypatch.delenv(name)


def test_every_field_is_listed_here() -> None:
    assert VALUES.keys() == {field.name for field in dataclasses.fields(Config)}


@pytest.mark.parametrize("field", VALUES)
def test_each_field_is_taken_from_its_variable_and_an_argument_wins(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, value = VALUES[field]
    default = getattr(Config(), field)
    assert value != default
    monkeypatch.setenv(f"MPDISPATCH_{field.upper()}", text)
    dispatcher = Dispatcher(SQLiteStore("a.db"))
    assert getattr(dispatcher.config, field) == value
    assert dispatcher.origins[field] == f"MPDISPATCH_{field.upper()}"
    others = dataclasses.asdict(Config()) | {field: value} | CAUSES.get(field, {})
    assert dataclasses.asdict(dispatcher.config) == others
    assert getattr(Dispatcher(SQLiteStore("b.db"), **{field: default}).config, field) == default


@pytest.mark.parametrize("field", VALUES)
def test_a_bad_value_is_blamed_on_its_variable(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"MPDISPATCH_{field.upper()}", "no\tsuch\tvalue")
    with pytest.raises(ConfigError) as refused:
        Dispatcher(SQLiteStore("a.db"))
    assert [fault.key for fault in refused.value.faults] == [f"MPDISPATCH_{field.upper()}"]


# ---------------------------------------------------------------- durability


def synchronous(store: SQLiteStore) -> int:
    """2 = FULL, 1 = NORMAL."""
    store.check(create=True)
    found = store._sessions.current().connection.execute("PRAGMA synchronous").fetchone()[0]
    store.close()
    return int(found)


def test_durability_of_the_configuration_reaches_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SQLiteStore("a.db")
    Dispatcher(plain)
    assert (synchronous(plain), "durability=" in plain.location) == (2, False)
    by_keyword = SQLiteStore("a.db")
    Dispatcher(by_keyword, durability="process")
    assert synchronous(by_keyword) == 1
    assert open_store(by_keyword.location).said_durability == "process"
    monkeypatch.setenv("MPDISPATCH_DURABILITY", "process")
    by_variable = SQLiteStore("a.db")
    Dispatcher(by_variable)
    assert synchronous(by_variable) == 1
    opened = Engine.open("a.db").store
    assert isinstance(opened, SQLiteStore)
    assert synchronous(opened) == 1


def test_what_a_store_was_made_with_beats_environment_and_file_and_contradicts_an_argument(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MPDISPATCH_DURABILITY", "process")
    made = SQLiteStore("a.db", durability="full")
    Dispatcher(made)
    assert synchronous(made) == 2
    with pytest.raises(ConfigError, match="is 'process', but the store was made with 'full'"):
        Dispatcher(made, durability="process")
    with pytest.raises(ConfigError, match="made with 'full'"):
        Engine.open("sqlite:///a.db?durability=full", durability="process")
    # A whole Config does not tell what was meant from what is the default.
    fast = SQLiteStore("a.db", durability="process")
    Dispatcher(fast, config=Config(concurrency=2))
    assert synchronous(fast) == 1


def test_an_app_tells_its_supervisor_what_it_said_of_durability() -> None:
    def told(store: SQLiteStore) -> object:
        return describe(Registry(), store=store, config=Config()).durability

    assert told(SQLiteStore("a.db")) is None
    assert told(SQLiteStore("a.db", durability="full")) == "full"


def test_the_command_line_takes_it_from_variable_and_file(cli: Cli, tmp_path: Path) -> None:
    def where(**env: str) -> str:
        done = cli("migrate", "--json", "--store", "a.db", env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "durability=" not in where()
    assert "durability=process" in where(MPDISPATCH_DURABILITY="process")
    (tmp_path / "app.yaml").write_text("dispatch: {durability: process}\n")
    assert "durability=process" in where()
    assert "durability=" not in where(MPDISPATCH_DURABILITY="full")
    bad = cli("migrate", env={"MPDISPATCH_DURABILITY": "some"})
    assert bad.returncode == 78
    assert "MPDISPATCH_DURABILITY" in bad.stderr
