"""Eight claimers at once see what they could have seen one after the other, whatever the kind of the store."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpdispatch.errors import InvalidStateError, StoreBusy
from mpdispatch.model import Cause, ClaimedJob, ClaimRequest, JobState, NewJob, NewSupervisor, Run, Transition
from mpdispatch.store.contract import Store
from mpdispatch.store.values import NO_REPORTS
from tests.clock import FakeClock
from tests.kinds import StoreKind

from .linearizable import Cancelled, Enqueued, Operation, Outcome, Queue, Turn, after, order_of

CLAIMERS = 8
TURNS = 40
JOBS = 60
"""Each client enqueues as many: one before the claimers begin, two beside them."""


class History:
    """What all threads did, with the times. What raises StoreBusy did nothing, and is done again."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def of(self, act: Callable[[], Any], call_of: Callable[[Any], Any]) -> Any:
        while True:
            began = time.perf_counter_ns()
            time.sleep(0)  # it is another thread's turn: else a quick call is over before anybody else begins
            try:
                answer = act()
            except StoreBusy:
                continue
            ended = time.perf_counter_ns()
            self.operations.append(Operation(began, ended, call_of(answer)))
            return answer


def outcome_of(job: ClaimedJob, now_us: int, *, is_released: bool) -> Transition:
    return Transition(
        job_id=job.id,
        starts=job.starts,
        state=JobState.PENDING if is_released else JobState.COMPLETED,
        attempt=job.attempt - is_released,
        cause=Cause.RELEASED if is_released else Cause.COMPLETED,
        at_us=now_us,
        result=None if is_released else b"1",
        run=None
        if is_released
        else Run(started_us=now_us, duration_us=1, worker_pid=1, cpu_us=1, max_rss_bytes=1),
        claim_attempt=job.attempt,
    )


def claim_and_finish(store: Store, number: int, clock: FakeClock, history: History) -> None:
    chance, us = random.Random(number), store.supervisor_store()
    who = NewSupervisor(
        host="here",
        machine_id="m",
        boot_id="b",
        pid=number,
        pid_start=number,
        pid_namespace="n",
        queues=("default",),
        concurrency=4,
        app="",
        version="0",
    )
    try:
        owner = _patiently(lambda: us.register(who, 10**12))
        held: list[ClaimedJob] = []
        for turn in range(TURNS):
            ending = [job for job in held if chance.random() < 0.7]
            outcomes = tuple(
                # Once is enough: each job is to come to an end.
                Outcome(job.id, job.starts, job.starts == 1 and chance.random() < 0.4)
                for job in ending
            )
            now_us = clock.now().wall_us
            transitions = [
                outcome_of(job, now_us, is_released=each.is_released)
                for job, each in zip(ending, outcomes, strict=True)
            ]
            slots = chance.randint(0, 3) if turn < TURNS - 1 else 0
            claim = ClaimRequest(queues=("default",), slots=slots)

            def commit(transitions: Any = transitions, claim: Any = claim) -> Any:
                return us.commit(owner, transitions, NO_REPORTS, claim=claim if claim.slots else None)

            def turn_of(result: Any, outcomes: Any = outcomes, slots: int = slots) -> Turn:
                assert list(result.rejected) == []
                return Turn(owner, outcomes, slots, tuple((job.id, job.starts) for job in result.claimed))

            result = history.of(commit, turn_of)
            held = [job for job in held if job not in ending] + list(result.claimed)
    finally:
        us.close()
        store.close()


def enqueue_and_cancel(store: Store, number: int, history: History) -> None:
    chance = random.Random(-number)
    for _ in range(JOBS):
        new = NewJob(name="a", payload=b"{}", priority=chance.randint(0, 3))
        job = history.of(
            lambda new=new: store.enqueue(new), lambda job, new=new: Enqueued(job.id, new.priority)
        )
        if chance.random() < 0.3:

            def cancel(job_id: int = chance.randint(1, job.id)) -> Cancelled:
                try:
                    return Cancelled(job_id, store.cancel(job_id).state.value)
                except InvalidStateError:
                    return Cancelled(job_id, "refused")

            history.of(cancel, lambda call: call)
    store.close()


