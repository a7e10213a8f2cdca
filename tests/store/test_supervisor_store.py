"""What every store does for a supervisor: leases, claims, outcomes, take-over."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpdispatch.clock import Instant
from mpdispatch.errors import LeaseLostError
from mpdispatch.ids import boot_id
from mpdispatch.model import AlikeJobs, Cause, ClaimedJob, ErrorInfo, Job, JobState, NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.contract import Store
from mpdispatch.store.sql.rows import moment
from mpdispatch.store.values import Progress
from tests.clock import FakeClock
from tests.kinds import sqlite_only

from .conftest import (
    ERROR,
    MINUTE_US,
    TTL_US,
    Desk,
    Woken,
    completed,
    ended,
    failed,
    registration,
    released,
    retrying,
)
from .requests import request

Enqueue = Callable[..., Job]
NewDesk = Callable[[], Desk]


# ---------------------------------------------------------------- polling


def test_a_change_by_somebody_else_is_seen(enqueue: Enqueue, desk: Desk) -> None:
    desk.supervisor_store.file_care.has_changed()
    for _ in range(2):
        enqueue()
        assert desk.supervisor_store.file_care.has_changed()


def test_a_file_nobody_has_written_to_has_not_changed(file_store: SQLiteStore) -> None:
    supervisor_store = file_store.supervisor_store()
    assert supervisor_store.file_care.has_changed()  # since never
    assert not supervisor_store.file_care.has_changed()
    supervisor_store.close()


# ---------------------------------------------------------------- leases


def test_a_registered_supervisor_is_seen_by_its_peers(store: Store, new_desk: NewDesk, now: Instant) -> None:
    first, second = new_desk(), new_desk()
    (peer,) = second.supervisor_store.peers(second.owner).registered
    assert peer.id == first.owner
    assert (peer.host, peer.queues, peer.pid, peer.pid_start) == ("here", ("default",), 4711, 99)
    assert (peer.started_us, peer.heartbeat_us) == (now.wall_us, now.wall_us)
    assert peer.lease_left_us == TTL_US
    assert [each.id for each in store.supervisors()] == [first.owner, second.owner]


def test_owner_ids_are_never_used_again(desk: Desk) -> None:
    desk.supervisor_store.unregister(desk.owner)
    again = desk.supervisor_store.register(registration(), TTL_US)
    assert again > desk.owner


def test_renew_moves_the_lease_and_names_what_is_owned(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    for _ in range(3):
        enqueue()
    claimed = desk.claim(2)
    later = clock.advance(10)
    renewal = desk.supervisor_store.renew(desk.owner, TTL_US)
    assert sorted(renewal.owned) == [(job.id, job.starts) for job in claimed]
    (me,) = store.supervisors()
    assert (me.heartbeat_us, me.lease_left_us) == (later.wall_us, TTL_US)


@sqlite_only  # a server has one clock, whichever host a supervisor is on
@pytest.mark.parametrize("boot", [boot_id(), "another boot"])
def test_a_lease_of_this_boot_runs_by_boottime_and_others_by_the_wall_clock(
    store: Store, desk: Desk, clock: FakeClock, boot: str
) -> None:
    here = boot == boot_id()
    owner = desk.supervisor_store.register(registration(boot_id=boot), 5_000_000)

    def left_us() -> int:
        (found,) = [each.lease_left_us for each in store.supervisors() if each.id == owner]
        return found

    clock.jump_wall(100)
    assert left_us() == (5_000_000 if here else -95_000_000)
    clock.jump_wall(-200)
    clock.advance(2)
    assert left_us() == (3_000_000 if here else 103_000_000)
    clock.advance(3)
    assert left_us() == (0 if here else 100_000_000)


def test_without_registration_nothing_is_renewed_or_written(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    now = clock.now()
    enqueue()
    (claimed,) = desk.claim()
    enqueue()
    desk.supervisor_store.unregister(desk.owner)
    with pytest.raises(LeaseLostError):
        desk.supervisor_store.renew(desk.owner, TTL_US)
    with pytest.raises(LeaseLostError):
        desk.commit(completed(claimed, now))
    with pytest.raises(LeaseLostError):
        desk.claim()
    with pytest.raises(LeaseLostError):
        desk.commit()
    assert store.state_of(claimed.id) is JobState.RUNNING
    assert store.attempts(claimed.id) == []
    assert store.counts()[JobState.PENDING] == 1


# ---------------------------------------------------------------- claim


def test_claim_counts_the_attempt_and_the_start(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    job = enqueue(idempotency_key="k", timeout_us=5)
    later = clock.advance(2)
    (claimed,) = desk.claim()
    assert claimed == ClaimedJob(
        id=job.id,
        starts=1,
        attempt=1,
        name="render",
        queue="default",
        priority=0,
        run_at_us=later.wall_us - 2_000_000,
        max_retries=3,
        timeout_us=5,
        idempotency_key="k",
        payload=b'{"path":"a.pdf"}',
    )
    running = store.get(job.id)
    assert (running.state, running.starts, running.attempt) == (JobState.RUNNING, 1, 1)
    assert running.started_at == moment(later.wall_us)
    assert desk.claim() == []


def test_a_released_job_gets_its_attempt_back_but_not_its_start(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    job = enqueue()
    (claimed,) = desk.claim()
    desk.commit(released(claimed, now))
    back = store.get(job.id)
    assert (back.state, back.attempt, back.starts, back.started_at) == (JobState.PENDING, 0, 1, None)
    assert store.attempts(job.id) == []
    (again,) = desk.claim()
    assert (again.attempt, again.starts) == (1, 2)


jobs_of_many_kinds = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.integers(-2, 2),
        st.integers(-3, 0),
        st.sampled_from(["known", "unknown", "parked"]),
    ),
    max_size=30,
)


@given(jobs=jobs_of_many_kinds, slots=st.integers(1, 12), limits=st.tuples(*[st.integers(0, 9)] * 3))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_claims_take_the_first_due_jobs_of_all_queues_in_order(
    jobs: list[tuple[str, int, int, str]], slots: int, limits: tuple[int, int, int], clock: FakeClock
) -> None:
    now = clock.now()
    store = SQLiteStore(":memory:", clock=clock)
    expected = []
    for queue, priority, run_in_us, kind in jobs:
        job = NewJob(
            name=kind, payload=b"{}", queue=queue, priority=priority, run_at_us=now.wall_us + run_in_us
        )
        made = store.enqueue(job)
        if kind != "unknown":
            expected.append((-priority, run_in_us, made.id, queue))
    desk = Desk(store, clock)
    # Park some first: they must come back into the same order.
    desk.claim(1000, request("a", "b", "c", limits={}, names=frozenset()))
    known = frozenset({"known", "parked"})
    left = dict(zip("abc", limits, strict=True))
    claim = request("b", "a", "c", limits=left, names=known)
    wanted = []
    for _, _, job_id, queue in sorted(expected):
        if left[queue] > 0 and len(wanted) < slots:
            left[queue] -= 1
            wanted.append(job_id)
    assert [job.id for job in desk.claim(slots, claim)] == wanted
    desk.close()


def test_queues_that_are_not_polled_are_left_alone(enqueue: Enqueue, desk: Desk) -> None:
    enqueue(queue="other")
    mine = enqueue()
    assert [job.id for job in desk.claim()] == [mine.id]


def test_limits_count_the_running_jobs_of_every_supervisor(enqueue: Enqueue, new_desk: NewDesk) -> None:
    first, second = new_desk(), new_desk()
    for _ in range(6):
        enqueue(queue="bulk")
    wanted = request("bulk", limits={"bulk": 4})
    assert len(first.claim(3, wanted)) == 3
    assert len(second.claim(9, wanted)) == 1
    assert len(first.claim(9, wanted)) == 0


def test_tokens_are_charged_once_and_seen_by_every_supervisor(
    store: Store, enqueue: Enqueue, new_desk: NewDesk
) -> None:
    first, second = new_desk(), new_desk()
    for _ in range(6):
        enqueue(queue="bulk")
    wanted = request("bulk", bursts={"bulk": 4})
    assert len(first.claim(3, wanted)) == 3
    result = second.commit(slots=9, claim=wanted)
    token_in_us = result.token_in_us
    assert (len(result.claimed), token_in_us is not None) == (1, True)
    idle = second.commit(slots=9, claim=wanted)
    assert (len(idle.claimed), idle.token_in_us) == (0, token_in_us)
    assert [stats.is_paused for stats in store.queue_stats()] == [False]


@sqlite_only
def test_a_bucket_of_another_boot_counts_as_fresh(
    enqueue: Enqueue, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        enqueue(queue="bulk")
    wanted = request("bulk", bursts={"bulk": 2})
    assert len(desk.claim(9, wanted)) == 2
    assert len(desk.claim(9, wanted)) == 0
    monkeypatch.setattr("mpdispatch.store.sql.claim.boot_id", lambda: "another boot")
    assert len(desk.claim(9, wanted)) == 2


def test_no_token_is_named_when_nothing_waits_for_one(enqueue: Enqueue, desk: Desk) -> None:
    enqueue(queue="bulk")
    wanted = request("bulk", bursts={"bulk": 1})
    assert len(desk.claim(9, wanted)) == 1
    assert desk.commit(slots=9, claim=wanted).token_in_us is None


def test_a_paused_queue_gives_nothing(store: Store, enqueue: Enqueue, desk: Desk) -> None:
    enqueue()
    store.set_paused("default", True)
    assert desk.claim() == []
    store.set_paused("default", False)
    assert len(desk.claim()) == 1


# ---------------------------------------------------------------- parked


def test_a_name_nobody_here_knows_is_parked_once_and_takes_no_slot(
    store: Store, enqueue: Enqueue, new_desk: NewDesk
) -> None:
    knows_a, knows_b = new_desk(), new_desk()
    unknown, known = enqueue(name="b", priority=9), enqueue(name="a")
    wanted = request(names=frozenset({"a"}))
    result = knows_a.commit(slots=1, claim=wanted)
    reason = "no handler 'b' in this engine; registered: a"
    assert ([job.id for job in result.claimed], dict(result.parked)) == ([known.id], {reason: 1})
    parked = store.get(unknown.id)
    assert (parked.state, parked.blocked_reason, parked.starts) == (JobState.PENDING, reason, 0)
    quiet = knows_a.commit(slots=9, claim=wanted)
    assert ([*quiet.claimed], dict(quiet.parked), quiet.has_more) == ([], {}, False)
    (claimed,) = knows_b.claim(claim=request(names=frozenset({"b"})))
    assert (claimed.id, store.get(unknown.id).blocked_reason) == (unknown.id, None)


def test_parked_jobs_keep_to_the_limits_and_the_queues(store: Store, enqueue: Enqueue, desk: Desk) -> None:
    for queue in ("default", "default", "other"):
        enqueue(name="b", queue=queue)
    desk.claim(claim=request("default", "other", names=frozenset()))
    assert store.counts()[JobState.PENDING] == 3
    wanted = request("default", limits={"default": 1}, names=frozenset({"b"}))
    assert len(desk.claim(claim=wanted)) == 1
    assert len(desk.claim(claim=wanted)) == 0
    assert [job.queue for job in desk.claim(claim=request("other"))] == ["other"]


def test_a_parked_job_can_be_cancelled(store: Store, enqueue: Enqueue, desk: Desk) -> None:
    job = enqueue(name="b")
    desk.claim(claim=request(names=frozenset()))
    cancelled = store.cancel(job.id)
    assert (cancelled.state, cancelled.blocked_reason) == (JobState.CANCELLED, None)


@sqlite_only
def test_very_many_refused_jobs_are_parked_over_several_turns(
    store: Store, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpdispatch.store.sql.candidates.PARK_AT_MOST", 10)
    store.enqueue_many(AlikeJobs(NewJob(name="b", payload=b""), [b"{}"] * 25))
    wanted = request(names=frozenset())
    turns = [desk.commit(slots=5, claim=wanted) for _ in range(4)]
    assert [sum(result.parked.values()) for result in turns] == [10, 10, 5, 0]
    assert [result.has_more for result in turns] == [True, True, False, False]


# ---------------------------------------------------------------- later


def test_scheduled_and_retrying_jobs_are_claimed_when_due_not_before(
    enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    now = clock.now()
    enqueue()
    (claimed,) = desk.claim()
    soon = enqueue(run_at_us=now.wall_us + 2_000_000)
    enqueue(queue="other", run_at_us=now.wall_us + 1_000_000)
    result = desk.commit(retrying(claimed, now, in_s=3), slots=9)
    assert (result.claimed, result.due_in_us) == ([], 2_000_000)
    clock.advance(1.999_999)
    assert desk.claim() == []
    clock.advance(0.000_001)
    result = desk.commit(slots=9)
    assert ([job.id for job in result.claimed], result.due_in_us) == ([soon.id], 1_000_000)
    clock.advance(10)
    assert [job.id for job in desk.claim()] == [claimed.id]


def test_a_turn_knows_when_what_it_puts_off_is_due(enqueue: Enqueue, desk: Desk, now: Instant) -> None:
    enqueue()
    (claimed,) = desk.claim()
    assert desk.commit(retrying(claimed, now, in_s=3), slots=9).due_in_us == 3_000_000


def test_what_is_due_is_staged_even_when_there_is_no_slot(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    job = enqueue(run_at_us=clock.now().wall_us + 1)
    clock.advance(1)
    result = desk.commit(claim=request())
    assert (result.claimed, result.due_in_us) == ([], None)
    assert store.state_of(job.id) is JobState.PENDING


@sqlite_only
def test_very_many_due_jobs_are_staged_over_several_turns(
    store: Store, desk: Desk, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpdispatch.store.sql.claim.STAGE_AT_MOST", 10)
    at = clock.now().wall_us + 1
    store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b"", run_at_us=at), [b"{}"] * 15))
    clock.advance(1)
    assert desk.commit(claim=request()).has_more
    assert not desk.commit(claim=request()).has_more
    assert store.counts()[JobState.PENDING] == 15


def test_a_wall_clock_set_back_holds_no_due_job(enqueue: Enqueue, desk: Desk, clock: FakeClock) -> None:
    enqueue()
    clock.jump_wall(-86_400)
    assert len(desk.claim()) == 1


def test_has_more_says_whether_the_claim_was_full(enqueue: Enqueue, desk: Desk) -> None:
    for _ in range(3):
        enqueue()
    assert desk.commit(slots=2).has_more
    assert not desk.commit(slots=2).has_more


# ---------------------------------------------------------------- outcomes


def test_a_completed_job_has_its_result_and_its_history(
    store: Store, enqueue: Enqueue, desk: Desk, clock: FakeClock
) -> None:
    job = enqueue()
    (claimed,) = desk.claim()
    at = clock.advance(1)
    assert desk.commit(completed(claimed, at)).rejected == []
    done = store.get(job.id)
    assert (done.state, done.result, done.completed_at) == (
        JobState.COMPLETED,
        {"pages": 3},
        moment(at.wall_us),
    )
    assert done.started_at == moment(at.wall_us - 1000), "as the worker had it, not as it was claimed"
    assert (done.worker_pid, done.cpu_s, done.max_rss_bytes) == (31, 0.0008, 2**20)
    (attempt,) = store.attempts(job.id)
    assert (attempt.job_id, attempt.starts, attempt.attempt, attempt.cause) == (job.id, 1, 1, Cause.COMPLETED)
    assert (attempt.started_at, attempt.finished_at) == (moment(at.wall_us - 1000), moment(at.wall_us))
    assert (attempt.duration_s, attempt.error, attempt.exit_status, attempt.signal) == (
        0.0009,
        None,
        None,
        None,
    )


@pytest.mark.parametrize("size", [0, 1000, 1100, 2**20])
def test_results_of_any_size_come_back_whole(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant, size: int
) -> None:
    job = enqueue()
    (claimed,) = desk.claim()
    desk.commit(completed(claimed, now, result=msgspec.json.encode("r" * size)))
    assert store.get(job.id).result == "r" * size


def test_a_failed_job_is_one_dead_letter_with_all_its_causes(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    job = enqueue()
    (claimed,) = desk.claim()
    desk.commit(retrying(claimed, now, in_s=0))
    (claimed,) = desk.claim()
    error = ErrorInfo(type="WorkerDied", message="killed", traceback="t" * 65_536)
    died = ended(
        claimed, JobState.FAILED, Cause.WORKER_DIED, now, error=error, exit_status=-9, signal="SIGKILL"
    )
    desk.commit(died)
    failed_job = store.get(job.id)
    assert (failed_job.state, failed_job.last_error, failed_job.result) == (JobState.FAILED, error, None)
    assert store.dead_letter_count() == 1
    first, second = store.attempts(job.id)
    assert (first.cause, first.error, first.starts) == (Cause.ERROR, ERROR, 1)
    assert (second.cause, second.error, second.starts) == (Cause.WORKER_DIED, error, 2)
    assert (second.exit_status, second.signal) == (-9, "SIGKILL")


def test_an_error_without_a_start_is_kept_too(store: Store, enqueue: Enqueue, desk: Desk, now: Instant) -> None:
    job = enqueue()
    (claimed,) = desk.claim()
    desk.commit(ended(claimed, JobState.FAILED, Cause.LEASE_LOST, now, error=ERROR, run=None))
    assert (store.get(job.id).last_error, store.attempts(job.id)) == (ERROR, [])


def test_progress_is_kept_for_the_start_that_reported_it(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    job = enqueue()
    (claimed,) = desk.claim()
    report = Progress(job_id=job.id, starts=claimed.starts, data=b'{"done":1,"total":2}')
    desk.commit(progress=[report, Progress(job_id=job.id, starts=9, data=b'{"done":9}')])
    assert store.get(job.id).progress == {"done": 1, "total": 2}
    final = msgspec.structs.replace(report, data=b'{"done":2,"total":2}')
    desk.commit(completed(claimed, now), progress=[final])
    desk.commit(progress=[report])
    assert store.get(job.id).progress == {"done": 2, "total": 2}


# ---------------------------------------------------------------- fencing


def _unchanged(store: Store, job_id: int) -> tuple[object, ...]:
    return store.get(job_id), store.attempts(job_id), store.dead_letter_count()


def test_outcomes_of_a_wrong_start_write_nothing(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    enqueue()
    (old,) = desk.claim()
    desk.commit(released(old, now))
    (new,) = desk.claim()
    before = _unchanged(store, old.id)
    for stale in (completed(old, now), failed(old, now, result=b"1" * 2000), released(old, now)):
        assert desk.commit(stale).rejected == [(old.id, 1)]
        assert _unchanged(store, old.id) == before
    assert desk.commit(completed(new, now)).rejected == []


def test_outcomes_of_a_wrong_owner_write_nothing(
    store: Store, enqueue: Enqueue, new_desk: NewDesk, now: Instant
) -> None:
    desk, other = new_desk(), new_desk()
    enqueue()
    (claimed,) = desk.claim()
    before = _unchanged(store, claimed.id)
    for foreign in (completed(claimed, now), failed(claimed, now), released(claimed, now)):
        assert other.commit(foreign).rejected == [(claimed.id, 1)]
        assert _unchanged(store, claimed.id) == before


def test_outcomes_of_a_job_that_has_ended_write_nothing(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    enqueue()
    (claimed,) = desk.claim()
    desk.commit(completed(claimed, now))
    before = _unchanged(store, claimed.id)
    for late in (completed(claimed, now, result=b"2"), failed(claimed, now), retrying(claimed, now)):
        assert desk.commit(late).rejected == [(claimed.id, 1)]
        assert _unchanged(store, claimed.id) == before


def test_one_rejected_outcome_harms_no_other_of_the_same_turn(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    for _ in range(4):
        enqueue()
    first, stale, last = desk.claim(3)
    wrong = msgspec.structs.replace(failed(stale, now), starts=7)
    result = desk.commit(completed(first, now), wrong, wrong, failed(last, now), slots=5)
    assert result.rejected == [(stale.id, 7), (stale.id, 7)]
    assert len(result.claimed) == 1
    states = [store.state_of(each.id) for each in (first, stale, last)]
    assert states == [JobState.COMPLETED, JobState.RUNNING, JobState.FAILED]
    assert store.dead_letter_count() == 1


def test_one_outcome_given_twice_in_a_turn_counts_once(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    enqueue()
    (claimed,) = desk.claim()
    assert desk.commit(failed(claimed, now), failed(claimed, now)).rejected == [(claimed.id, 1)]
    assert (len(store.attempts(claimed.id)), store.dead_letter_count()) == (1, 1)


# ---------------------------------------------------------------- take-over


def test_take_over_records_the_outcomes_and_strikes_the_dead_off(
    store: Store, enqueue: Enqueue, new_desk: NewDesk, now: Instant
) -> None:
    dead, heir = new_desk(), new_desk()
    for _ in range(2):
        enqueue()
    first, second = dead.claim()
    (peer,) = heir.supervisor_store.peers(heir.owner).registered
    assert heir.supervisor_store.jobs_of(peer.id) == [first, second]
    assert heir.supervisor_store.take_over(peer, [released(first, now), failed(second, now)])
    assert heir.supervisor_store.peers(heir.owner).registered == []
    assert [store.state_of(each.id) for each in (first, second)] == [JobState.PENDING, JobState.FAILED]
    with pytest.raises(LeaseLostError):
        dead.commit(completed(first, now))
    assert not heir.supervisor_store.take_over(peer, []), "only one takes over"


def test_take_over_does_nothing_if_the_lease_was_renewed(
    store: Store, enqueue: Enqueue, new_desk: NewDesk, clock: FakeClock
) -> None:
    alive, heir = new_desk(), new_desk()
    enqueue()
    (claimed,) = alive.claim()
    (peer,) = heir.supervisor_store.peers(heir.owner).registered
    later = clock.advance(1)
    alive.supervisor_store.renew(alive.owner, TTL_US)
    assert not heir.supervisor_store.take_over(peer, [failed(claimed, later)])
    assert store.state_of(claimed.id) is JobState.RUNNING
    assert alive.commit(completed(claimed, later)).rejected == []


def test_take_over_does_nothing_if_a_job_was_claimed_since(
    store: Store, enqueue: Enqueue, new_desk: NewDesk, now: Instant
) -> None:
    alive, heir = new_desk(), new_desk()
    enqueue()
    (first,) = alive.claim()
    (peer,) = heir.supervisor_store.peers(heir.owner).registered
    enqueue()
    (second,) = alive.claim()
    assert not heir.supervisor_store.take_over(peer, [released(first, now)])
    assert store.state_of(first.id) is JobState.RUNNING
    assert heir.supervisor_store.take_over(peer, [released(first, now), released(second, now)])


def test_take_over_drops_the_outcome_of_a_job_that_has_ended_since(
    store: Store, enqueue: Enqueue, new_desk: NewDesk, now: Instant
) -> None:
    dying, heir = new_desk(), new_desk()
    enqueue()
    (claimed,) = dying.claim()
    (peer,) = heir.supervisor_store.peers(heir.owner).registered
    dying.commit(completed(claimed, now))
    assert heir.supervisor_store.take_over(peer, [failed(claimed, now)])
    assert (store.state_of(claimed.id), store.dead_letter_count()) == (JobState.COMPLETED, 0)


# ---------------------------------------------------------------- owners nobody knows


def _own(store: Store, value: str, job_id: int) -> None:
    """Write this into the row, past the store's face."""
    connection = store._sessions.current().connection  # type: ignore[attr-defined]
    connection.execute(f"UPDATE mpdispatch_jobs SET owner = {value} WHERE id = ?", (job_id,))


