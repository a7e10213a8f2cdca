"""Jobs that wait for others, with real processes: chains, many parents and dependents, supervisors that are killed."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise

from tests.whole.harness import Place, until


def times_of(place: Place) -> tuple[dict[int, int], dict[int, int]]:
    """When each job started first, and when its handler was last over."""
    starts, ends = dict[int, int](), dict[int, int]()
    for what, job_id, _, _, at in place.records:
        if what == "start":
            starts.setdefault(job_id, at)
        else:
            ends[job_id] = at
    return starts, ends


def test_a_chain_of_fifty_runs_link_by_link_and_hands_results_on(place: Place) -> None:
    place.supervising("-c", "2")
    join = place.app.join
    links = [join.enqueue().id]
    for _ in range(49):
        links.append(join.options(after=links[-1]).enqueue().id)
    assert place.complete(links[-1]).result == 50
    starts, ends = times_of(place)
    gaps = sorted((starts[later] - ends[earlier]) / 1e6 for earlier, later in pairwise(links[5:]))
    assert gaps[0] > 0
    print(f"from link to link: {gaps[len(gaps) // 2]:.1f} ms, at most {gaps[-1]:.1f} ms")
    assert gaps[len(gaps) // 2] < 100, "released by the commit that ends the parent, not by a poll"


def test_a_dependent_in_a_queue_of_another_supervisor_starts_at_once(place: Place) -> None:
    for queue in ("one", "two"):
        place.supervise("-c", "1", "-q", queue, poll_interval=30)
        place.complete(place.app.plain.options(queue=queue).enqueue().id)
    gaps = []
    for _ in range(5):
        parent = place.app.join.options(queue="one").enqueue(0.05)
        child = place.app.join.options(queue="two", after=parent).enqueue()
        assert place.complete(child.id).result == 2
        starts, ends = times_of(place)
        gaps.append((starts[child.id] - ends[parent.id]) / 1e6)
    print("from queue to queue after", ", ".join(f"{gap:.0f}" for gap in gaps), "ms")
    assert sorted(gaps)[2] < 500


def test_ten_thousand_parents(place: Place) -> None:
    parents = place.app.plain.enqueue_many({"n": 1} for _ in range(10_000))
    began = time.perf_counter()
    last = place.app.join.options(after=parents, priority=9).enqueue()
    took = time.perf_counter() - began
    assert last.blocked_reason == "waiting for 10000 jobs"
    began = time.perf_counter()
    assert place.drain("-c", "2") == 0
    print(f"enqueued in {took * 1000:.0f} ms, drained in {time.perf_counter() - began:.2f} s")
    assert took < 3
    job = place.job(last.id)
    assert (str(job.state), job.result) == ("completed", 10_001)
    assert job.started_at >= max(place.job(each).completed_at for each in (*parents,)[-300:])


def test_ten_thousand_dependents_of_one_job(place: Place) -> None:
    parent = place.app.join.enqueue()
    dependents = place.app.plain.options(after=parent).enqueue_many({"n": n} for n in range(10_000))
    assert (
        place.json("explain", str((*dependents,)[-1]))["reasons"][0]["text"]
        == "it waits for 1 job: 1 (pending)"
    )
    assert place.drain("-c", "2") == 0
    assert place.counts()["completed"] == 10_001
    gone = place.app.join.enqueue(gives_up=True)
    more = place.app.plain.options(after=gone).enqueue_many({"n": n} for n in range(10_000))
    assert place.drain("-c", "2") == 0
    assert (place.counts()["cancelled"], str(place.job((*more,)[0]).state)) == (10_001, "cancelled")
    place.assert_sound()


def test_a_released_job_keeps_its_priority_and_its_place(place: Place) -> None:
    """Made before the others, it comes before those of its priority, though it is due after them."""
    app, dice = place.app, random.Random(7)
    parent = app.quick.options(priority=10).enqueue()
    made = [
        (
            priority,
            app.quick.options(priority=priority, after=parent if dice.random() < 0.5 else None).enqueue().id,
        )
        for priority in (dice.randrange(3) for _ in range(60))
    ]
    assert place.drain("-c", "1") == 0
    order = [row[1] for row in place.records if row[0] == "start"]
    assert order == [
        parent.id,
        *(job_id for priority, job_id in sorted(made, key=lambda each: (-each[0], each[1]))),
    ]


# ---------------------------------------------------------------- supervisors are killed


def enqueue_graph(
    place: Place, dice: random.Random, size: int
) -> tuple[dict[int, list[int]], dict[int, str], dict[int, str]]:
    """Jobs that wait for up to four of the forty before them: the parents, the policy and the outcome of each."""
    parents, policies, outcomes = dict[int, list[int]](), dict[int, str](), dict[int, str]()
    for _ in range(size):
        chosen = sorted(dice.sample([*parents][-40:], min(len(parents), dice.choice([0, 1, 1, 2, 4]))))
        policy = dice.choice(["cancel", "run", "run", "wait"])
        gives_up = dice.random() < 0.08
        door = place.app.join.options(after=chosen, on_parent_failure=policy)
        job = door.enqueue(dice.choice([0.0, 0.005, 0.03]), gives_up=gives_up)
        parents[job.id], policies[job.id] = chosen, policy
        outcomes[job.id] = "cancelled" if gives_up else "completed"
    return parents, policies, outcomes


def expected(
    parents: Mapping[int, Sequence[int]], policies: Mapping[int, str], outcomes: Mapping[int, str]
) -> dict[int, str]:
    """How each job ends, or `pending` if it waits for ever."""
    found = dict[int, str]()
    for job_id, waits_for in parents.items():
        states = {found[each] for each in waits_for}
        if policies[job_id] == "cancel" and "cancelled" in states:
            found[job_id] = "cancelled"
        elif "pending" in states or (policies[job_id] == "wait" and "cancelled" in states):
            found[job_id] = "pending"
        else:
            found[job_id] = outcomes[job_id]
    return found


def test_a_graph_comes_out_right_though_its_supervisors_are_killed(place: Place) -> None:
    dice = random.Random(1313)
    parents, policies, outcomes = enqueue_graph(place, dice, 400)
    wanted = expected(parents, policies, outcomes)
    assert set(wanted.values()) == {"completed", "cancelled", "pending"}
    for _ in range(6):
        two = [place.supervise("-c", "2") for _ in range(2)]
        done = place.counts()["completed"]
        until(lambda done=done: place.counts()["completed"] >= done + 25, "they make headway")  # type: ignore[misc]
        for each in two:
            each.kill()
            time.sleep(dice.random() * 0.1)
        for each in two:
            each.popen.wait()
    assert place.drain("-c", "2") == 0
    assert {job_id: str(place.job(job_id).state) for job_id in parents} == wanted
    starts, ends = times_of(place)
    for job_id, waits_for in parents.items():
        job = place.job(job_id)
        assert (job_id in starts) is (job.starts > 0)
        if job.starts:
            assert all(ends.get(each, 0) < starts[job_id] for each in waits_for), job_id
        if wanted[job_id] == "completed":
            results = [place.job(each).result for each in waits_for]
            assert job.result == 1 + sum(result for result in results if result is not None)
    # Nothing is left of those that have ended: only the jobs that wait for ever are waited with.
    waiting = [job_id for job_id, state in wanted.items() if state == "pending"]
    assert place.sql("SELECT job_id FROM mpdispatch_dependents ORDER BY 1") == [[each] for each in waiting]
    place.assert_sound()
    assert place.left_over() == []
