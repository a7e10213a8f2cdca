"""One process on a store, to be killed at a failpoint: `python crash_child.py STORE SCENARIO`.

Prints a line for everything it was told is done; what it printed must be in the store afterwards.
"""

from __future__ import annotations

import sys

import msgspec

from mpdispatch import failpoints
from mpdispatch.clock import SystemClock
from mpdispatch.model import (
    AlikeJobs,
    Cause,
    ClaimedJob,
    CronDecision,
    CronSpec,
    ErrorInfo,
    Firing,
    JobState,
    NewCron,
    NewJob,
    NewSupervisor,
    Run,
    Transition,
)
from mpdispatch.store import open_store

from .requests import request

CLOCK = SystemClock()
BIG = msgspec.json.encode("x" * 5000)
SWEEP = NewJob(name="sweep", payload=b'{"t":' + BIG + b"}", queue="other")


def say(*words: object) -> None:
    print(*words, flush=True)


def register(supervisor_store: object) -> int:
    who = NewSupervisor(
        host="h",
        machine_id="m",
        boot_id="b",
        pid=1,
        pid_start=1,
        pid_namespace="n",
        queues=("default",),
        concurrency=1,
        app="a",
        version="0",
    )
    return supervisor_store.register(who, 1)  # type: ignore[attr-defined]


def outcome(job: ClaimedJob, state: JobState) -> Transition:
    at_us = CLOCK.now().wall_us
    is_failed = state is JobState.FAILED
    return Transition(
        job_id=job.id,
        starts=job.starts,
        state=state,
        attempt=job.attempt,
        cause=Cause.ERROR if is_failed else Cause.COMPLETED,
        at_us=at_us,
        result=None if is_failed else BIG,
        error=ErrorInfo(type="E", message="m") if is_failed else None,
        run=Run(started_us=at_us),
        claim_attempt=job.attempt,
    )


def main() -> None:
    store = open_store(sys.argv[1])
    point = sys.argv[2]
    store.check(create=True)
    say("migrated")
    supervisor_store = store.supervisor_store()
    owner = register(supervisor_store)
    for round_ in range(3):
        if round_ == 1:
            failpoints.arm(f"{point}:kill")
        for n in range(2):
            job = store.enqueue(NewJob(name="a", payload=b'{"n":%d}' % n))
            say("enqueued", job.id)
        batch = store.enqueue_many(AlikeJobs(NewJob(name="a", payload=b""), [b'{"t":' + BIG + b"}"] * 3)).ids
        say("enqueued", *batch)
        result = supervisor_store.commit(owner, [], claim=request(slots=4))
        say("claimed", *[job.id for job in result.claimed])
        first, second, third, _ = result.claimed
        ended = [
            outcome(first, JobState.COMPLETED),
            outcome(second, JobState.FAILED),
            outcome(third, JobState.COMPLETED),
        ]
        supervisor_store.commit(owner, ended, claim=request(slots=1))
        say("ended", first.id, second.id, third.id)
        say("retried", store.retry(second.id).id)
        cancelled = store.enqueue(NewJob(name="b", payload=b"{}", queue="other"))
        store.cancel(cancelled.id)
        say("cancelled", cancelled.id)
        crons = supervisor_store.crons
        spec = CronSpec(name=f"sweep {round_}", schedule="@hourly", tz="UTC", job=SWEEP)
        (entry,) = crons.add(NewCron(spec=spec, origin="user", decided_until_us=0, next_slot_us=1))
        say("added", entry.id)
        fires = [Firing(slot_us, slot_us) for slot_us in (1, 2)]
        decision = CronDecision(
            cron_id=entry.id, revision=entry.revision, fires=fires, decided_until_us=2, next_slot_us=3
        )
        fired = crons.decide(decision)
        assert fired is not None
        say("enqueued", *[job.id for job in fired])
        say("enqueued", *[job.id for job in store.crons.fire(spec.name, [*fires, Firing(9, 9)])])
        supervisor_store.renew(owner, 2)
        heir = store.supervisor_store()
        heir_id = register(heir)
        (dead,) = [peer for peer in heir.peers(heir_id).registered if peer.id == owner]
        left = [outcome(job, JobState.COMPLETED) for job in heir.jobs_of(owner)]
        assert heir.take_over(dead, left)
        say("ended", *[each.job_id for each in left])
        supervisor_store.close()
        supervisor_store, owner = heir, heir_id
    say("survived")


if __name__ == "__main__":
    main()
