"""What a job changes for the whole process does not reach the next one of its worker."""

from __future__ import annotations

import os

import msgspec
import pytest

from mpdispatch.model import ClaimedJob, Completed
from tests.pool.rig import Gone, Rig
from tests.pool.spoiling import PATCHES, RENEWING, RENEWING_SELDOM, SELDOM, SPOILS


def _found(rig: Rig, job: ClaimedJob) -> dict[str, object]:
    outcome = rig.settled(job).outcome
    assert isinstance(outcome, Completed), outcome
    found: dict[str, object] = msgspec.json.decode(outcome.result)
    return found


CHANGES = [how for how in SPOILS if how not in RENEWING | RENEWING_SELDOM | PATCHES]
# After a job of less than 50 µs, those of SELDOM are looked for before the worker rests, and every so many jobs: it
# costs too much.


@pytest.mark.parametrize(
    ("how", "is_next_in_its_frame"),
    [*[(how, True) for how in CHANGES if how not in SELDOM], *[(how, False) for how in CHANGES]],
)
def test_what_a_job_changed_is_put_back_before_the_next(rig: Rig, how: str, is_next_in_its_frame: bool) -> None:
    worker = rig.ready()
    before = _found(rig, rig.give(worker, "state"))
    spoils, looks = rig.job("spoil", how=how), rig.job("state")
    if is_next_in_its_frame:
        rig.give_together(worker, spoils, looks)
    else:
        rig.give_together(worker, spoils)
        rig.settled(spoils)
        rig.give_together(worker, looks)
    assert _found(rig, looks) == before
    assert isinstance(rig.settled(spoils).outcome, Completed)
    assert worker in rig.pool.ready, "nothing that could not be put back"


@pytest.mark.parametrize("how", RENEWING)
def test_a_worker_that_cannot_be_put_back_runs_nothing_more(rig: Rig, how: str) -> None:
    if os.geteuid() != 0 and ("user" in how or "group" in how):
        pytest.skip("only root may become somebody else")
    worker = rig.ready()
    before = _found(rig, rig.give(worker, "state"))
    spoils, looks = rig.job("spoil", how=how), rig.job("state")
    rig.events.clear()
    rig.give_together(worker, spoils, looks)
    rig.wait_for(Gone)
    assert rig.summary() == ["Settled spoil Completed", "Returned 1", "Gone"]
    assert worker.exit_status is not None
    assert worker.exit_status.code == 0
    assert _found(rig, rig.give(rig.ready(), "state")) | {"environment": {}} == before | {"environment": {}}


@pytest.mark.parametrize("how", RENEWING_SELDOM)
def test_a_worker_that_cannot_be_put_back_is_replaced_before_it_rests(rig: Rig, how: str) -> None:
    worker = rig.ready()
    before = _found(rig, rig.give(worker, "state"))
    rig.events.clear()
    spoils = rig.give(worker, "spoil", how=how)
    rig.wait_for(Gone)
    assert isinstance(rig.settled(spoils).outcome, Completed), "its outcome is not lost by what it left"
    assert worker.exit_status is not None
    assert worker.exit_status.code == 0
    assert _found(rig, rig.give(rig.ready(), "state")) | {"environment": {}} == before | {"environment": {}}


def test_brief_jobs_of_one_handler_leave_nothing_to_another(rig: Rig) -> None:
    """Between them not everything is looked at: all the more before the next of another kind."""
    worker = rig.ready()
    before = _found(rig, rig.give(worker, "state"))
    jobs = [
        rig.job("spoil", how="niceness"),
        *[rig.job("spoil", how="gc off") for _ in range(3)],
        rig.job("state"),
    ]
    rig.give_together(worker, *jobs)
    assert _found(rig, jobs[-1]) == before


@pytest.mark.parametrize("how", PATCHES)
def test_a_job_that_patches_what_is_called_after_it_keeps_its_outcome(rig: Rig, how: str) -> None:
    worker = rig.ready()
    # The second: after the first, which is brief, not all is looked at before it is answered.
    jobs = [rig.give(worker, "spoil", how=how) for _ in range(2)]
    for job in jobs:
        assert isinstance(rig.settled(job).outcome, Completed)
    assert isinstance(rig.settled(rig.give(worker, "echo", value=1)).outcome, Completed)
