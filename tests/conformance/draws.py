"""What Hypothesis may choose from: few of everything and by name, so that choices meet often and read well."""

from __future__ import annotations

from itertools import product

import msgspec
from hypothesis import strategies as st

from mpdispatch.clock import SECOND_US
from mpdispatch.ids import boot_id
from mpdispatch.model import (
    Aborted,
    Cancelled,
    ClaimRequest,
    Completed,
    CronSpec,
    ErrorInfo,
    Expired,
    Firing,
    JobState,
    LeaseLost,
    NewBatch,
    NewJob,
    NewSupervisor,
    Outcome,
    QueueLimit,
    Raised,
    Released,
    RetryAsked,
    Run,
    SkippedSlots,
    Snoozed,
    Stream,
    TimedOut,
    WorkerDied,
)
from mpdispatch.store.filters import BatchFilter, DeadLetterFilter, JobFilter
from tests.clock import FakeClock

NAMES = ("mail", "resize", "unknown")
QUEUES = ("default", "slow", "other")
START_US = FakeClock().now().wall_us

# ---------------------------------------------------------------- jobs


def _json_of(size: int) -> bytes:
    return b'{"t":"%b"}' % (b"x" * (size - 8))


# 1024 bytes is the most that stands in a job's own row.
PAYLOADS = (b"{}", b'{"n":1}', _json_of(1024), _json_of(1025), _json_of(3000))

payloads = st.sampled_from(PAYLOADS)
new_jobs = st.builds(
    NewJob,
    name=st.sampled_from(NAMES),
    queue=st.sampled_from(QUEUES),
    payload=payloads,
    priority=st.sampled_from([0, 0, -1, 5]),
    max_retries=st.sampled_from([1, 0, 0, 2]),
    delay_us=st.sampled_from([0, 0, 0, 0, 5 * SECOND_US]),
    timeout_us=st.sampled_from([None, 1_500_000]),
    trace_context=st.sampled_from([None, '{"traceparent":"00-1"}']),
    expires_us=st.sampled_from([None, None, None, 1, 5 * SECOND_US]),
)
keys = st.sampled_from([None, None, None, "a", "b"])
waits_us = st.sampled_from([None, None, None, -SECOND_US, 0, 1, 5 * SECOND_US, 5 * SECOND_US + 1])
"""From now until a new job is due; None says nothing of it."""

# ---------------------------------------------------------------- supervisors

WHO = NewSupervisor(
    host="here",
    machine_id="m-1",
    boot_id=boot_id(),  # that of the store's host, whose boottime its lease runs by
    pid=4711,
    pid_start=99,
    pid_namespace="pid:[1]",
    queues=QUEUES,
    concurrency=4,
    app="shop:engine",
    version="0.1.0",
    token="t-1",
)


_KNOWN = frozenset({"mail", "resize"})
_FEW = {"default": QueueLimit(1), "slow": QueueLimit(2)}
_SLOWLY = {"default": QueueLimit(rate=0.1, burst=2), "slow": QueueLimit(rate=1.0)}
_IN_BURSTS = {"default": QueueLimit(rate=2.0, burst=4), "slow": QueueLimit(rate=0.5, burst=2)}
REQUESTS = {
    "everything": ClaimRequest(queues=QUEUES),
    "known": ClaimRequest(queues=QUEUES, names=_KNOWN, app="shop:engine"),
    "limited": ClaimRequest(queues=QUEUES, limits=_FEW),
    "limited and known": ClaimRequest(queues=QUEUES, names=_KNOWN, app="shop:engine", limits=_FEW),
    "rated": ClaimRequest(queues=QUEUES, limits=_SLOWLY),
    "rated, limited and known": ClaimRequest(
        queues=QUEUES, names=_KNOWN, limits={**_FEW, "other": QueueLimit(rate=0.1)}
    ),
    "rated, in bursts": ClaimRequest(queues=QUEUES, limits=_IN_BURSTS),
    "one queue, rated and known": ClaimRequest(queues=("default",), names=_KNOWN, limits=_IN_BURSTS),
    "one queue, one name": ClaimRequest(queues=("default",), names=frozenset({"mail"})),
    "two queues, one limited": ClaimRequest(queues=("slow", "default"), limits={"default": QueueLimit(1)}),
    "two queues, one rated": ClaimRequest(queues=("default", "other"), limits=_SLOWLY, names=_KNOWN),
}

