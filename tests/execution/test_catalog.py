"""A supervisor's rules: live from an engine, or from what a worker says of the app."""

from __future__ import annotations

import msgspec

from mpdispatch.backoff import DEFAULT, Constant, Linear
from mpdispatch.config import Config, QueueConfig
from mpdispatch.execution.catalog import DescribedCatalog, LiveCatalog
from mpdispatch.handlers.description import AppDescription, describe
from mpdispatch.handlers.registry import JobDefinition, Registry


def slow() -> None: ...
def quick() -> None: ...


def registry() -> Registry:
    made = Registry()
    made.add(JobDefinition(name="slow", function=slow, backoff=Constant(60)))
    made.add(JobDefinition(name="quick", function=quick))
    return made


def described(backoff: Linear | None) -> AppDescription:
    return describe(
        registry(),
        store="jobs.db",
        config=Config(concurrency=3, queues=["a", "b"]),
        queue_configs=(QueueConfig("a", rate_limit=5),),
        backoff=backoff,
    )


def test_a_description_crosses_processes_as_json() -> None:
    description = described(Linear(1, 5))
    assert msgspec.json.decode(msgspec.json.encode(description), type=AppDescription) == description


def test_a_jobs_own_backoff_beats_the_engines_and_that_the_default() -> None:
    engine = Linear(1, 5)
    for with_engine, without in (
        (LiveCatalog(registry(), engine), LiveCatalog(registry())),
        (DescribedCatalog(described(engine)), DescribedCatalog(described(None))),
    ):
        assert with_engine.names() == {"slow", "quick"}
        assert with_engine.backoff_for("slow") == Constant(60)
        assert with_engine.backoff_for("quick") == engine
        assert without.backoff_for("quick") == DEFAULT
        assert with_engine.backoff_for("gone") == engine


def test_a_live_rulebook_knows_what_was_registered_a_moment_ago() -> None:
    live = registry()
    catalog = LiveCatalog(live)
    live.add(JobDefinition(name="late", function=slow))
    assert "late" in catalog.names()
    assert catalog.reference_for("late") == f"{__name__}:slow"
    assert catalog.reference_for("gone") is None
