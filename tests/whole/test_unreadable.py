"""Rows that somebody has written by hand: a real supervisor runs the others, ends those, and every command can look."""

from __future__ import annotations

import signal

import pytest

from tests.whole.harness import Place

BAD_TEXT = "CAST(x'ff' AS TEXT)"
ODD = {
    "name": BAD_TEXT,
    "idempotency_key": BAD_TEXT,
    "trace_context": BAD_TEXT,
    "attempt": "7",
    "completed_at_us": "17",
}


def tamper(place: Place, *statements: str) -> None:
    place.sql("PRAGMA ignore_check_constraints = 1", *statements, "SELECT 1")


@pytest.mark.parametrize("column", ODD)
def test_a_drain_runs_the_others_and_ends_the_one_that_cannot_be_read(place: Place, column: str) -> None:
    ids = [place.app.quick.enqueue(n=n).id for n in range(5)]
    bad = ids[2]
    tamper(place, f"UPDATE mpdispatch_jobs SET {column} = {ODD[column]} WHERE id = {bad}")
    supervisor = place.supervise("--drain", "-c", "2")
    assert supervisor.ended() == 1
    assert "Traceback" not in supervisor.err
    assert supervisor.err.count(f"UnreadableJob: job {bad}: column {column} holds ") == 1
    assert [place.job(each).result for each in ids if each != bad] == [0, 1, 3, 4]
    assert place.job(bad).state == "failed"
    assert place.json("dlq", "list")[0]["job_id"] == bad
    assert place.drain() == 0
    place.assert_sound()


def test_a_supervisor_that_runs_goes_on_when_rows_are_changed_under_it(place: Place) -> None:
    supervisor = place.supervising("-c", "1", heartbeat_interval=0.3, stale_job_threshold=30)
    held = place.app.until_file.options(max_retries=0).enqueue("go").id
    place.started(held)
    later = place.app.quick.options(delay=0.5).enqueue(n=7).id
    tamper(
        place,
        f"UPDATE mpdispatch_jobs SET trace_context = {BAD_TEXT} WHERE id = {held}",
        f"UPDATE mpdispatch_jobs SET name = {BAD_TEXT} WHERE id = {later}",
        "INSERT INTO mpdispatch_attempt_rows (job_id, starts, attempt, cause, started_at_us, finished_at_us)"
        f" VALUES ({held}, 1, 1, 'error', 1, 2)",
    )
    assert place.ended(later).state == "failed"
    (place.folder / "go").touch()
    place.complete(held)
    assert place.complete(place.app.quick.enqueue(n=2).id).result == 2
    assert supervisor.popen.poll() is None


@pytest.mark.parametrize(
    "junk",
    ["queues = 'not JSON'", "pid = -1", "lease_until_boot_us = -1", f"host = {BAD_TEXT}"],
)
def test_junk_in_the_row_of_a_dead_supervisor_does_not_keep_its_jobs_from_being_taken_over(
    place: Place, junk: str
) -> None:
    first = place.supervising("-c", "2")
    ids = [place.app.until_file.enqueue("go").id for _ in range(2)]
    for each in ids:
        place.started(each)
    first.kill(signal.SIGSTOP)  # or it would notice
    tamper(
        place,
        f"UPDATE mpdispatch_supervisors SET {junk}",
        f"UPDATE mpdispatch_jobs SET created_at_us = {-1 << 63} WHERE id = 2",
    )
    first.kill()
    first.ended()
    (place.folder / "go").touch()
    second = place.supervise("--drain", "-c", "2")
    assert second.ended() == 0
    assert "Traceback" not in second.err
    assert [place.complete(each).starts for each in ids] == [2, 2]
    assert place.json("workers") == []


def test_a_dead_supervisors_running_row_that_cannot_be_read_ends_and_is_told_of(place: Place) -> None:
    first = place.supervising("-c", "2")
    ids = [place.app.until_file.enqueue("go").id for _ in range(2)]
    for each in ids:
        place.started(each)
    first.kill(signal.SIGSTOP)
    tamper(place, f"UPDATE mpdispatch_jobs SET attempt = 7 WHERE id = {ids[0]}")
    first.kill()
    first.ended()
    (place.folder / "go").touch()
    second = place.supervise("--drain", "-c", "2")
    assert second.ended() == 1
    assert f"job {ids[0]}: column attempt holds 7, more than starts (1)" in second.err
    assert [str(place.job(each).state) for each in ids] == ["failed", "completed"]


