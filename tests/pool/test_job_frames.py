"""Frames of jobs: whatever one of them holds, the others arrive as they were sent."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.model import ClaimedJob
from mpdispatch.pool.frames import FrameError, Stop, encode
from mpdispatch.pool.job_frames import RunJob, UnreadableJob, decode_jobs, encode_jobs, is_jobs

JOB = ClaimedJob(1, 1, 1, "noop", "default", 0, 0, 3, None, None, payload=b"{}")

_counts = st.integers(min_value=-(2**63), max_value=2**63 - 1)
# What SQLite has as text is Unicode without surrogates.
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_payloads = st.one_of(
    st.sampled_from([b"", b"junk", b"NaN", b'{}],["run",99,1,1', b"\n\n[[1]]\n", b"[" * 100_000, b"\xff\xfe"]),
    st.binary(max_size=50),
)
_jobs = st.builds(
    ClaimedJob,
    id=_counts,
    starts=_counts,
    attempt=_counts,
    name=_texts,
    queue=_texts,
    priority=_counts,
    run_at_us=_counts,
    max_retries=_counts,
    timeout_us=st.none() | _counts,
    idempotency_key=st.none() | _texts,
    payload=_payloads,
    trace_context=st.none() | _texts,
    slot_us=st.none() | _counts,
    expires_at_us=st.none() | _counts,
)


def _as_sent(job: object) -> ClaimedJob:
    assert type(job) is RunJob
    return ClaimedJob(*[getattr(job, name) for name in ClaimedJob.__struct_fields__])


@given(st.lists(st.tuples(_jobs, st.none() | _texts), min_size=1, max_size=5))
def test_jobs_arrive_as_they_were_sent_whatever_their_payloads_are(
    jobs: Sequence[tuple[ClaimedJob, str | None]],
) -> None:
    frame = encode_jobs(jobs)
    assert is_jobs(frame)
    received = decode_jobs(frame)
    assert [_as_sent(job) for job in received] == [job for job, _ in jobs]
    assert [job.reference for job in received if isinstance(job, RunJob)] == [
        reference for _, reference in jobs
    ]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("priority", "high"),
        ("priority", 1.5),
        ("run_at_us", "tomorrow"),
        ("attempt", None),
        ("max_retries", "three"),
        ("timeout_us", "soon"),
        ("name", None),
        ("queue", 7),
        ("idempotency_key", 3.25),
        ("trace_context", 1),
        ("slot_us", "today"),
        ("expires_at_us", "soon"),
    ],
)
def test_a_job_with_a_value_no_row_should_hold_is_told_by_its_column_and_costs_no_other(
    column: str, value: object
) -> None:
    bad = msgspec.structs.replace(JOB, id=2, starts=5, payload=b"its payload", **{column: value})
    last = msgspec.structs.replace(JOB, id=3, payload=b'{"n": 3}')
    first, unreadable, third = decode_jobs(encode_jobs([(JOB, None), (bad, None), (last, None)]))
    assert _as_sent(first) == JOB
    assert _as_sent(third) == last
    assert isinstance(unreadable, UnreadableJob)
    assert (unreadable.id, unreadable.starts) == (2, 5)
    assert f"`{column}`" in unreadable.why


@pytest.mark.parametrize(
    "frame", [b"", b"\n", b"[[", b"[[]]\n", b"[[1]]\n", b'[["x",1]]\n', b"[[1,2,3]]", b"[" * 10_000]
)
def test_what_is_no_frame_of_jobs_is_refused(frame: bytes) -> None:
    with pytest.raises(FrameError):
        decode_jobs(frame)


@pytest.mark.parametrize("change", [b"x", -1])
def test_a_frame_cut_short_or_too_long_is_refused(change: bytes | int) -> None:
    frame = encode_jobs([(JOB, None)])
    with pytest.raises(FrameError):
        decode_jobs(frame[:change] if isinstance(change, int) else frame + change)


def test_the_order_to_stop_is_no_frame_of_jobs() -> None:
    assert not is_jobs(encode(Stop()))
