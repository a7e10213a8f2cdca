"""Hooks are called in order, on one thread, and nothing they do reaches who offers."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

import pytest

from mpdispatch import ConfigError, hooks
from mpdispatch.clock import LATEST_US
from mpdispatch.events.notices import (
    Began,
    EnqueuedMany,
    Forwarded,
    Notice,
    Recorded,
    decode_events,
    encode_events,
    ended,
    events_of,
    fired,
    late,
)
from mpdispatch.events.publish import Hooks
from mpdispatch.events.queue import HookQueue, Subscribers
from mpdispatch.execution.telemetry import Telemetry
from mpdispatch.model import (
    Cause,
    ClaimedJob,
    CronEntry,
    CronSpec,
    ErrorInfo,
    Job,
    JobState,
    NewJob,
    Run,
    Transition,
)
from mpdispatch.model.json import moment_of

LOG = logging.getLogger("mpdispatch.hooks")
JOB = ClaimedJob(7, 2, 1, "render", "bulk", 0, 0, 3, None, None, payload=b"{}")
ERROR = ErrorInfo(type="ValueError", message="bad")


FIRED = Job(
    id=8,
    name="render",
    queue="bulk",
    state=JobState.SCHEDULED,
    priority=0,
    payload={},
    max_retries=3,
    run_at=moment_of(5_000_000),
    created_at=moment_of(4_100_000),
    slot=moment_of(4_000_000),
)
ENTRY = CronEntry(
    id=1,
    spec=CronSpec(
        name="nightly", schedule="@daily", tz="UTC", job=NewJob(name="render", payload=b"{}", queue="bulk")
    ),
    origin="user",
    app="",
    revision=1,
    is_enabled=True,
    is_orphan=False,
    created_at_us=0,
    enabled_at_us=0,
    decided_until_us=0,
    next_slot_us=None,
    boot_id=None,
    last_slot_us=4_000_000,
    last_fired_us=4_100_000,
    last_job_id=8,
    last_success_us=2_000_000,
    late_since_us=None,
)


class Notes(hooks.Extension):
    """Keeps every event it is given."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def _keep(self, event: Any) -> None:
        self.seen.append(event)

    on_job_enqueued = on_job_started = on_job_completed = on_job_failed = _keep
    on_job_retrying = on_job_dead_lettered = on_cron_fired = on_cron_late = on_shutdown = _keep


def goodbye(number: int = 0) -> hooks.Shutdown:
    return ended(1_000_000, exit_code=number, completed=0, failed=0)


def outcome(state: JobState, cause: Cause, **changes: Any) -> Recorded:
    values: dict[str, Any] = {
        "job_id": 7,
        "starts": 2,
        "state": state,
        "attempt": 1,
        "cause": cause,
        "at_us": 2_000_000,
        "run": Run(started_us=1_500_000, duration_us=250_000, worker_pid=31),
        "error": None if cause is Cause.COMPLETED else ERROR,
        "claim_attempt": 1,
    }
    return Recorded(JOB, Transition(**(values | changes)))


# ---------------------------------------------------------------- events