def test_owners_of_running_jobs_that_are_registered_are_known(enqueue: Enqueue, new_desk: NewDesk) -> None:
    one, other = new_desk(), new_desk()
    assert one.supervisor_store.peers(one.owner).unregistered == []
    enqueue()
    enqueue()
    one.claim(1)
    other.claim(1)
    assert one.supervisor_store.peers(one.owner).unregistered == []


@sqlite_only
@pytest.mark.parametrize(
    ("value", "owner"),
    [
        ("99", 99),
        ("-5", -5),
        ("9223372036854775807", 2**63 - 1),
        ("0", 0),
    ],
)
def test_jobs_of_an_owner_nobody_knows_are_taken_over_once(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant, value: str, owner: int
) -> None:
    for _ in range(4):
        enqueue()
    mine, *lost = desk.claim(3)
    for each in lost:
        _own(store, value, each.id)
    assert desk.supervisor_store.peers(desk.owner).unregistered == [owner]
    assert desk.supervisor_store.jobs_of(owner) == lost
    ends = [retrying(lost[0], now), failed(lost[1], now)]
    assert not desk.supervisor_store.take_over(owner, ends[:1]), "not all of them"
    assert desk.supervisor_store.take_over(owner, ends)
    assert [store.state_of(each.id) for each in lost] == [JobState.RETRYING, JobState.FAILED]
    assert store.dead_letter_count() == 1
    assert desk.supervisor_store.peers(desk.owner).unregistered == []
    assert not desk.supervisor_store.take_over(owner, ends), "only one takes over"
    assert desk.supervisor_store.jobs_of(desk.owner) == [mine]


