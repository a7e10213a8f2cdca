"""How far a job is: done, total, share and ETA of whatever stands in its row; how long it ran."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpdispatch.cli.progress import bar, progress_text
from mpdispatch.model import Job, JobState
from mpdispatch.model.json import job_to_json
from mpdispatch.model.progress import progress_of, run_s
from mpdispatch.policy.durations import duration_text, parse_duration

T0 = datetime(2026, 5, 1, tzinfo=UTC)
AMOUNTS = st.integers(min_value=0, max_value=10**20) | st.floats(min_value=0, allow_infinity=False)
ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def job(progress: Any = None, state: JobState = JobState.RUNNING, **fields: Any) -> Job:
    times = {"run_at": T0, "created_at": T0, "started_at": T0}
    values = {"id": 1, "name": "a", "queue": "q", "priority": 0, "payload": {}, "max_retries": 3}
    return Job(state=state, progress=progress, **{**values, **times, **fields})


def test_a_job_that_goes_on_as_it_went_is_done_after_its_eta() -> None:
    found = progress_of(job({"done": 25, "total": 100, "message": "page 25"}), at(10))
    assert found == (25, 100, "page 25", 0.25, 30.0)
    assert progress_text(found) == "25 % (25/100), 30s left: page 25"


@pytest.mark.parametrize(
    ("progress", "share", "eta_s"),
    [
        ({"done": 0, "total": 5}, 0.0, None),  # nothing done yet: nobody knows
        ({"done": 5, "total": 5}, 1.0, 0.0),
        ({"done": 9, "total": 5}, 1.0, 0.0),
        ({"done": 0, "total": 0}, 1.0, 0.0),  # an empty list is done
        ({"done": 3, "total": None}, None, None),
        ({"done": 3}, None, None),
        ({"done": 3, "total": "many"}, None, None),
        ({"done": 3, "total": True}, None, None),
        ({"done": 3, "total": -1}, None, None),
        ({"done": 3, "total": 10**400}, None, None),
        ({"done": 1e-300, "total": 1e300}, 0.0, None),
    ],
)
def test_what_can_be_said_of_odd_progress(progress: Any, share: float | None, eta_s: float | None) -> None:
    found = progress_of(job(progress), at(10))
    assert found is not None
    assert (found.share, found.eta_s) == (share, eta_s)


@pytest.mark.parametrize(
    "progress",
    [None, {}, {"total": 3}, {"done": "3", "total": 5}, {"done": True}, {"done": -1}, {"done": [1]}],
)
def test_without_a_number_of_done_there_is_no_progress(progress: Any) -> None:
    assert progress_of(job(progress), at(10)) is None


@given(done=AMOUNTS, total=AMOUNTS, elapsed=st.floats(0, 1e8))
@example(done=1, total=10**20, elapsed=1e8)
@example(done=5e-324, total=1.7e308, elapsed=1.0)
def test_share_and_eta_fit_each_other(done: float, total: float, elapsed: float) -> None:
    found = progress_of(job({"done": done, "total": total}), at(elapsed))
    assert found is not None
    assert found.share is not None
    assert 0 <= found.share <= 1
    if found.eta_s is None:
        assert found.share < 1
        return
    assert 0 <= found.eta_s < math.inf
    assert (found.eta_s == 0) == (done >= total)
    if 1e-6 < found.share < 1 and elapsed > 1e-3:
        # Elapsed is this share of the whole time.
        assert round(elapsed, 6) / (round(elapsed, 6) + found.eta_s) == pytest.approx(found.share, rel=1e-3)


@given(done=ANYTHING, total=ANYTHING, message=ANYTHING, elapsed=st.floats(-1e6, 1e6))
def test_whatever_stands_in_the_row_can_be_shown_and_is_json(
    done: Any, total: Any, message: Any, elapsed: float
) -> None:
    found = progress_of(job({"done": done, "total": total, "message": message}), at(elapsed))
    if found is None:
        return
    assert progress_text(found)
    assert (found.message is None) or found.message == message
    assert (found.share is None) == (found.total is None)
    json.dumps(found, allow_nan=False)


@given(elapsed=st.lists(st.floats(1, 1e6), min_size=2, max_size=2))
def test_a_job_that_stands_still_has_an_eta_that_grows(elapsed: list[float]) -> None:
    early, late = sorted(elapsed)
    stuck = job({"done": 1, "total": 3})
    first, then = (progress_of(stuck, at(each)) for each in (early, late))
    assert first is not None
    assert then is not None
    assert first.eta_s is not None
    assert then.eta_s is not None
    assert 0 < first.eta_s <= then.eta_s


@pytest.mark.parametrize("state", [each for each in JobState if each is not JobState.RUNNING])
def test_only_a_running_job_has_an_eta(state: JobState) -> None:
    found = progress_of(job({"done": 1, "total": 4}, state, completed_at=at(2)), at(10))
    assert found is not None
    assert (found.share, found.eta_s) == (0.25, None)


def test_a_clock_that_was_set_back_gives_no_eta_and_no_negative_duration() -> None:
    found = progress_of(job({"done": 1, "total": 4}), at(-10))
    assert found is not None
    assert found.eta_s is None
    assert run_s(job(), at(-10)) == 0


@pytest.mark.parametrize(
    ("state", "fields", "seconds"),
    [
        (JobState.RUNNING, {}, 10.0),
        (JobState.COMPLETED, {"completed_at": at(2)}, 2.0),
        (JobState.FAILED, {"completed_at": at(3)}, 3.0),
        (JobState.FAILED, {"completed_at": at(3), "started_at": None}, None),
        (JobState.CANCELLED, {"completed_at": at(4)}, 4.0),
        (JobState.CANCELLED, {"completed_at": at(4), "started_at": None}, None),
        # Cancelled while it waited for its retry: its last start ended nobody knows when.
        (JobState.CANCELLED, {"completed_at": at(4), "run_at": at(1)}, None),
        (JobState.RETRYING, {"run_at": at(60)}, None),
        (JobState.PENDING, {}, None),
        (JobState.SCHEDULED, {"started_at": None}, None),
    ],
)
def test_a_job_runs_from_its_last_start_to_its_end(
    state: JobState, fields: dict[str, Any], seconds: float | None
) -> None:
    each = job(state=state, **fields)
    assert run_s(each, at(10)) == seconds
    assert job_to_json(each, at(10))["duration_s"] == seconds


def test_the_json_of_a_job_has_its_eta() -> None:
    said = job_to_json(job({"done": 1, "total": 3, "message": None}), at(10))
    assert (said["eta_s"], said["duration_s"], said["progress"]["done"]) == (20.0, 10.0, 1)
    assert job_to_json(job(), at(10))["eta_s"] is None


@given(st.floats(0, 1), st.integers(1, 100), st.sampled_from(["utf-8", "UTF8", "ascii"]))
def test_a_bar_is_full_only_when_all_is_done(share: float, width: int, encoding: str) -> None:
    drawn = bar(share, width, encoding=encoding)
    assert len(drawn) == width
    assert (drawn == bar(1.0, width, encoding=encoding)) == (share == 1)
    drawn.encode(encoding)


@given(st.floats(0.001, 1e9))
def test_a_duration_for_people_is_about_right_and_is_read_again(seconds: float) -> None:
    text = duration_text(seconds)
    assert len(text) <= 9
    assert parse_duration(text) == pytest.approx(seconds, rel=0.06, abs=0.0006)