@pytest.mark.parametrize(
    ("notice", "names"),
    [
        (Began(JOB, 1_500_000, 31), ["JobStarted"]),
        (outcome(JobState.COMPLETED, Cause.COMPLETED), ["JobCompleted"]),
        (outcome(JobState.RETRYING, Cause.TIMEOUT, run_at_us=9_000_000), ["JobRetrying"]),
        (outcome(JobState.RETRYING, Cause.ERROR, run_at_us=LATEST_US), ["JobRetrying"]),
        (outcome(JobState.PENDING, Cause.RETRY, run_at_us=2_000_000), ["JobRetrying"]),
        (outcome(JobState.FAILED, Cause.WORKER_DIED), ["JobFailed", "JobDeadLettered"]),
        (outcome(JobState.FAILED, Cause.ABORTED), ["JobFailed", "JobDeadLettered"]),
        (outcome(JobState.CANCELLED, Cause.ERROR), []),
        (outcome(JobState.SCHEDULED, Cause.SNOOZE), []),
        (outcome(JobState.PENDING, Cause.ABORTED), []),
        (outcome(JobState.PENDING, Cause.RELEASED, run=None), []),
        (EnqueuedMany(NewJob(name="a", payload=b"{}"), range(4, 6), 4, 1_000_000), ["JobEnqueued"] * 2),
        (fired("nightly", FIRED), ["CronFired"]),
        (late(ENTRY, 3_000_000, 9_000_000), ["CronLate"]),
        (goodbye(), ["Shutdown"]),
    ],
    ids=repr,
)
def test_a_change_gives_its_events_and_they_survive_the_way_to_another_process(
    notice: Notice, names: list[str]
) -> None:
    events = list(events_of(notice))
    assert [type(event).__name__ for event in events] == names
    assert decode_events(encode_events(events)) == events
    assert list(events_of(Forwarded(encode_events(events)))) == events


def test_an_event_says_what_happened_and_when() -> None:
    (event,) = events_of(outcome(JobState.RETRYING, Cause.TIMEOUT, run_at_us=9_000_000))
    assert isinstance(event, hooks.JobRetrying)
    assert (event.job_id, event.name, event.queue, event.starts, event.attempt) == (7, "render", "bulk", 2, 1)
    assert (event.at.timestamp(), event.run_at.timestamp(), event.duration_s) == (2.0, 9.0, 0.25)
    assert event.at.utcoffset() is not None
    assert (event.cause, event.error, event.worker_pid) == (Cause.TIMEOUT, ERROR, 31)


def test_events_of_a_cron_entry_name_it_its_job_and_its_times() -> None:
    event = fired("nightly", FIRED)
    assert (event.entry, event.name, event.queue, event.job_id) == ("nightly", "render", "bulk", 8)
    assert (event.slot_at.timestamp(), event.at.timestamp()) == (4.0, 4.1)
    alarm = late(ENTRY, 3_000_000, 9_000_000)
    assert (alarm.entry, alarm.name, alarm.queue, alarm.last_job_id) == ("nightly", "render", "bulk", 8)
    assert (alarm.late_since.timestamp(), alarm.at.timestamp()) == (3.0, 9.0)
    assert alarm.last_success_at is not None
    assert alarm.last_success_at.timestamp() == 2.0


# ---------------------------------------------------------------- who is called