def test_an_owner_that_is_registered_is_not_taken_for_one_nobody_knows(
    store: Store, enqueue: Enqueue, new_desk: NewDesk, now: Instant
) -> None:
    alive, heir = new_desk(), new_desk()
    enqueue()
    (claimed,) = alive.claim()
    assert not heir.supervisor_store.take_over(alive.owner, [failed(claimed, now)])
    assert store.state_of(claimed.id) is JobState.RUNNING


# ---------------------------------------------------------------- drain, wake


def test_outstanding_counts_what_a_drain_waits_for_and_then_what_it_leaves(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    wanted = request("default", "quiet", names=frozenset({"render"}))
    assert desk.supervisor_store.outstanding(wanted.queues) == (0, 0, 0, ({}, 0))
    enqueue()
    enqueue()
    first, second = desk.claim()
    desk.commit(retrying(first, now))
    enqueue(name="unknown")
    desk.claim(claim=wanted)
    for options in ({"queue": "quiet"}, {"queue": "other"}, {"run_at_us": now.wall_us + MINUTE_US}):
        enqueue(**options)
    due = enqueue()
    store.set_paused("quiet", True)
    assert desk.supervisor_store.outstanding(wanted.queues) == (1, 1, 1, None)
    store.cancel(first.id)
    store.cancel(due.id)
    assert desk.supervisor_store.outstanding(wanted.queues) == (0, 1, 0, None)
    desk.commit(completed(second, now))
    held = {"no handler 'unknown' in this engine; registered: render": 1, "queue 'quiet' is paused": 1}
    assert desk.supervisor_store.outstanding(wanted.queues) == (0, 0, 0, (held, 1))


def test_what_makes_work_wakes_the_supervisors(store: Store, enqueue: Enqueue, now: Instant) -> None:
    woken = Woken(store)
    job = enqueue(run_at_us=now.wall_us + MINUTE_US)
    assert woken.times() == 1
    for notify in (
        lambda: store.retry(job.id),
        lambda: store.cancel(job.id),
        lambda: store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b""), [b"{}"])),
        lambda: store.set_paused("default", False),
        store.wake,
    ):
        notify()
        assert woken.times() == 1
    store.set_paused("default", True)
    assert woken.times() == 0


