"""Every row of the page "Configuration", each by its name there."""

from __future__ import annotations

import dataclasses
import logging
from datetime import timedelta
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from mpdispatch import (
    Config,
    ConfigError,
    Dispatcher,
    Engine,
    NoStoreError,
    QueueConfig,
    SQLiteStore,
    backoff,
    open_store,
)
from mpdispatch.extension import DispatchExtension
from mpdispatch.hooks import Extension


def dispatcher(**fields: object) -> Dispatcher:
    return Dispatcher(store=SQLiteStore("jobs.db"), **fields)


# ---------------------------------------------------------------- Dispatcher options


def test_dispatcher_with_store_sets_the_persistence_backend() -> None:
    store = SQLiteStore("jobs.db")
    assert Dispatcher(store=store).store is store


def test_dispatcher_with_logger_and_its_default() -> None:
    logger = logging.getLogger("shop")
    assert dispatcher(logger=logger).logger is logger
    assert dispatcher().logger is logging.getLogger("mpdispatch")


def test_dispatcher_with_concurrency_and_its_default_10() -> None:
    assert dispatcher(concurrency=20).config.concurrency == 20
    assert dispatcher().config.concurrency == 10


def test_dispatcher_with_queues_and_their_default() -> None:
    assert dispatcher(queues=["default", "critical", "bulk"]).config.queues == ("default", "critical", "bulk")
    assert dispatcher().config.queues == ("default",)


# ---------------------------------------------------------------- Config struct

CONFIG_ROWS = {
    "concurrency": 10,
    "queues": ("default",),
    "poll_interval": 1.0,
    "shutdown_timeout": 30.0,
    "heartbeat_interval": 10.0,
    "stale_job_threshold": 30.0,
}


@pytest.mark.parametrize(("field", "default"), CONFIG_ROWS.items())
def test_config_struct_row(field: str, default: object) -> None:
    assert getattr(Config(), field) == default
    given = {"concurrency": 3, "queues": ("bulk",)}.get(field, 60.0)
    more = {"stale_job_threshold": 90.0} if field == "heartbeat_interval" else {}
    assert getattr(dispatcher(**{field: given}, **more).config, field) == given


def test_config_without_arguments_gives_the_defaults() -> None:
    assert dispatcher().config == Config()
    assert dataclasses.asdict(Config()).items() >= CONFIG_ROWS.items()


# ---------------------------------------------------------------- Engine options


def test_engine_build_takes_a_dispatcher() -> None:
    of = dispatcher()
    engine = Engine.build(of)
    assert engine.dispatcher is of
    assert engine.store is of.store


def test_engine_with_backoff_exponential_of_5_s_up_to_2_hours() -> None:
    rule = backoff.Exponential(base=timedelta(seconds=5), max=timedelta(hours=2))
    engine = Engine.build(dispatcher(), backoff=rule)
    assert engine.backoff == rule
    assert [engine.catalog.backoff_for("any").delay_s(n, 0.5) for n in (1, 2, 3, 99)] == [5, 10, 20, 7200]


def test_engine_with_queue_config_critical() -> None:
    limits = QueueConfig("critical", max_concurrency=20, rate_limit=50)
    assert Engine.build(dispatcher(), queue_configs=[limits]).queue_configs == (limits,)
    assert (limits.name, limits.max_concurrency, limits.rate_limit) == ("critical", 20, 50.0)


# ---------------------------------------------------------------- Forge extension config


def test_extension_with_store() -> None:
    store = SQLiteStore("jobs.db")
    assert DispatchExtension(store=store).store is store


def test_extension_with_concurrency_and_its_default_10() -> None:
    assert DispatchExtension(store="jobs.db", concurrency=20).engine.dispatcher.config.concurrency == 20
    assert DispatchExtension(store="jobs.db").engine.dispatcher.config.concurrency == 10


def test_extension_with_queues_and_their_default() -> None:
    ext = DispatchExtension(store="jobs.db", queues=["default", "bulk"])
    assert ext.engine.dispatcher.config.queues == ("default", "bulk")
    assert DispatchExtension(store="jobs.db").engine.dispatcher.config.queues == ("default",)


def test_extension_with_base_path_and_its_default_api_dispatch() -> None:
    assert DispatchExtension(store="jobs.db", base_path="/jobs").base_path == "/jobs"
    assert DispatchExtension(store="jobs.db").base_path == "/api/dispatch"


def test_extension_with_disable_routes_and_its_default_false() -> None:
    assert DispatchExtension(store="jobs.db").settings.others["disable_routes"] is False
    assert DispatchExtension(store="jobs.db", disable_routes=True).settings.others["disable_routes"] is True


def test_extension_with_disable_migrate_and_its_default_false() -> None:
    assert DispatchExtension(store="jobs.db").settings.others["disable_migrate"] is False
    assert DispatchExtension(store="jobs.db", disable_migrate=True).settings.others["disable_migrate"] is True


# ---------------------------------------------------------------- Required options


def test_a_dispatcher_without_a_store_raises_no_store_error() -> None:
    with pytest.raises(NoStoreError, match="store"):
        Dispatcher()


def test_making_any_of_them_opens_nothing(folder: Path) -> None:
    Engine.build(dispatcher())
    DispatchExtension(store=open_store("sqlite:///other.db"))
    assert list(folder.iterdir()) == []


# ---------------------------------------------------------------- Engine options that need the whole engine


class Metrics(Extension):
    name = "metrics"


def quiet(job: object, call_next: object) -> object:
    return call_next(job)  # type: ignore[operator]


def test_engine_with_extension() -> None:
    assert Engine.build(dispatcher(), extensions=[Metrics()]).hooks is not None
    with pytest.raises(ConfigError, match="extensions"):
        Engine.build(dispatcher(), extensions=[3])  # type: ignore[list-item]


def test_engine_with_middleware() -> None:
    assert Engine.build(dispatcher(), middleware=[quiet]).middleware == (quiet,)


def test_engine_with_tracer_provider_and_meter_provider() -> None:
    tracer, meter = TracerProvider(), MeterProvider()
    engine = Engine.build(dispatcher(), tracer_provider=tracer, meter_provider=meter)
    assert engine.telemetry.is_tracing
    assert not Engine.build(dispatcher()).telemetry.is_tracing


def test_extension_with_extension_and_with_middleware() -> None:
    ext = DispatchExtension(store="jobs.db", extensions=[Metrics()], middleware=[quiet])
    assert ext.engine.middleware == (quiet,)
    with pytest.raises(ConfigError, match="middleware"):
        DispatchExtension(store="jobs.db", middleware=[3])