_names = ["everything"] * 3 + ["one queue, rated and known"] + [*REQUESTS]
_slots = st.sampled_from([4, 4, 2, 1, 0])
_ready = st.sampled_from([None, None, 4, 2, 1, 0, 0])


def _request(name: str, slots: int, ready: int | None) -> ClaimRequest:
    return msgspec.structs.replace(REQUESTS[name], slots=slots, ready=ready)


requests = st.builds(_request, st.sampled_from(_names), _slots, _ready)

# ---------------------------------------------------------------- outcomes

_RUN = Run(started_us=START_US + 7, duration_us=1500, worker_pid=31, cpu_us=800, max_rss_bytes=2**20)
_KILLED = Run(started_us=START_US, worker_pid=32)
_ERROR = ErrorInfo(type="ValueError", message="no such page", traceback="Traceback …")
_LOST = ErrorInfo(type="LeaseLost", message="")
RESCUED: dict[str, Outcome] = {
    "lease lost": LeaseLost(run=_KILLED, error=_LOST),
    "aborted": Aborted(run=_KILLED, error=_LOST),
    "released": Released(),
}
OUTCOMES: dict[str, Outcome] = {
    "completed": Completed(run=_RUN, result=b'{"pages":3}'),
    "completed with null": Completed(run=_RUN, result=b"null"),
    "completed with much": Completed(run=_RUN, result=_json_of(1025)),
    "completed, nobody knows how fast": Completed(run=_KILLED, result=b"1"),
    "raised": Raised(run=_RUN, error=_ERROR),
    "raised for good": Raised(run=_RUN, error=_ERROR, is_retryable=False, exit_status=3),
    "asked to retry": RetryAsked(run=_RUN, error=_ERROR, delay_us=None),
    "asked to retry at once": RetryAsked(run=_RUN, error=_ERROR, delay_us=0),
    "asked to retry in 5 s": RetryAsked(run=_RUN, error=_ERROR, delay_us=5 * SECOND_US),
    "snoozed": Snoozed(run=_RUN, delay_us=0),
    "snoozed for 5 s": Snoozed(run=_RUN, delay_us=5 * SECOND_US),
    "cancelled": Cancelled(run=_RUN, error=_ERROR),
    "cancelled before it began": Cancelled(run=None, error=_ERROR),
    "expired": Expired(error=_ERROR),
    "timed out": TimedOut(run=_RUN, error=_ERROR, signal="SIGTERM"),
    "worker died": WorkerDied(run=_KILLED, error=_ERROR, signal="SIGKILL"),
    "worker ended": WorkerDied(run=_KILLED, error=_ERROR, exit_status=1),
    **RESCUED,
}
outcomes = st.sampled_from(["completed"] * 3 + ["raised for good"] * 2 + [*OUTCOMES])
rescues = st.sampled_from([*RESCUED])
waiting = st.sampled_from(["snoozed for 5 s", "asked to retry in 5 s", "raised"])

# ---------------------------------------------------------------- what is said and looked for

PROGRESS = (b'{"done":1,"total":4,"message":null}', b'{"done":3,"total":4,"message":"pages"}')
TEXTS = ("", "one line\n", "é" * 700)
sayings = st.tuples(st.sampled_from(PROGRESS), st.sampled_from(Stream), st.sampled_from(TEXTS))
"""What a job says of itself: its progress, and what it wrote to which stream."""