def test_what_a_supervisor_gives_back_wakes_the_others(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant
) -> None:
    for _ in range(3):
        enqueue()
    first, second, third = desk.claim()
    woken = Woken(store)
    desk.commit(completed(first, now), retrying(second, now))
    assert woken.times() == 0, "nothing may be claimed yet that could not be before"
    desk.commit(released(third, now))
    assert woken.times() == 1


def test_what_is_taken_over_and_may_run_at_once_wakes_the_others(
    store: Store, enqueue: Enqueue, new_desk: NewDesk, now: Instant
) -> None:
    dead, rescuer = new_desk(), new_desk()
    enqueue()
    (job,) = dead.claim()
    (seen,) = [
        each for each in rescuer.supervisor_store.peers(rescuer.owner).registered if each.id == dead.owner
    ]
    woken = Woken(store)
    assert rescuer.supervisor_store.take_over(seen, [released(job, now)])
    assert woken.times() == 1


def test_who_waits_is_told_of_every_end(
    store: Store, enqueue: Enqueue, new_desk: NewDesk, now: Instant, clock: FakeClock
) -> None:
    desk, dead = new_desk(), new_desk()
    enqueue()
    woken = Woken(store)
    (job,) = desk.claim()
    assert woken.times_of_ends() == 0, "nothing has ended"
    desk.commit(completed(job, now))
    assert woken.times_of_ends() == 1
    store.cancel(enqueue().id)
    assert woken.times_of_ends() == 1
    enqueue()
    (job,) = dead.claim()
    assert woken.times_of_ends() == 0
    (seen,) = [each for each in desk.supervisor_store.peers(desk.owner).registered if each.id == dead.owner]
    assert desk.supervisor_store.take_over(seen, [failed(job, now)])
    assert woken.times_of_ends() == 1
    for by_claim in (False, True):
        late = enqueue(expires_us=1)
        clock.advance(1)
        if by_claim:
            desk.claim()
        else:
            assert desk.supervisor_store.upkeep.step(["default"]).expired == 1
        assert store.state_of(late.id) is JobState.CANCELLED
        assert woken.times_of_ends() == 1


