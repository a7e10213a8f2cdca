"""What users do with jobs: cancel, retry, pause, keys, transactions, names nobody knows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.whole.harness import CLI, Place, is_alive, until

# ---------------------------------------------------------------------- cancel


def test_a_scheduled_and_a_pending_job_are_cancelled_at_once(place: Place) -> None:
    later = place.app.quick.options(delay=3600).enqueue().id
    now = place.app.quick.enqueue().id
    assert place.cli("cancel", str(later), str(now), "--store", "jobs.db").returncode == 0
    assert [str(place.job(i).state) for i in (later, now)] == ["cancelled"] * 2
    assert place.drain("-c", "1") == 0
    assert place.records == []
    assert place.show(now)["attempts"] == []


def test_a_running_job_is_cancelled_and_its_worker_goes_on(place: Place) -> None:
    place.supervising("-c", "1")
    job_id = place.app.until_file.enqueue("never").id
    pid = place.started(job_id)[3]
    place.app.engine.cancel(job_id)
    place.ended(job_id, "cancelled", within=3)
    nxt = place.app.quick.enqueue().id
    place.complete(nxt)
    assert place.started(nxt)[3] == pid
    assert len(place.starts_of(job_id)) == 1


def test_a_running_job_that_ignores_the_cancel_is_killed(place: Place) -> None:
    place.supervising("-c", "1", cancel_grace=0.5)
    job_id = place.app.ignore_everything.options(max_retries=5).enqueue().id
    pid = place.started(job_id)[3]
    place.app.engine.cancel(job_id)
    place.ended(job_id, "cancelled", within=5)
    assert not is_alive(pid)
    assert len(place.starts_of(job_id)) == 1


def test_a_job_waiting_in_a_workers_hands_is_cancelled_without_a_start(place: Place) -> None:
    place.supervising("-c", "1", prefetch_window=0.5)
    for job_id in place.app.once.enqueue_many({"s": 0} for _ in range(200)):
        place.complete(job_id)
    stuck, *rest = place.app.once.enqueue_many([{"s": 2}, *({"s": 0} for _ in range(30))])
    place.started(stuck)
    until(lambda: place.counts()["running"] > 5, "some are claimed behind it")
    place.app.engine.cancel(rest[0])
    place.ended(rest[0], "cancelled", within=3)
    assert place.starts_of(rest[0]) == []
    assert place.complete(rest[-1]).starts >= 1


def test_an_ended_job_cannot_be_cancelled(place: Place) -> None:
    job_id = place.app.plain.enqueue().id
    assert place.drain("-c", "1") == 0
    done = place.cli("cancel", str(job_id), "--store", "jobs.db")
    assert done.returncode not in (0, 70)
    assert "completed" in done.stderr
    assert str(place.job(job_id).state) == "completed"


# ---------------------------------------------------------------------- retry


def test_a_failing_job_is_tried_as_often_as_it_may(place: Place) -> None:
    job_id = place.app.fail.enqueue("no luck").id
    assert place.drain("-c", "1") == 1
    job = place.show(job_id)
    assert (job["state"], job["attempt"], len(job["attempts"])) == ("failed", 3, 3)
    assert job["last_error"]["message"] == "no luck"
    assert len(place.starts_of(job_id)) == 3


def test_a_job_that_succeeds_in_the_end_has_completed(place: Place) -> None:
    job_id = place.app.fail_until.enqueue(3).id
    assert place.drain("-c", "1") == 0
    assert [a["cause"] for a in place.show(job_id)["attempts"]] == ["error", "error", "completed"]
    assert place.job(job_id).result == 3


def test_retry_snooze_and_cancel_may_be_raised(place: Place) -> None:
    again, sleepy, unwanted = (
        place.app.raise_retry.enqueue().id,
        place.app.snooze_once.enqueue().id,
        place.app.raise_cancel.enqueue().id,
    )
    place.supervise("-c", "1")
    assert place.complete(again).result == "retried"
    snoozed = place.complete(sleepy)
    assert (snoozed.result, snoozed.starts) == (1, 2), "a snooze spends no attempt"
    place.ended(unwanted, "cancelled")
    assert len(place.starts_of(unwanted)) == 1
    assert "not needed" in str(place.job(unwanted).last_error)


def test_retrying_a_failed_job_makes_a_new_one_and_leaves_the_old(place: Place) -> None:
    old = place.app.fail.options(max_retries=0).enqueue("no").id
    assert place.drain("-c", "1") == 1
    before = place.show(old)
    new = place.app.engine.retry(old)
    assert new.id != old
    assert new.retried_from == old
    assert (new.attempt, new.payload) == (0, {"text": "no"})
    assert place.show(old) == {**before, "retried_as": new.id}


def test_retrying_a_scheduled_job_runs_it_now(place: Place) -> None:
    job_id = place.app.quick.options(delay=3600).enqueue(n=3).id
    assert place.app.engine.retry(job_id).id == job_id
    assert place.drain("-c", "1") == 0
    assert place.job(job_id).result == 3


def test_a_completed_job_cannot_be_retried(place: Place) -> None:
    from mpdispatch import InvalidStateError

    job_id = place.app.plain.enqueue().id
    assert place.drain("-c", "1") == 0
    with pytest.raises(InvalidStateError):
        place.app.engine.retry(job_id)


# ---------------------------------------------------------------------- queues


def test_a_paused_queue_is_not_claimed_from_until_it_is_resumed(place: Place) -> None:
    place.supervising("-c", "1", "-q", "default,bulk")
    assert place.cli("pause", "bulk", "--store", "jobs.db").returncode == 0
    held = place.app.quick.options(queue="bulk").enqueue().id
    place.complete(place.app.quick.enqueue().id)
    assert str(place.job(held).state) == "pending"
    assert place.cli("resume", "bulk", "--store", "jobs.db").returncode == 0
    place.complete(held, within=2)


def test_names_nobody_knows_are_parked_and_run_by_who_knows_them(place: Place) -> None:
    done = place.cli("enqueue", "novel", "n:=4", "--store", "jobs.db")
    job_id = int(done.stdout)
    drain = place.supervise("--drain")
    assert drain.ended() == 0
    assert "parked" in drain.out
    assert "novel" in drain.out + drain.err
    job = place.job(job_id)
    assert (str(job.state), job.starts, job.attempt) == ("pending", 0, 0)
    assert "novel" in job.blocked_reason
    tasks = place.folder / "tasks.py"
    tasks.write_text(tasks.read_text() + "\n\n@engine.job()\ndef novel(n: int) -> int:\n    return n * n\n")
    assert place.drain() == 0
    job = place.job(job_id)
    assert (job.result, job.blocked_reason) == (16, None)


def test_a_supervisor_leaves_queues_it_does_not_poll_alone(place: Place) -> None:
    other = place.app.quick.options(queue="other").enqueue().id
    assert place.drain("-c", "1") == 0
    assert str(place.job(other).state) == "pending"


# ---------------------------------------------------------------------- enqueueing


def test_sixteen_enqueuers_with_one_key_make_one_job(place: Place) -> None:
    argv = [*CLI, "enqueue", "quick", "--idempotency-key", "k", "--store", "jobs.db"]
    writers = [place.start(argv) for _ in range(16)]
    assert [each.ended(60) for each in writers] == [0] * 16, [each.err for each in writers]
    assert len({each.out for each in writers}) == 1
    assert sum(place.counts().values()) == 1
    with ThreadPoolExecutor(16) as threads:
        handle = place.app.quick.options(idempotency_key="t")
        jobs = list(threads.map(lambda n: handle.enqueue(n=n), range(64)))
    assert len({job.id for job in jobs}) == 1
    assert sum(job.created for job in jobs) == 1
    assert place.drain("-c", "2") == 0
    assert len([row for row in place.records if row[0] == "start"]) == 2


CONNECTION = """
import sqlite3, sys, tasks
tasks.plain.enqueue()  # there is a store
own = sqlite3.connect("jobs.db")
own.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
own.commit()
for end in (own.rollback, own.commit):
    own.execute("BEGIN IMMEDIATE")
    own.execute("INSERT INTO orders VALUES (NULL)")
    job = tasks.quick.options(connection=own).enqueue(n=5)
    assert own.in_transaction
    end()