# One of each at every look, see `Machine.one_of_all`.
JOB_FILTERS = [
    JobFilter(state=state, queue=queue, name=name)
    for state, queue, name in product([None, *JobState], [None, "default", "slow"], [None, "mail", "resize"])
]
JOB_FILTERS += [
    JobFilter(state=state, batch_id=batch_id) for state, batch_id in product([None, *JobState], [1, 2])
]
LETTER_FILTERS = [
    DeadLetterFilter(is_replayed=is_replayed, queue=queue, name=name, failed_before_us=before_us)
    for before_us, is_replayed, queue, name in product(
        [None, START_US + 5 * SECOND_US, START_US + 50 * SECOND_US],
        [None, False, True],
        [None, "default"],
        [None, "mail"],
    )
]
LETTER_FILTERS += [
    DeadLetterFilter(is_replayed=is_replayed, batch_id=batch_id, error=error)
    for is_replayed, batch_id, error in product(
        [None, False], [None, 1, 2], ["Error: no such", "Lost", "absent"]
    )
]
letter_filters = st.sampled_from(LETTER_FILTERS)

# ---------------------------------------------------------------- batches

BATCH_KEYS = ("m", "n")
_CALLBACK = NewJob(name="mail", payload=b"", queue="slow")
new_batches = st.builds(
    NewBatch,
    name=st.sampled_from(["thumbnails", "sweep"]),
    callbacks=st.sampled_from(
        [
            {},
            {"on_end": _CALLBACK},
            {"on_success": _CALLBACK, "on_failure": msgspec.structs.replace(_CALLBACK, name="resize")},
            {"on_end": _CALLBACK, "on_failure": _CALLBACK},
        ]
    ),
    max_fails=st.sampled_from([None, None, None, 0, 1]),
    max_fail_share=st.sampled_from([None, None, None, 0.3]),
    key=st.sampled_from([None, None, None, *BATCH_KEYS]),
)
BATCH_FILTERS = [
    BatchFilter(name=name, has_ended=has_ended)
    for name, has_ended in product([None, "sweep", "mail"], [None, True, False])
]

# ---------------------------------------------------------------- cron entries

CRON_NAMES = ("nightly", "sweep", "report")
APPS = ("shop:engine", "shop:engine", "other:engine")
SLOTS = [START_US + seconds * SECOND_US for seconds in range(0, 24, 3)]
"""Few, so that each is decided about again and again."""
cron_names = st.sampled_from(CRON_NAMES)
slots = st.sampled_from(SLOTS)
cron_specs = st.builds(
    CronSpec,
    name=cron_names,
    schedule=st.sampled_from(["* * * * *", "@hourly"]),
    tz=st.sampled_from(["UTC", "UTC", "Europe/Berlin"]),
    job=st.builds(
        NewJob,
        name=st.sampled_from(NAMES),
        queue=st.sampled_from(QUEUES),
        payload=payloads,
        max_retries=st.sampled_from([1, 0, 0]),
        idempotency_key=st.sampled_from([None, None, "a"]),
    ),
    overlap=st.sampled_from(["allow", "skip"]),
    ends_at_us=st.sampled_from([None, None, START_US]),
)
declared_crons = st.lists(cron_specs, max_size=3, unique_by=lambda spec: spec.name)
cron_firings = st.lists(
    st.builds(Firing, slots, st.sampled_from([START_US, START_US + 8 * SECOND_US])), max_size=3
)
_REASONS = st.sampled_from(["overlap", "overlap", "missed"])


def _skipped(first: int, length: int, reason: str, at_us: int) -> SkippedSlots:
    return SkippedSlots(first, first + length * SECOND_US, reason, at_us)


cron_skips = st.lists(
    st.builds(_skipped, slots, st.sampled_from([0, 0, 1, 4]), _REASONS, st.sampled_from(SLOTS)), max_size=2
)
moments = st.sampled_from([None, START_US, START_US + SECOND_US])