def test_ends_are_read_for_many_jobs_at_once(
    store: Store, enqueue: Enqueue, desk: Desk, now: Instant, clock: FakeClock
) -> None:
    ids = store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b""), [b"{}"] * 25_000)).ids
    done, bad, *_ = desk.claim(slots=800)
    desk.commit(completed(done, now), failed(bad, now))
    store.cancel(ids[-1])
    states = {done.id: JobState.COMPLETED, bad.id: JobState.FAILED, ids[-1]: JobState.CANCELLED}
    assert store.ended(ids) == states
    assert store.ended([*ids, 0, ids[-1] + 1, 1 << 63, (1 << 63) + 1]) == {
        **states,
        **dict.fromkeys([0, ids[-1] + 1, 1 << 63, (1 << 63) + 1]),
    }
    assert store.ended([]) == {}


def test_caring_for_a_store_that_needs_nothing_changes_nothing(desk: Desk, enqueue: Enqueue) -> None:
    job, care = enqueue(), desk.supervisor_store.file_care
    care.verify()
    care.sync()
    care.checkpoint_if_large()
    assert care.blocker() is None
    assert [each.id for each in desk.claim()] == [job.id]


def test_a_turn_tells_which_jobs_were_cancelled_instead_of_run_again(
    desk: Desk, enqueue: Callable[..., Job], clock: FakeClock
) -> None:
    asked, other, done = (enqueue().id for _ in range(3))
    jobs = {job.id: job for job in desk.claim()}
    now = clock.now()
    for job_id in (asked, done):
        desk.store.cancel(job_id)
    result = desk.commit(retrying(jobs[asked], now), retrying(jobs[other], now), completed(jobs[done], now))
    assert list(result.cancelled) == [(asked, 1)]
    assert [desk.store.get(job_id).state for job_id in (asked, other, done)] == [
        JobState.CANCELLED,
        JobState.RETRYING,
        JobState.COMPLETED,
    ]