tasks.engine.wake()
print(own.execute("SELECT count(*) FROM orders").fetchone()[0], job.id)
"""


def test_an_enqueue_in_the_callers_transaction_shares_its_fate(place: Place) -> None:
    place.supervising("-c", "1")
    done = place.python(CONNECTION)
    assert done.returncode == 0, done.stderr
    orders, job_id = map(int, done.stdout.split())
    assert orders == 1
    assert place.complete(job_id, within=3).result == 5
    assert len([job for job in place.json("jobs", "--all") if job["name"] == "quick"]) == 1


def test_an_enqueue_on_a_connection_to_another_file_is_refused(place: Place) -> None:
    code = """
import sqlite3, tasks
other = sqlite3.connect("other.db")
other.execute("BEGIN")
tasks.quick.options(connection=other).enqueue()
"""
    done = place.python(code)
    assert done.returncode == 1
    assert "mpdispatch.errors." in done.stderr.splitlines()[-1]
    assert not place.db.exists() or sum(place.counts().values()) == 0


def test_a_handler_may_enqueue(place: Place) -> None:
    job_id = place.app.enqueue_more.enqueue(5).id
    assert place.drain("-c", "2") == 0
    assert [place.job(i).result for i in place.job(job_id).result] == [0, 1, 2, 3, 4]


def test_wait_gives_the_result_or_the_error(place: Place) -> None:
    from mpdispatch import JobFailedError, WaitTimeoutError

    place.supervising("-c", "1")
    engine = place.app.engine
    assert engine.wait(place.app.plain.enqueue(n=3).id, timeout=10).result == 3
    with pytest.raises(JobFailedError, match="told you"):
        engine.wait(place.app.fail.options(max_retries=0).enqueue("told you").id, timeout=10)
    with pytest.raises(WaitTimeoutError):
        engine.wait(place.app.plain.options(delay=60).enqueue().id, timeout=0.2)


def test_the_command_line_waits_and_tells(place: Place) -> None:
    place.supervising("-c", "1")
    fine = place.cli("enqueue", "plain", "n:=3", "--wait", "--store", "jobs.db")
    assert (fine.returncode, fine.stdout.split()[-2:]) == (0, ["completed", "3"])
    bad = place.cli("enqueue", "fail", "--max-retries", "0", "--wait", "--store", "jobs.db")
    assert bad.returncode == 1
    assert "failed" in bad.stdout
