"""The engine against a real SQLite store: what is stored, what is refused at the door, what people can do."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mpdispatch
from mpdispatch import (
    BatchError,
    ConfigError,
    Dispatcher,
    DispatchError,
    DuplicateJobError,
    Engine,
    InvalidStateError,
    JobCancelledError,
    JobNotFoundError,
    JobState,
    PayloadError,
    QueueConfig,
    RegistrationError,
    Retry,
    Snooze,
    SQLiteStore,
    StoreNotShared,
    UnknownJobError,
    UsageError,
    WaitTimeoutError,
    backoff,
    job,
    middleware,
)
from mpdispatch.engine.batches import bulk
from mpdispatch.execution import process_context
from mpdispatch.model import Enqueued


def render(path: str, dpi: int = 300) -> str:
    """Renders."""
    return f"{path}@{dpi}"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine.open(tmp_path / "jobs.db")
    yield made
    made.store.close()


# ---------------------------------------------------------------- handlers


def test_a_decorated_function_is_still_that_function(engine: Engine) -> None:
    handle = engine.job(queue="bulk")(render)
    assert handle("a", dpi=1) == "a@1"
    assert handle.__wrapped__ is render
    assert (handle.__doc__, handle.__name__, handle.name) == ("Renders.", "render", "render")
    assert engine.registry.get("render").queue == "bulk"


def test_the_decorator_works_bare_and_with_a_name(engine: Engine) -> None:
    assert engine.job(render).name == "render"
    assert engine.job("other")(render).name == "other"
    assert engine.job(name="third")(render).name == "third"


def test_a_stand_alone_job_is_joined_later(engine: Engine) -> None:
    handle = job(max_retries=1)(render)
    with pytest.raises(UsageError, match=r"engine\.register"):
        handle.enqueue("a")
    with pytest.raises(UsageError, match=r"engine\.register"):
        handle.options(priority=1)
    assert engine.register(handle) is handle
    assert handle.enqueue("a").max_retries == 1
    assert engine.register(handle) is handle


def test_a_plain_function_may_be_registered(engine: Engine) -> None:
    assert engine.register(render).enqueue("a").name == "render"


def test_a_second_handler_under_a_name_is_refused(engine: Engine) -> None:
    engine.job(render)
    with pytest.raises(DuplicateJobError):
        engine.job(name="render")(lambda path: None)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"priority": "high"}, "priority: must be a whole number"),
        ({"max_retries": -1}, "max_retries: .*0 to 1,000,000"),
        ({"max_retries": True}, "max_retries"),
        ({"timeout": 0}, "timeout: must be more than zero"),
        ({"queue": ""}, "queue"),
        ({"backoff": 5}, "backoff: must be backoff.Constant"),
        ({"max_retry": 1}, "did you mean max_retries"),
        ({"delay": 1}, "delay: no such option"),
    ],
)
def test_a_bad_option_of_a_handler_is_refused_when_it_is_defined(
    engine: Engine, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(RegistrationError, match=text):
        engine.job(**options)(render)


# ---------------------------------------------------------------- enqueueing


def test_an_enqueued_job_is_what_the_definition_and_the_options_say(engine: Engine) -> None:
    handle = engine.job(queue="bulk", priority=2, max_retries=5, timeout=timedelta(seconds=60))(render)
    plain = handle.enqueue("a", dpi=1)
    assert (plain.name, plain.payload, plain.state) == ("render", {"path": "a", "dpi": 1}, JobState.PENDING)
    assert (plain.queue, plain.priority, plain.max_retries, plain.timeout) == ("bulk", 2, 5, 60.0)
    assert plain.created
    run_at = datetime(2031, 1, 1, tzinfo=UTC)
    other = handle.options(
        queue="q", priority=-1, run_at=run_at, max_retries=0, timeout=None, idempotency_key="k"
    ).enqueue("b")
    assert (other.queue, other.priority, other.max_retries, other.timeout) == ("q", -1, 0, None)
    assert (other.run_at, other.state, other.idempotency_key) == (run_at, JobState.SCHEDULED, "k")
    assert engine.get_job(other.id) == other


def test_a_delay_counts_from_the_enqueue(engine: Engine) -> None:
    engine.job(render)
    before = datetime.now(UTC)
    made = engine.options(delay=60).enqueue("render", path="c")
    assert timedelta(seconds=59) < made.run_at - before < timedelta(seconds=65)
    assert engine.options(delay=0).enqueue("render", path="c").state is JobState.PENDING


def test_keywords_of_enqueue_are_the_handlers_arguments(engine: Engine) -> None:
    @engine.job
    def notify(name: str, delay: int, self: str, queue: str = "") -> None: ...

    made = engine.enqueue("notify", name="n", delay=3, self="s", queue="q")
    assert made.payload == {"name": "n", "delay": 3, "self": "s", "queue": "q"}
    assert (made.queue, made.state) == ("default", JobState.PENDING)
    assert notify.enqueue(name="n", delay=3, self="s").payload["self"] == "s"
    assert notify.options(priority=1).enqueue(name="n", delay=3, self="s").payload["self"] == "s"


def test_a_call_that_does_not_fit_is_refused_and_stores_nothing(engine: Engine) -> None:
    handle = engine.job(render)
    with pytest.raises(PayloadError, match=r"path: is missing"):
        handle.enqueue(dpi=1)  # type: ignore[call-arg]
    with pytest.raises(UnknownJobError, match="registered: render"):
        engine.enqueue("rendr", path="a")
    handle.enqueue("a")
    assert sum(engine.counts().values()) == 1


def test_payload_limit_of_the_config_is_kept_at_enqueue(tmp_path: Path) -> None:
    engine = Engine.open(tmp_path / "jobs.db", max_payload_bytes=100)
    with pytest.raises(PayloadError, match="100 are allowed"):
        engine.job(render).enqueue("x" * 100)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"priority": 1 << 63}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"run_at": datetime(2031, 1, 1)}, "run_at: .*no time zone"),
        ({"run_at": 5}, "run_at: must be an aware datetime"),
        ({"run_at": datetime(2031, 1, 1, tzinfo=UTC), "delay": 5}, "not both"),
        ({"delay": -1}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"max_retries": 1_000_001}, "max_retries"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": 1e-9}, "timeout"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "x" * 201}, "idempotency_key"),
        ({"idempotency_key": "\ud800"}, "idempotency_key"),
        ({"queue": "a\nb"}, "queue"),
        ({"prioritty": 1}, "did you mean priority"),
        ({"path": "a"}, "handler's own arguments go into enqueue"),
    ],
)
def test_a_bad_option_is_refused_by_name(engine: Engine, options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        engine.job(render).options(**options)


def test_all_bad_options_are_named_at_once(engine: Engine) -> None:
    with pytest.raises(UsageError, match=r"(?s)priority.*max_retries.*timeout"):
        engine.options(priority="x", max_retries=-1, timeout=0)  # type: ignore[arg-type]


def test_an_idempotency_key_in_use_gives_the_first_job(engine: Engine) -> None:
    handle = engine.job(render)
    first = handle.options(idempotency_key="k").enqueue("a")
    second = handle.options(idempotency_key="k").enqueue("b")
    assert (first.created, second.created) == (True, False)
    assert (second.id, second.payload) == (first.id, {"path": "a"})


def test_an_enqueue_on_the_callers_connection_goes_with_its_transaction(engine: Engine) -> None:
    handle = engine.job(render)
    handle.enqueue("first")  # makes the tables
    connection = sqlite3.connect(engine.store.location, isolation_level=None)
    for ending, count in (("ROLLBACK", 1), ("COMMIT", 2)):
        connection.execute("BEGIN IMMEDIATE")
        engine.options(connection=connection).enqueue("render", path="a")
        connection.execute(ending)
        assert sum(engine.counts().values()) == count
    connection.close()
    engine.wake()


# ---------------------------------------------------------------- many


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK_JOBS", 3)


def test_a_batch_is_stored_as_its_generator_goes(engine: Engine, small_chunks: None) -> None:
    stored: list[int] = []

    def items() -> Iterator[dict[str, str]]:
        for number in range(7):
            stored.append(sum(engine.counts().values()))
            yield {"path": str(number)}

    engine.store.migrate()
    made = engine.job(render).enqueue_many(items())
    assert stored == [0, 0, 0, 3, 3, 3, 6]
    assert (made.count, len(made), len(list(made))) == (7, 7, 7)
    assert list(made) == sorted(made)
    jobs = [engine.get_job(job_id) for job_id in made]
    assert [each.payload["path"] for each in jobs] == [str(number) for number in range(7)]
    assert {each.batch_id for each in jobs} == {made.id}


def test_ids_of_a_batch_need_not_follow_each_other(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.store, "enqueue_many", lambda jobs, **_: Enqueued(5, [7, 8, 12, 3][: len(jobs)]))
    made = engine.job(render).enqueue_many({"path": "a"} for _ in range(4))
    assert (made.id, list(made), made.count) == (5, [7, 8, 12, 3], 4)


@given(st.lists(st.integers(-9, 9)))
def test_numbers_are_the_same_in_ranges(ids: list[int]) -> None:
    ranges = list(bulk.as_ranges(ids))
    assert [*chain.from_iterable(ranges)] == ids
    assert all(len(each) > 0 for each in ranges)
    assert all(before.stop != each.start for before, each in pairwise(ranges))
    assert bulk.as_ranges(range(5, 9)) == [range(5, 9)]


def test_an_empty_batch_is_no_error(engine: Engine) -> None:
    made = engine.job(render).enqueue_many([])
    assert (made.count, list(made)) == (0, [])
    assert engine.batches.get(made.id).ended_at is not None


@pytest.mark.parametrize("bad", [{"path": 5}, {}, {"path": "a", "dip": 1}, "path", None, {5: 1}])
def test_a_bad_item_stores_nothing_of_its_chunk_and_tells_what_is_stored(
    engine: Engine, small_chunks: None, bad: Any
) -> None:
    items = [{"path": "a"}] * 4 + [bad] + [{"path": "b"}] * 5
    with pytest.raises(BatchError, match=r"\[4\]") as caught:
        engine.job(render).enqueue_many(items)
    assert (caught.value.index, caught.value.stored) == (4, 3)
    assert sum(engine.counts().values()) == 3
    assert engine.list_jobs().items[0].batch_id == caught.value.batch_id


def test_an_error_of_the_callers_generator_passes_with_a_note(engine: Engine, small_chunks: None) -> None:
    def items() -> Iterator[dict[str, str]]:
        yield from [{"path": "a"}] * 4
        raise OSError("the input ended")

    with pytest.raises(OSError, match="the input ended") as caught:
        engine.job(render).enqueue_many(items())
    assert "3 jobs of this batch" in caught.value.__notes__[0]


def test_many_jobs_take_options_but_no_key_and_no_connection(engine: Engine) -> None:
    engine.job(render)
    made = engine.options(priority=4, delay=60).enqueue_many("render", [{"path": "a"}])
    assert engine.get_job(next(iter(made))).priority == 4
    for options in ({"idempotency_key": "k"}, {"connection": object()}):
        with pytest.raises(UsageError, match="enqueue_many takes none"):
            engine.options(**options).enqueue_many("render", [])  # type: ignore[arg-type]


# ---------------------------------------------------------------- looking after jobs


def test_jobs_are_listed_newest_first_in_pages(engine: Engine) -> None:
    handle = engine.job(render)
    ids = [handle.enqueue(str(number)).id for number in range(5)]
    page = engine.list_jobs(limit=2)
    seen = [each.id for each in page.items]
    while page.next_cursor is not None:
        page = engine.list_jobs(limit=2, cursor=page.next_cursor)
        seen += [each.id for each in page.items]
    assert seen == ids[::-1]
    assert engine.list_jobs(state="completed").items == []
    assert len(engine.list_jobs(state=JobState.PENDING, queue="default", name="render").items) == 5


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"state": "done"}, "state: must be one of scheduled"),
        ({"state": 5}, "state"),
        ({"cursor": "%"}, "cursor"),
    ],
)
def test_a_bad_list_argument_is_refused_by_name(engine: Engine, arguments: dict[str, Any], text: str) -> None:
    engine.job(render).enqueue("a")
    with pytest.raises(UsageError, match=text):
        engine.list_jobs(**arguments)


def test_waiting_for_a_job_that_is_cancelled_meanwhile_ends(engine: Engine) -> None:
    made = engine.job(render).options(delay=600).enqueue("a")
    threading.Timer(0.05, engine.cancel, [made.id]).start()
    with pytest.raises(JobCancelledError) as caught:
        engine.wait(made.id, timeout=30)
    assert caught.value.job.state is JobState.CANCELLED


def test_waiting_gives_up_at_its_timeout(engine: Engine) -> None:
    made = engine.job(render).enqueue("a")
    started_s = time.monotonic()
    with pytest.raises(WaitTimeoutError, match=r"still pending after 0\.1 s"):
        engine.wait(made.id, timeout=timedelta(milliseconds=100))
    assert 0.1 <= time.monotonic() - started_s < 5
    with pytest.raises(UsageError, match="timeout"):
        engine.wait(made.id, timeout=-1)


def test_a_job_that_is_not_there_is_said_so(engine: Engine) -> None:
    made = engine.job(render).enqueue("a")
    for call in (engine.get_job, engine.wait, engine.cancel, engine.retry, engine.attempts):
        with pytest.raises(JobNotFoundError, match=str(made.id + 1)):
            call(made.id + 1)
    with pytest.raises(UsageError, match=r"pass job\.id"):
        engine.get_job(made)  # type: ignore[arg-type]


def test_cancel_and_retry(engine: Engine) -> None:
    made = engine.job(render).enqueue("a")
    assert engine.cancel(made.id).state is JobState.CANCELLED
    with pytest.raises(InvalidStateError):
        engine.cancel(made.id)
    again = engine.retry(made.id)
    assert (again.retried_from, again.state, again.payload) == (made.id, JobState.PENDING, {"path": "a"})


def test_queues_pause_and_resume_and_are_counted(engine: Engine) -> None:
    engine.job(render).enqueue("a")
    engine.pause_queue("default")
    (stats,) = engine.queue_stats()
    assert (stats.name, stats.is_paused, stats.jobs["pending"]) == ("default", True, 1)
    assert engine.stats()["queues"]["default"]["paused"]
    engine.resume_queue("default")
    figures = engine.stats()
    assert figures["jobs"] == {state.value: int(state is JobState.PENDING) for state in JobState}
    assert (figures["dlq_count"], figures["queues"]["default"]["paused"]) == (0, False)
    with pytest.raises(UsageError, match="queue"):
        engine.pause_queue("")


# ---------------------------------------------------------------- building


def test_building_does_no_io(tmp_path: Path) -> None:
    engine = Engine.build(Dispatcher(store=SQLiteStore(tmp_path / "no" / "jobs.db")))
    engine.job(render)
    assert "render" in repr(engine)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_engine_argument_is_refused_by_name(tmp_path: Path) -> None:
    dispatcher = Dispatcher(store=SQLiteStore(tmp_path / "jobs.db"))
    with pytest.raises(ConfigError, match="backoff"):
        Engine.build(dispatcher, backoff="fast")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"queue_configs\[1\]"):
        Engine.build(dispatcher, queue_configs=[QueueConfig("a"), "b"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="queue_configs: the queue 'a' is there twice"):
        Engine.build(dispatcher, queue_configs=[QueueConfig("a"), QueueConfig("a")])


def test_everything_wrong_with_engine_arguments_is_told_at_once(tmp_path: Path) -> None:
    dispatcher = Dispatcher(store=SQLiteStore(tmp_path / "jobs.db"))
    with pytest.raises(ConfigError) as raised:
        Engine.build(dispatcher, backoff=1, queue_configs=3, middleware="x", extensions=[int])  # type: ignore[arg-type, list-item]
    keys = [fault.key for fault in raised.value.faults]
    assert keys == ["backoff", "queue_configs", "middleware", "extensions[0]"]
    assert "queue_configs: must be a list such as" in str(raised.value)


def test_a_mapping_stands_for_a_queue_config(tmp_path: Path) -> None:
    dispatcher = Dispatcher(store=SQLiteStore(tmp_path / "jobs.db"))
    engine = Engine.build(dispatcher, queue_configs=(each for each in [{"name": "x", "rate_limit": 5}]))
    assert engine.queue_configs == (QueueConfig("x", rate_limit=5.0),)
    with pytest.raises(ConfigError, match=r"queue_configs\[0\]\.rate: no such setting"):
        Engine.build(dispatcher, queue_configs=[{"name": "x", "rate": 5}])


def test_open_takes_config_fields_and_durability(tmp_path: Path) -> None:
    engine = Engine.open(str(tmp_path / "jobs.db"), concurrency=4, durability="process")
    assert engine.dispatcher.config.concurrency == 4
    assert "durability=process" in engine.store.location
    with pytest.raises(ConfigError, match=r"concurency.*concurrency"):
        Engine.open("jobs.db", concurency=4)


def test_the_description_says_what_a_supervisor_must_know(tmp_path: Path) -> None:
    limits = QueueConfig("critical", max_concurrency=2)
    dispatcher = Dispatcher(store=SQLiteStore(tmp_path / "jobs.db"), concurrency=3)
    engine = Engine.build(dispatcher, backoff=backoff.Constant(5), queue_configs=[limits])
    engine.job(backoff=backoff.Linear(1, 9))(render)
    said = engine.describe()
    assert said.store == str(tmp_path / "jobs.db")
    assert (said.backoff, said.jobs) == (backoff.Constant(5), {"render": backoff.Linear(1, 9)})
    assert (said.queue_configs, said.config.concurrency) == ((limits,), 3)
    assert said.origins["concurrency"] == "argument"
    assert said.origins["queues"] == "default"


def test_an_engine_told_to_use_another_store_enqueues_there(engine: Engine, tmp_path: Path) -> None:
    handle = engine.job(render)
    engine.use_store(str(tmp_path / "other.db"))
    handle.enqueue("a")
    assert (tmp_path / "other.db").exists()
    assert not (tmp_path / "jobs.db").exists()
    assert engine.dispatcher.store is engine.store
    assert engine.describe().store == str(tmp_path / "other.db")


def test_a_memory_store_is_not_mistaken_for_another_one_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = (engine := Engine.open(":memory:")).job(render)
    handle.enqueue("a")
    monkeypatch.setattr(process_context, "_is_worker", True)
    monkeypatch.setattr(process_context, "_engine", engine)
    for call in (lambda: handle.enqueue("b"), engine.counts, lambda: handle.enqueue_many([{"path": "c"}])):
        with pytest.raises(StoreNotShared):
            call()


# ---------------------------------------------------------------- the package


def test_every_exported_name_is_there() -> None:
    for name in mpdispatch.__all__:
        assert getattr(mpdispatch, name) is not None
    errors = set(mpdispatch.errors.__all__)
    assert errors <= set(mpdispatch.__all__)


def test_importing_on_windows_says_what_is_needed() -> None:
    code = "import sys; sys.platform = 'win32'; import mpdispatch"
    folder = Path(mpdispatch.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False)
    assert "PlatformError: mpdispatch needs Linux or macOS" in done.stderr


def test_durations_are_given_as_they_are_in_the_configuration(engine: Engine) -> None:
    """Numbers, timedeltas and text, wherever a caller says how long."""

    @engine.job(timeout="1h30m")
    def brief() -> None: ...

    now = datetime.now(UTC)
    job = brief.options(delay="5m").enqueue()
    assert job.timeout == 5400
    assert 299 <= (job.run_at - now).total_seconds() <= 330
    assert engine.options(timeout="2.5").enqueue("brief").timeout == 2.5
    assert (Snooze("1m").delay_s, Retry(delay="1m30s").delay_s) == (60, 90)
    assert middleware.Timeout("2m").seconds == 120
    assert engine.dead_letters.purge(older_than="30d") == 0
    with pytest.raises(WaitTimeoutError):
        engine.wait(job.id, timeout="1ms")


NO_DURATION = "must be a duration such as '250ms', '30s', '5m' or '2h', not"


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda e: e.options(delay="5 min"), f"delay: {NO_DURATION} '5 min'"),
        (
            lambda e: e.options(delay=None, timeout=[]),
            "timeout: must be seconds, a timedelta or a duration such as",
        ),
        (lambda e: e.job(name="x", timeout="never")(render), f"timeout: {NO_DURATION}"),
        (lambda e: e.wait(1, timeout="soon"), f"timeout: {NO_DURATION}"),
        (lambda e: e.dispatcher.stop("soon"), f"timeout: {NO_DURATION}"),
        (lambda e: e.dead_letters.purge(older_than="old"), f"older_than: {NO_DURATION}"),
        (lambda _: Snooze("later"), "delay must be zero or more seconds, a timedelta or a duration such as"),
        (lambda _: Retry(delay=-1), "delay must be zero or more seconds, a timedelta or a duration such as"),
    ],
)
def test_what_is_no_duration_is_refused_with_what_is_allowed(
    engine: Engine, call: Callable[[Engine], Any], named: str
) -> None:
    with pytest.raises((DispatchError, ValueError), match=named):
        call(engine)


# ---------------------------------------------------------------- keeping the store


def test_prune_says_how_many_and_what_is_not_allowed(tmp_path: Path) -> None:
    engine = Engine.open(tmp_path / "jobs.db")
    engine.job(name="a")(lambda: None)
    for _ in range(5):
        engine.cancel(engine.enqueue("a").id)
    for options, named in (
        ({}, "say which jobs: older_than, state or keep"),
        ({"dry_run": True}, "say which jobs"),
        ({"state": "running"}, "state: must be one of completed, failed, cancelled"),
        ({"state": "gone"}, "state: must be one of"),
        ({"keep": -1}, "keep: must be a whole number from 0"),
        ({"keep": True}, "keep: must be a whole number from 0"),
        ({"keep": 1.5}, "keep: must be a whole number from 0"),
        ({"older_than": "soon"}, "older_than"),
        ({"older_than": -1}, "older_than"),
    ):
        with pytest.raises(UsageError, match=named):
            engine.prune(**options)
    assert engine.prune(keep=3, dry_run=True) == 2
    assert engine.prune(keep=4, state="cancelled") == 1
    assert engine.prune(timedelta(hours=1)) == 0
    assert engine.prune("0s", state=JobState.CANCELLED) == 4


def test_backup_gives_a_store_that_another_engine_opens(tmp_path: Path) -> None:
    engine = Engine.open(tmp_path / "jobs.db")
    engine.job(name="a")(lambda: None)
    job_id = engine.enqueue("a").id
    made = engine.backup(tmp_path / "copy.db")
    assert (made.jobs, made.path) == (1, tmp_path / "copy.db")
    assert Engine.open(made.path).get_job(job_id) == engine.get_job(job_id)


def test_compact_waits_for_nobody_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    engine = Engine.open(tmp_path / "jobs.db", concurrency=1)
    engine.job(name="a")(_nothing)
    engine.enqueue("a")
    with engine.dispatcher, pytest.raises(mpdispatch.StoreError, match="has a running supervisor"):
        engine.compact()
    before, after = engine.compact()
    assert 0 < after <= before


def _nothing() -> None: ...
