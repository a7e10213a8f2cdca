"""Cron entries that an app declares: by `@engine.cron` above, below and without `@engine.job`, and by `crons.register`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mpdispatch import DuplicateJobError, Engine, RegistrationError, job
from mpdispatch.engine.definition import JobHandle
from mpdispatch.model import CronSpec


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine.open(tmp_path / "jobs.db")


def declared(engine: Engine) -> dict[str, CronSpec]:
    (of_code,) = engine.declared_crons()
    assert of_code.origin == "code"
    return {each.name: each for each in of_code.specs}


def test_above_the_job(engine: Engine) -> None:
    @engine.cron("0 3 * * *", tz="Europe/Berlin", catch_up="all", overlap="skip", jitter="5m", args={"days": 7})
    @engine.job(queue="bulk", max_retries=7, priority=2, timeout=60)
    def report(days: int) -> None: ...

    assert isinstance(report, JobHandle)
    (spec,) = declared(engine).values()
    assert (spec.name, spec.schedule, spec.tz, spec.catch_up, spec.overlap, spec.jitter_us) == (
        *("report", "0 3 * * *", "Europe/Berlin", "all", "skip"),
        300_000_000,
    )
    assert (spec.job.name, spec.job.payload) == ("report", b'{"days":7}')
    assert (spec.job.queue, spec.job.max_retries, spec.job.priority) == ("bulk", 7, 2)
    assert spec.job.timeout_us == 60_000_000


def test_below_the_job_whose_options_and_name_count(engine: Engine) -> None:
    @engine.job("shop.report", queue="bulk", max_retries=7)
    @engine.cron("@daily")
    def report() -> str:
        return "done"

    assert report() == "done"
    assert engine.registry.names() == {"shop.report"}
    assert engine.registry.get("shop.report").function is report.__wrapped__
    (spec,) = declared(engine).values()
    assert (spec.name, spec.job.name, spec.job.queue, spec.job.max_retries) == (
        *("shop.report", "shop.report", "bulk"),
        7,
    )
    assert report.enqueue().name == "shop.report"


def test_alone_it_makes_the_handler_too(engine: Engine) -> None:
    @engine.cron("@hourly")
    def tidy() -> None: ...

    assert engine.registry.names() == {"tidy"}
    assert tidy.enqueue().name == "tidy"
    assert list(declared(engine)) == ["tidy"]


def test_several_on_one_handler_with_names(engine: Engine) -> None:
    @engine.cron("@weekly", name="weekly", args={"days": 7})
    @engine.cron("@daily", args={"days": 1})
    @engine.job
    def report(days: int) -> None: ...

    assert {name: spec.job.payload for name, spec in declared(engine).items()} == {
        "report": b'{"days":1}',
        "weekly": b'{"days":7}',
    }


def test_several_below_the_job(engine: Engine) -> None:
    @engine.job(queue="bulk")
    @engine.cron("@weekly", name="weekly")
    @engine.cron("@daily")
    def report() -> None: ...

    assert {name: spec.job.queue for name, spec in declared(engine).items()} == {
        "report": "bulk",
        "weekly": "bulk",
    }


def test_a_second_entry_without_a_name_is_refused(engine: Engine) -> None:
    with pytest.raises(
        RegistrationError, match=r"cron 'report': there is an entry of that name already.*name="
    ):

        @engine.cron("@weekly")
        @engine.cron("@daily")
        @engine.job
        def report() -> None: ...


def test_a_handler_that_needs_arguments_gets_them_or_is_refused(engine: Engine) -> None:
    with pytest.raises(RegistrationError, match=r"cron 'report': args: days: is missing \(args=\{\.\.\.\}"):

        @engine.cron("@daily")
        @engine.job
        def report(days: int) -> None: ...

    with pytest.raises(RegistrationError, match=r"args: days: Expected `int`"):

        @engine.cron("@daily", args={"days": "seven"})
        def other(days: int) -> None: ...

    assert declared(engine) == {}
    assert engine.registry.names() == {"report"}, "the second was refused before it became a handler"


@pytest.mark.parametrize(
    ("schedule", "options", "text"),
    [
        ("0 25 * * *", {}, r"schedule: the hour must be 0-23"),
        ("30 2 30 2 *", {}, r"schedule: .* never comes"),
        ("@daily", {"tz": "Europe/Berln"}, r"tz: .*did you mean 'Europe/Berlin'"),
        ("@daily", {"catch_up": "some"}, r"catch_up: must be 'skip' or 'latest' or 'all'"),
        ("@daily", {"overlap": "stack"}, r"overlap: must be 'allow'"),
        ("@daily", {"jitter": -1}, r"jitter: must be from 0 s"),
        ("@daily", {"ctch_up": "all"}, r"ctch_up: no such setting; did you mean catch_up"),
        ("@daily", {"starts_at": "soon"}, r"starts_at: must be a date or a time"),
        ("@daily", {"starts_at": "2026-02-01", "ends_at": "2026-01-01"}, r"ends_at: must not be earlier"),
        ("@daily", {"args": [1]}, r"args must be a mapping"),
        ("@daily", {"name": "a..b"}, r"name must not hold"),
        ("0 25 * * *", {"tz": "Nowhere", "jitter": "x"}, r"jitter: .*tz: .*schedule: "),
    ],
)
def test_what_is_wrong_is_named_when_it_is_declared(
    engine: Engine, schedule: str, options: dict[str, Any], text: str
) -> None:
    def nightly() -> None: ...

    with pytest.raises(RegistrationError, match=text):
        engine.cron(schedule, **options)(nightly)
    assert declared(engine) == {}
    assert engine.registry.names() == frozenset()


def test_a_stand_alone_handler_is_registered(engine: Engine) -> None:
    @job(queue="bulk")
    def alone(n: int = 1) -> None: ...

    assert engine.crons.register(alone, "@hourly", name="each hour", args={"n": 2}) is alone
    (spec,) = declared(engine).values()
    assert (spec.name, spec.job.name, spec.job.queue) == ("each hour", "alone", "bulk")
    assert alone.enqueue().queue == "bulk"


def test_a_name_of_another_handler_is_refused_for_a_job_above(engine: Engine) -> None:
    @engine.job
    def taken() -> None: ...

    with pytest.raises(DuplicateJobError):

        @engine.job("taken")
        @engine.cron("@daily")
        def other() -> None: ...


def test_the_zone_of_the_machine_is_kept_by_its_name(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Australia/Lord_Howe")

    @engine.cron("@daily")
    def nightly() -> None: ...

    assert declared(engine)["nightly"].tz == "Australia/Lord_Howe"


def test_what_is_declared_travels_with_the_description_of_the_app(engine: Engine) -> None:
    @engine.cron("@daily")
    @engine.job(priority=3, max_retries=0)
    def nightly() -> None: ...

    description = engine.describe()
    assert msgspec.json.decode(msgspec.json.encode(description), type=type(description)) == description
    assert description.crons == engine.declared_crons()
    assert (description.priorities, description.max_retries) == ({"nightly": 3}, {"nightly": 0})


def test_an_app_without_entries_loads_nothing_for_them() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from mpdispatch import Engine; e = Engine.open(':memory:')\n"
        "@e.job\ndef f(): ...\nf.enqueue(); e.describe()\n"
        "print([m for m in sys.modules if m.startswith(('cronsim', 'mpdispatch.policy.cron'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[]\n", done.stderr