def _patiently(act: Callable[[], int]) -> int:
    while True:
        try:
            return act()
        except StoreBusy:
            continue


def together(*works: Callable[[], None]) -> None:
    """Run them in threads that begin at the same time; raises what one of them raised."""
    barrier, errors = threading.Barrier(len(works)), list[BaseException]()

    def run(work: Callable[[], None]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_eight_claimers_at_once_see_one_order(store_kind: StoreKind) -> None:
    clock, history = FakeClock(), History()
    store = store_kind.make(clock)
    enqueue_and_cancel(store, 3, history)
    together(
        *(
            lambda number=number: claim_and_finish(store_kind.again(store, clock), number, clock, history)
            for number in range(CLAIMERS)
        ),
        *(
            lambda number=number: enqueue_and_cancel(store_kind.again(store, clock), number, history)
            for number in (1, 2)
        ),
    )
    operations = sorted(history.operations, key=lambda each: each.began)
    turns = [each.call for each in operations if isinstance(each.call, Turn)]
    starts = [start for turn in turns for start in turn.claimed]
    assert len(starts) == len(set(starts)) > JOBS, "no start was given twice, and there were many"
    ends = list(accumulate((each.ended for each in operations), max))
    overlapping = sum(each.began < end for each, end in zip(operations[1:], ends, strict=False))
    assert overlapping > len(operations) / 10, "they did not work at the same time"
    assert order_of(operations) is not None


# ---------------------------------------------------------------- the check itself


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    """What happens one after the other, but each operation may have begun long before its moment, and ended long after."""
    queue, ids, operations = Queue(), 0, list[Operation]()
    for moment in range(0, 10 * draw(st.integers(1, 14)), 10):
        owner = draw(st.integers(1, 3))
        mine = [(job_id, starts) for job_id, starts, held in queue.running if held.owner == owner]
        kind = draw(st.sampled_from(["enqueue", "turn", "turn", "cancel"]))
        call: Enqueued | Cancelled | Turn
        if kind == "enqueue":
            ids += 1
            call = Enqueued(ids, draw(st.integers(0, 2)))
        elif kind == "cancel":
            job_id = draw(st.integers(1, ids + 1))
            answers = ["cancelled", "running", "refused"]
            call = next(
                each for answer in answers if after(queue, each := Cancelled(job_id, answer)) is not None
            )
        else:
            outcomes = tuple(Outcome(*each, draw(st.booleans())) for each in mine if draw(st.booleans()))
            slots = draw(st.integers(0, 3))
            ended = after(queue, Turn(owner, outcomes, 0, ()))
            assert ended is not None
            first = sorted(ended.waiting)[:slots]
            call = Turn(owner, outcomes, slots, tuple((job_id, starts + 1) for _, job_id, starts in first))
        then = after(queue, call)
        assert then is not None
        queue = then
        began, ended_at = moment - draw(st.integers(0, 35)), moment + draw(st.integers(0, 35))
        operations.append(Operation(began, ended_at, call))
    return draw(st.permutations(operations))


@given(histories())
def test_what_happened_one_after_the_other_has_an_order(history: list[Operation]) -> None:
    order = order_of(history)
    assert order is not None
    assert sorted(order) == list(range(len(history)))
    queue: Queue | None = Queue()
    for place in order:
        assert queue is not None
        queue = after(queue, history[place].call)
    assert queue is not None
    for at, place in enumerate(order):
        assert all(history[place].began <= history[later].ended for later in order[at:])


TWO = [Operation(0, 1, Enqueued(1, 0)), Operation(2, 3, Enqueued(2, 5))]
IMPOSSIBLE = {
    "a job is given to two": [
        Operation(4, 9, Turn(7, (), 1, ((2, 1),))),
        Operation(5, 8, Turn(8, (), 1, ((2, 1),))),
    ],
    "the second is given before the first": [Operation(4, 9, Turn(7, (), 1, ((1, 1),)))],
    "nothing is given while there is something": [Operation(4, 9, Turn(7, (), 1, ()))],
    "more is given than asked for": [Operation(4, 9, Turn(7, (), 1, ((2, 1), (1, 1))))],
    "a job that has completed is given again": [
        Operation(4, 5, Turn(7, (), 1, ((2, 1),))),
        Operation(6, 7, Turn(7, (Outcome(2, 1, False),), 0, ())),
        Operation(8, 9, Turn(8, (), 1, ((2, 2),))),
    ],
    "a job that was given back is lost": [
        Operation(4, 5, Turn(7, (), 1, ((2, 1),))),
        Operation(6, 7, Turn(7, (Outcome(2, 1, True),), 0, ())),
        Operation(8, 9, Turn(8, (), 1, ((1, 1),))),
    ],
    "an outcome of somebody else is taken": [
        Operation(4, 5, Turn(7, (), 1, ((2, 1),))),
        Operation(6, 7, Turn(8, (Outcome(2, 1, False),), 0, ())),
    ],
    "an outcome is taken twice": [
        Operation(4, 5, Turn(7, (), 1, ((2, 1),))),
        Operation(6, 7, Turn(7, (Outcome(2, 1, False),), 0, ())),
        Operation(8, 9, Turn(7, (Outcome(2, 1, False),), 0, ())),
    ],
    "a start is counted twice": [Operation(4, 5, Turn(7, (), 1, ((2, 2),)))],
    "a cancelled job is given": [
        Operation(4, 5, Cancelled(2, "cancelled")),
        Operation(6, 7, Turn(7, (), 1, ((2, 1),))),
    ],
    "a job that was to end runs again": [
        Operation(4, 5, Turn(7, (), 1, ((2, 1),))),
        Operation(6, 7, Cancelled(2, "running")),
        Operation(8, 9, Turn(7, (Outcome(2, 1, True),), 1, ((2, 2),))),
    ],
    "a waiting job is said to run": [Operation(4, 5, Cancelled(2, "running"))],
    "a waiting job is said to have ended": [Operation(4, 5, Cancelled(2, "refused"))],
    "a job is claimed before it was enqueued": [
        Operation(4, 5, Turn(7, (), 3, ((3, 1), (2, 1), (1, 1)))),
        Operation(6, 7, Enqueued(3, 9)),
    ],
}


@pytest.mark.parametrize("then", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_history_has_no_order(then: list[Operation]) -> None:
    assert order_of([*TWO, *then]) is None


def test_what_overlaps_may_have_happened_in_any_order() -> None:
    late = Operation(4, 20, Enqueued(3, 9))
    assert order_of([*TWO, Operation(5, 6, Turn(7, (), 1, ((3, 1),))), late]) is not None
    assert order_of([*TWO, Operation(5, 6, Turn(7, (), 1, ((2, 1),))), late]) is not None


def test_a_store_that_claims_without_a_lock_is_found_out() -> None:
    """The rows are chosen before the lock and taken after it, as a store does that forgets to look again."""
    queue, lock, history = {1: 0, 2: 0}, threading.Lock(), History()
    together_now = threading.Barrier(2)

    def claim(owner: int) -> None:
        def act() -> tuple[tuple[int, int], ...]:
            first = min(queue)
            together_now.wait()
            with lock:
                queue.pop(first, None)
            return ((first, 1),)

        history.of(act, lambda claimed: Turn(owner, (), 1, claimed))

    together(lambda: claim(7), lambda: claim(8))
    made = [Operation(-2, -1, Enqueued(1, 0)), Operation(-2, -1, Enqueued(2, 0))]
    assert order_of([*made, *history.operations]) is None