def test_only_hooks_that_are_overridden_are_wanted() -> None:
    class One(hooks.Extension):
        def on_job_failed(self, event: hooks.JobFailed) -> None: ...

    class Two(One):
        pass

    assert hooks.overridden(hooks.Extension()) == frozenset()
    assert hooks.overridden(Two()) == {"on_job_failed"}
    assert Subscribers([One(), hooks.Extension()], LOG).wanted == {"on_job_failed"}


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(1), KeyboardInterrupt()])
def test_a_hook_that_raises_is_logged_by_name_and_the_others_are_called(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(hooks.Extension):
        name = "pager"

        def on_shutdown(self, event: hooks.Shutdown) -> None:
            raise error

    notes = Notes()
    Subscribers([Broken(), notes], LOG).deliver([goodbye(1), goodbye(2)])
    assert [event.exit_code for event in notes.seen] == [1, 2]
    first, second = caplog.records
    assert first.getMessage().startswith("extension pager raised in on_shutdown: ")
    # With its traceback once: a hook may fail for every job.
    assert (bool(first.exc_info), bool(second.exc_info)) == (True, False)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ([Notes], r"extensions\[0\]: is the class Notes, not one of it"),
        ([Notes(), "pager"], r"extensions\[1\]: must be a hooks.Extension, not str"),
        (Notes(), "must be a list of extensions"),
    ],
)
def test_what_is_no_extension_is_refused_by_its_place(given: Any, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        hooks.checked_extensions(given)


def test_an_async_hook_is_refused() -> None:
    class Late(hooks.Extension):
        async def on_job_failed(self, event: hooks.JobFailed) -> None: ...  # type: ignore[override]

    with pytest.raises(ConfigError, match=r"Late\.on_job_failed is async; hooks are plain functions"):
        hooks.checked_extensions([Late()])


# ---------------------------------------------------------------- the line


def test_what_is_offered_is_delivered_in_order_on_another_thread() -> None:
    notes, threads = Notes(), set[int]()

    def deliver(notices: Any) -> None:
        threads.add(threading.get_ident())
        Subscribers([notes], LOG).deliver(notices)

    line = HookQueue(deliver, LOG)
    for number in range(100):
        line.offer([goodbye(number)], 1)
    assert line.drain(5)
    assert [event.exit_code for event in notes.seen] == list(range(100))
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_what_does_not_fit_is_counted_and_logged_and_never_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate, delivered = threading.Event(), list[int]()

    def deliver(notices: Any) -> None:
        gate.wait(10)
        delivered.extend(event.exit_code for event in notices)

    line = HookQueue(deliver, LOG, most=10)
    begun = time.monotonic()
    for number in range(25):
        line.offer([goodbye(number)], 1)
    assert time.monotonic() - begun < 1
    assert line.dropped == 15
    gate.set()
    assert line.drain(5)
    assert delivered == list(range(10))
    assert sum(record.__dict__["dropped"] for record in caplog.records) == 15
    line.offer([goodbye(99)], 1)
    assert line.drain(5)
    assert delivered[-1] == 99


def test_a_drain_waits_no_longer_than_it_may(caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()
    line = HookQueue(lambda notices: bool(gate.wait(10)) and None, LOG)
    line.offer([goodbye()], 1)
    begun = time.monotonic()
    assert not line.drain(0.1)
    assert time.monotonic() - begun < 2
    assert "1 events are lost" in caplog.text
    gate.set()


def test_junk_told_by_a_worker_ends_neither_the_thread_nor_the_order(caplog: pytest.LogCaptureFixture) -> None:
    notes = Notes()
    line = HookQueue(Subscribers([notes], LOG).deliver, LOG)
    line.offer([Forwarded(b"[{}]")], 1)
    line.offer([goodbye(5)], 1)
    assert line.drain(5)
    assert [event.exit_code for event in notes.seen] == [5]
    assert "could not be delivered" in caplog.text


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # a threaded process forks: that is the point
def test_a_forked_child_has_a_thread_of_its_own() -> None:
    notes = Notes()
    line = HookQueue(Subscribers([notes], LOG).deliver, LOG)
    line.offer([goodbye()], 1)
    assert line.drain(5)
    pid = os.fork()
    if pid == 0:
        line.offer([goodbye(1)], 1)
        os._exit(0 if line.drain(5) and len(notes.seen) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_without_extensions_an_enqueue_starts_no_thread_and_makes_no_event() -> None:
    before = threading.active_count()
    none = Hooks((), Telemetry().metrics, LOG)
    none.enqueued_many(NewJob(name="a", payload=b"{}"), range(3), 1, 0)
    assert (none.subscribers(), none.wanted()) == (None, frozenset())
    assert threading.active_count() == before


def test_in_a_worker_events_are_routed_and_no_hook_is_called() -> None:
    notes, sent = Notes(), list[tuple[bytes, int]]()
    routed = Hooks([notes], Telemetry().metrics, LOG)
    routed.route(lambda events, count: sent.append((events, count)))
    routed.enqueued_many(NewJob(name="a", payload=b"{}"), range(1, 4), 1, 0)
    assert [event.job_id for event in decode_events(sent[0][0])] == [1, 2, 3]  # type: ignore[union-attr]
    assert sent[0][1] == 3
    assert notes.seen == []