def test_extensions_hear_of_a_dead_letter_that_was_no_start(place: Place) -> None:
    (place.folder / "hooked.py").write_text(
        "from mpdispatch import Dispatcher, Engine, SQLiteStore, hooks\n"
        "class SupervisorStore(hooks.Extension):\n"
        "    name = 'keeper'\n"
        "    def on_job_dead_lettered(self, event):\n"
        "        open('heard', 'a').write(f'{event.job_id} {event.name}\\n')\n"
        "engine = Engine.build(Dispatcher(store=SQLiteStore('jobs.db')), extensions=[SupervisorStore()])\n"
        "@engine.job\n"
        "def plain(n: int = 0) -> int:\n"
        "    return n\n"
    )
    ids = [place.app.plain.enqueue(n=n).id for n in range(2)]
    tamper(place, f"UPDATE mpdispatch_jobs SET trace_context = {BAD_TEXT} WHERE id = {ids[0]}")
    assert place.supervise("--drain", app="hooked:engine").ended() == 1
    assert (place.folder / "heard").read_text().splitlines() == [f"{ids[0]} plain"]


@pytest.mark.parametrize(
    "change",
    [
        f"state = 'running', trace_context = {BAD_TEXT}",
        "state = 'running', lane = NULL",
        "owner = 78, lane = 7",
        "owner = 77",
        "lane = NULL",
        "lane = 2",
    ],
)
def test_a_drain_ends_a_row_that_nobody_would_find_and_runs_the_others(place: Place, change: str) -> None:
    ids = [place.app.quick.enqueue(n=n).id for n in range(5)]
    bad = ids[2]
    tamper(place, f"UPDATE mpdispatch_jobs SET {change} WHERE id = {bad}")
    supervisor = place.supervise("--drain", "-c", "2")
    assert supervisor.ended() == 1
    assert "Traceback" not in supervisor.err
    assert f"UnreadableJob: job {bad}: column " in supervisor.err
    assert [place.job(each).result for each in ids if each != bad] == [0, 1, 3, 4]
    assert place.job(bad).state == "failed"
    place.assert_sound()


def test_two_rows_changed_in_different_ways_are_both_ended(place: Place) -> None:
    ids = [place.app.quick.enqueue(n=n).id for n in range(4)]
    tamper(
        place,
        f"UPDATE mpdispatch_jobs SET state = 'running' WHERE id = {ids[1]}",
        f"UPDATE mpdispatch_jobs SET trace_context = {BAD_TEXT} WHERE id = {ids[2]}",
    )
    supervisor = place.supervise("--drain")
    assert supervisor.ended() == 1
    assert "Traceback" not in supervisor.err
    assert [str(place.job(each).state) for each in ids] == ["completed", "failed", "failed", "completed"]


def test_a_supervisor_starts_and_records_failures_behind_the_last_ids_there_can_be(place: Place) -> None:
    last = (1 << 63) - 1
    ids = [place.app.quick.enqueue(n=n).id for n in range(2)]
    tamper(
        place,
        "INSERT INTO mpdispatch_dead_letters (id, job_id, name, queue, failed_at_us)"
        f" VALUES ({last}, 99999, 'x', 'x', 1)",
        "INSERT INTO mpdispatch_supervisors (id, host, machine_id, boot_id, pid, pid_start, pid_namespace, queues,"
        " concurrency, app, version, started_us, heartbeat_us, lease_until_wall_us, lease_until_boot_us)"
        f" VALUES ({last}, 'x', 'x', 'x', 1, 1, 'x', '[]', 1, 'x', 'x', 1, 1, 1, 1)",
        f"UPDATE mpdispatch_jobs SET trace_context = {BAD_TEXT} WHERE id = {ids[0]}",
    )
    supervisor = place.supervise("--drain")
    assert supervisor.ended() == 1
    assert "full" not in supervisor.err
    assert [str(place.job(each).state) for each in ids] == ["failed", "completed"]


def test_an_enqueue_without_an_id_left_says_which_row_is_in_the_way(place: Place) -> None:
    job = place.app.quick.enqueue(n=1)
    tamper(place, f"UPDATE mpdispatch_jobs SET id = {(1 << 63) - 1} WHERE id = {job.id}")
    done = place.cli("enqueue", "quick", "--args", "{}", "--store", "jobs.db")
    assert (done.returncode, "Traceback" in done.stderr) == (65, False)
    assert "9223372036854775807" in done.stderr
