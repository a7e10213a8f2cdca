"""One bad row costs one job: whatever stands in a column, the others run, it ends, and everybody can look."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpdispatch.clock import Instant
from mpdispatch.engine.explain import explain
from mpdispatch.errors import DispatchError, InvalidStateError, StoreBusy, StoreCorrupt
from mpdispatch.model import AlikeJobs, Cause, ErrorInfo, JobState, NewJob, Output, Stream
from mpdispatch.store import SQLiteStore
from mpdispatch.store.filters import DeadLetterFilter, PruneFilter
from mpdispatch.store.sqlite import unreadable
from tests.clock import FakeClock

from .conftest import TTL_US, Desk, completed, failed, registration, released
from .odd import ODD, columns_of, look, tamper
from .requests import request

SECOND_US = 1_000_000


@pytest.fixture
def desk(file_store: SQLiteStore, clock: FakeClock) -> Desk:
    made = Desk(file_store, clock)
    yield made
    made.close()


def enqueue(store: SQLiteStore, **options: object) -> int:
    return store.enqueue(NewJob(name="render", payload=b'{"path":"a.pdf"}', **options)).id  # type: ignore[arg-type]


def work_off(desk: Desk, turns: int = 30) -> dict[int, str]:
    """Claim and complete until there is nothing more; gives what was ended because it could not be read, by id."""
    ended = dict[int, str]()
    done: list = []
    for _ in range(turns):
        result = desk.commit(*done, slots=10)
        ended |= {job.id: transition.error.message for job, transition in result.ended}
        done = [completed(job, desk.clock.now()) for job in result.claimed]
        if not done and not result.has_more:
            return ended
    raise AssertionError("it never comes to an end")


NOT_REACHED = {"queue", "lane"}
"""Nobody polls such a queue, and what stands in no lane nobody finds: a person has to cancel it."""


@pytest.mark.parametrize("column", columns_of("jobs"))
def test_an_odd_value_costs_one_due_job_and_no_other(
    file_store: SQLiteStore, path: Path, desk: Desk, column: str
) -> None:
    for odd in ODD:
        now = desk.clock.now()
        good, bad = [enqueue(file_store), enqueue(file_store)], enqueue(file_store)
        good.append(enqueue(file_store))
        new_id = 10_000 + bad
        if column == "id":
            odd = str(-new_id)  # a rowid is an integer
        if not tamper(path, f"UPDATE mpdispatch_jobs SET {column} = {odd} WHERE id = {bad}"):
            continue
        if column == "id":
            bad = -new_id
        looked = [] if column == "id" else [bad]
        shown = look(file_store, now, *good, *looked)
        assert {*good, bad} <= {*shown}, odd
        ended = work_off(desk)
        assert [file_store.state_of(each) for each in good] == [JobState.COMPLETED] * 3, odd
        shown = look(file_store, now, *good, *looked)
        if column in NOT_REACHED and shown[bad]["state"] == "pending":
            assert file_store.cancel(bad).state is JobState.CANCELLED
            continue
        assert shown[bad]["state"] in ("completed", "failed", "cancelled"), odd
        if column == "expires_at_us" and shown[bad]["state"] == "cancelled":
            continue  # it is a moment long ago
        if bad in ended:
            assert ended[bad].startswith(f"job {bad}: column {column} holds "), odd
            assert shown[bad]["state"] == "failed"
            assert shown[bad]["last_error"]["type"] == "UnreadableJob"
            letters = file_store.dead_letters(DeadLetterFilter(), limit=100, cursor=None).items
            assert bad in [letter.job.id for letter in letters], odd
    work_off(desk)
    assert desk.supervisor_store.outstanding(["default"])[:3] == (0, 0, 0)


@pytest.mark.parametrize("column", ["name", "idempotency_key", "trace_context"])
def test_a_dead_letter_names_the_row_the_column_and_what_it_holds(
    file_store: SQLiteStore, path: Path, desk: Desk, column: str
) -> None:
    bad = enqueue(file_store)
    tamper(path, f"UPDATE mpdispatch_jobs SET {column} = CAST(x'00ff' AS TEXT) WHERE id = {bad}")
    ended = work_off(desk)
    expected = f"job {bad}: column {column} holds bytes that are no UTF-8 text (b'\\x00\\xff')"
    assert ended[bad] == expected
    (letter,) = file_store.dead_letters(DeadLetterFilter(), limit=10, cursor=None).items
    assert letter.job.state is JobState.FAILED
    assert expected in letter.job.last_error.message


# ---------------------------------------------------------------- in every state


def put_off(file_store: SQLiteStore, desk: Desk, in_s: float) -> int:
    now = desk.clock.now()
    return enqueue(file_store, run_at_us=now.wall_us + round(in_s * SECOND_US))


@pytest.mark.parametrize("column", columns_of("jobs"))
def test_an_odd_value_costs_one_scheduled_job_and_no_other(
    file_store: SQLiteStore, path: Path, desk: Desk, column: str
) -> None:
    for odd in ODD:
        bad, good = put_off(file_store, desk, 5), [put_off(file_store, desk, s) for s in (4, 6)]
        if column == "id" or not tamper(path, f"UPDATE mpdispatch_jobs SET {column} = {odd} WHERE id = {bad}"):
            desk.clock.advance(10)
            work_off(desk)
            continue
        look(file_store, desk.clock.now(), bad, *good)
        work_off(desk)
        desk.clock.advance(10)
        work_off(desk)
        assert [file_store.state_of(each) for each in good] == [JobState.COMPLETED] * 2, odd
        shown = look(file_store, desk.clock.now(), bad, *good)[bad]
        if not shown["completed_at"]:
            assert column in {"queue", "lane", "state", "run_at_us"}, (odd, shown)  # not found, or never due
            assert file_store.cancel(bad).completed_at is not None


@pytest.mark.parametrize("column", columns_of("jobs"))
def test_an_odd_value_in_a_running_row_does_not_keep_a_dead_supervisors_jobs_from_being_taken_over(
    file_store: SQLiteStore, path: Path, clock: FakeClock, column: str
) -> None:
    for odd in ODD:
        now = clock.now()
        dead, heir = Desk(file_store, clock), Desk(file_store, clock)
        ids = [enqueue(file_store) for _ in range(3)]
        assert [job.id for job in dead.claim()] == ids
        bad = ids[1]
        if column == "id" or not tamper(path, f"UPDATE mpdispatch_jobs SET {column} = {odd} WHERE id = {bad}"):
            dead.close()
            work_off(heir)
            continue
        look(file_store, now, *ids)
        peer = next(
            each for each in heir.supervisor_store.peers(heir.owner).registered if each.id == dead.owner
        )
        jobs = heir.supervisor_store.jobs_of(peer.id)
        assert {job.id for job in jobs} >= {ids[0], ids[2]}, odd
        assert heir.supervisor_store.take_over(peer, [released(job, now) for job in jobs]), odd
        assert dead.owner not in [each.id for each in file_store.supervisors()]
        work_off(heir)
        assert [file_store.state_of(each) for each in (ids[0], ids[2])] == [JobState.COMPLETED] * 2, odd
        shown = look(file_store, now, *ids)[bad]
        if column not in {"owner", "queue", "lane"}:  # an owner nobody knows is another matter
            assert shown["state"] in ("completed", "failed", "cancelled"), (odd, shown)
        for desk in (dead, heir):
            desk.close()


@pytest.mark.parametrize("column", columns_of("jobs"))
def test_an_odd_value_in_a_row_that_has_ended_hides_nothing_and_stops_nobody(
    file_store: SQLiteStore, path: Path, desk: Desk, column: str
) -> None:
    for odd in ODD:
        old = enqueue(file_store)
        work_off(desk)
        if column == "id" or not tamper(path, f"UPDATE mpdispatch_jobs SET {column} = {odd} WHERE id = {old}"):
            continue
        before = file_store.get(old)
        good = enqueue(file_store)
        look(file_store, desk.clock.now(), old, good)
        work_off(desk)
        assert file_store.state_of(good) is JobState.COMPLETED, odd
        assert file_store.get(old) == before, odd
    file_store.prune(PruneFilter(ended_before_us=desk.clock.now().wall_us + SECOND_US))


def test_a_row_that_has_ended_leaves_the_line_it_stands_in_and_stays_as_it_ended(
    file_store: SQLiteStore, path: Path, desk: Desk
) -> None:
    old = [enqueue(file_store) for _ in range(3)]
    work_off(desk)
    tamper(
        path, *(f"UPDATE mpdispatch_jobs SET lane = {lane} WHERE id = {row}" for lane, row in enumerate(old, 1))
    )
    good = enqueue(file_store)
    assert work_off(desk) == {}
    assert [file_store.state_of(each) for each in (*old, good)] == [JobState.COMPLETED] * 4
    assert [attempt.starts for each in old for attempt in file_store.attempts(each)] == [1, 1, 1]


def test_more_attempts_than_starts_end_a_job_and_no_other(
    file_store: SQLiteStore, path: Path, desk: Desk
) -> None:
    bad, good = enqueue(file_store), enqueue(file_store)
    tamper(path, f"UPDATE mpdispatch_jobs SET attempt = 5, starts = 2 WHERE id = {bad}")
    assert work_off(desk) == {bad: f"job {bad}: column attempt holds 5, more than starts (2)"}
    assert file_store.state_of(good) is JobState.COMPLETED


def test_a_flood_of_rows_that_cannot_be_read_is_worked_off_turn_by_turn(
    file_store: SQLiteStore, path: Path, desk: Desk
) -> None:
    template = NewJob(name="render", payload=b"{}")
    file_store.enqueue_many(AlikeJobs(template, [b"{}"] * 3000))
    tamper(path, "UPDATE mpdispatch_jobs SET attempt = 7")
    good = enqueue(file_store)
    result = desk.commit(slots=10)
    assert 0 < len(result.ended) < 3000
    assert result.has_more
    assert len(work_off(desk)) == 3000 - len(result.ended)
    assert file_store.state_of(good) is JobState.COMPLETED
    assert file_store.dead_letter_count() == 3000


@pytest.mark.parametrize("odd", ODD)
def test_a_parked_row_that_cannot_be_read_ends_when_it_could_run_and_parks_no_other(
    file_store: SQLiteStore, path: Path, desk: Desk, odd: str
) -> None:
    ids = [enqueue(file_store) for _ in range(4)]
    assert desk.claim(claim=request(names=frozenset())) == []
    tamper(
        path,
        f"UPDATE mpdispatch_jobs SET name = {odd} WHERE id = {ids[0]}",
        f"UPDATE mpdispatch_jobs SET priority = {odd} WHERE id = {ids[1]}",
    )
    look(file_store, desk.clock.now(), *ids)
    wanted = request(names=frozenset({"render"}))
    done: list = []
    for _ in range(5):
        result = desk.commit(*done, slots=10, claim=wanted)
        done = [completed(job, desk.clock.now()) for job in result.claimed]
    assert [file_store.state_of(each) for each in ids[2:]] == [JobState.COMPLETED] * 2
    assert file_store.state_of(ids[1]).is_terminal
    if not file_store.state_of(ids[0]).is_terminal:  # such a name has no handler, so nobody can run it
        file_store.cancel(ids[0])
    assert file_store.parked() == {}


@pytest.mark.parametrize("limits", [{}, {"q7": 1}])
def test_a_claim_from_many_queues_goes_on_past_a_row_that_cannot_be_read(
    file_store: SQLiteStore, path: Path, desk: Desk, limits: dict[str, int]
) -> None:
    queues = [f"q{number}" for number in range(150)]
    ids = [enqueue(file_store, queue=queue) for queue in queues]
    tamper(path, f"UPDATE mpdispatch_jobs SET trace_context = CAST(x'ff' AS TEXT) WHERE id = {ids[7]}")
    wanted = request(*queues, limits=limits)
    first = desk.commit(slots=500, claim=wanted)
    second = desk.commit(slots=500, claim=wanted)
    assert [job.id for job, _ in first.ended] == [ids[7]]
    assert len(first.claimed) + len(second.claimed) == 149


# ---------------------------------------------------------------- outcomes


def test_an_attempt_and_a_dead_letter_that_stand_there_already_give_way_to_the_outcome(
    file_store: SQLiteStore, path: Path, desk: Desk
) -> None:
    ids = [enqueue(file_store) for _ in range(3)]
    jobs = desk.claim()
    now = desk.clock.now()
    for job_id in ids:
        tamper(
            path,
            "INSERT INTO mpdispatch_attempt_rows (job_id, starts, attempt, cause, started_at_us, finished_at_us)"
            f" VALUES ({job_id}, 1, 1, 'timeout', 1, 2)",
            "INSERT INTO mpdispatch_dead_letters (job_id, name, queue, failed_at_us, closed_at_us)"
            f" VALUES ({job_id}, 'render', 'default', 3, 4)",
            f"INSERT INTO mpdispatch_results VALUES ({job_id}, '1')",
        )
    large = b'"' + b"x" * 5000 + b'"'
    result = desk.commit(failed(jobs[0], now), failed(jobs[1], now), completed(jobs[2], now, result=large))
    assert result.rejected == []
    assert [file_store.state_of(each) for each in ids] == ["failed", "failed", "completed"]
    assert [attempt.cause for attempt in file_store.attempts(ids[0])] == [Cause.ERROR]
    assert file_store.get(ids[2]).result == "x" * 5000
    assert file_store.dead_letter(ids[0]).replayed_at is None


@pytest.mark.parametrize("column", ["duration_us", "completed_at_us", "lane", "blocked_reason"])
def test_an_outcome_is_recorded_over_what_a_running_row_must_not_have(
    file_store: SQLiteStore, path: Path, desk: Desk, column: str
) -> None:
    ids = [enqueue(file_store) for _ in range(3)]
    jobs = desk.claim()
    tamper(path, f"UPDATE mpdispatch_jobs SET {column} = 7 WHERE id = {ids[0]} OR id = {ids[1]}")
    now = desk.clock.now()
    result = desk.commit(failed(jobs[0], now), completed(jobs[1], now), completed(jobs[2], now))
    assert result.rejected == []
    assert [file_store.state_of(each) for each in ids] == ["failed", "completed", "completed"]
    look(file_store, now, *ids)


def test_a_running_row_whose_start_cannot_be_read_ends_when_its_supervisor_does_not_hold_it(
    file_store: SQLiteStore, path: Path, desk: Desk
) -> None:
    bad, held = enqueue(file_store), enqueue(file_store)
    jobs = desk.claim()
    tamper(path, f"UPDATE mpdispatch_jobs SET attempt = 2 WHERE id = {bad}")
    assert [job.id for job in desk.supervisor_store.jobs_of(desk.owner)] == [held]
    desk.supervisor_store.upkeep.set_aside(desk.owner, {bad, held})
    result = desk.commit(completed(jobs[1], desk.clock.now()))
    assert [job.id for job, _ in result.ended] == [bad]
    assert [file_store.state_of(each) for each in (bad, held)] == ["failed", "completed"]


# ---------------------------------------------------------------- what people do


@pytest.mark.parametrize("column", columns_of("jobs"))
def test_cancel_ends_a_row_whatever_stands_in_it(
    file_store: SQLiteStore, path: Path, now: Instant, column: str
) -> None:
    for odd in ODD:
        bad = enqueue(file_store)
        if column == "id" or not tamper(path, f"UPDATE mpdispatch_jobs SET {column} = {odd} WHERE id = {bad}"):
            continue
        assert file_store.cancel(bad).state in (JobState.CANCELLED, JobState.FAILED), odd
        assert file_store.state_of(bad) is JobState.CANCELLED, odd
        with pytest.raises(InvalidStateError):
            file_store.cancel(bad)
        look(file_store, now, bad)


@pytest.mark.parametrize("column", columns_of("jobs"))
def test_retry_of_an_odd_row_works_or_says_what_is_wrong(
    file_store: SQLiteStore, path: Path, now: Instant, column: str
) -> None:
    for odd in ODD:
        bad = enqueue(file_store)
        file_store.cancel(bad)
        if column == "id" or not tamper(path, f"UPDATE mpdispatch_jobs SET {column} = {odd} WHERE id = {bad}"):
            continue
        try:
            job = file_store.retry(bad)
        except DispatchError as error:
            assert str(bad) in str(error)  # noqa: PT017 - either is right, a traceback is not
        else:
            assert job.id > bad
        look(file_store, now, bad)


# ---------------------------------------------------------------- the other tables


ROWS = {
    "attempt_rows": "job_id = {id}",
    "outputs": "job_id = {id}",
    "dead_letters": "job_id = {id}",
    "payloads": "job_id = {id}",
    "results": "job_id = {id}",
    "queues": "name = 'default'",
    "supervisors": "host = 'elsewhere'",
}


@pytest.mark.parametrize(
    ("table", "column"), [(table, column) for table in ROWS for column in columns_of(table)]
)
def test_an_odd_value_in_any_other_table_hides_nothing_and_stops_nobody(
    file_store: SQLiteStore, path: Path, desk: Desk, table: str, column: str
) -> None:
    supervisor_store, now = desk.supervisor_store, desk.clock.now()
    for odd in ODD:
        file_store.set_paused("default", False)
        large = NewJob(name="render", payload=b'{"text":"' + b"x" * 5000 + b'"}', max_retries=5)
        old, bad = file_store.enqueue(large).id, file_store.enqueue(large).id
        jobs = desk.claim()
        desk.commit(
            failed(jobs[0], now),
            completed(jobs[1], now, result=b'"' + b"x" * 5000 + b'"'),
            outputs=[
                Output(job_id=each.id, starts=1, stream=Stream.LOG, text="a\n", written=2) for each in jobs
            ],
        )
        peer = supervisor_store.register(registration(host="elsewhere"), TTL_US)
        where = ROWS[table].format(id=old if table in ("dead_letters", "attempt_rows") else bad)
        written = tamper(path, f"UPDATE mpdispatch_{table} SET {column} = {odd} WHERE {where}")
        good = [enqueue(file_store), enqueue(file_store)]
        shown = look(file_store, now, old, bad, *good)
        assert {old, bad, *good} <= {*shown}
        file_store.set_paused("default", False)
        work_off(desk)
        assert [file_store.state_of(each) for each in good] == [JobState.COMPLETED] * 2, odd
        seen = {each.id: each for each in supervisor_store.peers(desk.owner).registered}
        for each in seen.values():
            assert supervisor_store.take_over(each, []), odd
        assert not written or table == "supervisors" or peer in seen
        file_store.purge_dead_letters(DeadLetterFilter(is_replayed=None))
        tamper(path, "DELETE FROM mpdispatch_queues")


LIFE = ("host", "machine_id", "boot_id", "pid", "pid_start", "pid_namespace")
IMPOSSIBLE = {"pid": "-1", "pid_start": "-1", "heartbeat_us": "9223372036854775807"}


@pytest.mark.parametrize("column", [*LIFE, "queues", "app", "heartbeat_us"])
def test_a_supervisor_has_a_lease_only_if_it_can_be_read_whether_it_lives(
    file_store: SQLiteStore, path: Path, desk: Desk, column: str
) -> None:
    value = IMPOSSIBLE.get(column, "CAST(x'ff' AS TEXT)")
    tamper(path, f"UPDATE mpdispatch_supervisors SET {column} = {value}")
    (peer,) = file_store.supervisors()
    assert column in peer.unreadable
    assert (peer.lease_left_us == 0) is (column in LIFE)


def test_doctor_names_rows_that_cannot_be_read_and_does_not_take_them_for_damage(
    file_store: SQLiteStore, path: Path
) -> None:
    ids = [enqueue(file_store) for _ in range(8)]
    tamper(
        path,
        f"UPDATE mpdispatch_jobs SET max_retries = -1 WHERE id < {ids[6]}",
        f"UPDATE mpdispatch_jobs SET lane = NULL WHERE id = {ids[6]}",
        f"UPDATE mpdispatch_jobs SET state = 'gone' WHERE id = {ids[7]}",
    )
    findings = {each.check: each for each in file_store.examine() if each.needs_doing}
    assert set(findings) == {"rows"}
    message = findings["rows"].message
    assert f"job {ids[0]}: column max_retries holds -1, which is out of its range" in message
    assert message.endswith("and 3 more")
    assert "mpdispatch cancel" in str(findings["rows"].remedy)
    for job_id in ids:
        file_store.cancel(job_id)
    assert not [each for each in file_store.examine() if each.needs_doing]


def test_a_payload_nested_too_deeply_is_not_shown_and_hides_nothing(
    file_store: SQLiteStore, path: Path, now: Instant
) -> None:
    ids = [enqueue(file_store) for _ in range(4)]
    for job_id, depth in zip(ids, (200, 400, 990, 100_000), strict=True):
        tamper(
            path,
            f"""UPDATE mpdispatch_jobs SET payload = '{{"a":{"[" * depth}{"]" * depth}}}' WHERE id = {job_id}""",
        )
    shown = look(file_store, now, *ids)
    assert "a" in shown[ids[0]]["payload"]
    assert [list(shown[each]["payload"]) for each in ids[1:]] == [[""]] * 3


def test_the_last_error_of_an_unreadable_row_is_kept_in_view(
    file_store: SQLiteStore, path: Path, desk: Desk
) -> None:
    job_id = enqueue(file_store, max_retries=0)
    (job,) = desk.claim()
    desk.commit(failed(job, desk.clock.now()))
    tamper(path, f"UPDATE mpdispatch_jobs SET created_at_us = 9223372036854775807 WHERE id = {job_id}")
    error = file_store.get(job_id).last_error
    assert error == ErrorInfo(
        type="UnreadableJob",
        message=f"job {job_id}: column created_at_us holds 9223372036854775807, which is no time (µs since"
        " 1970); its last error was ValueError: no such page",
    )


def test_an_outcome_that_is_not_ours_any_more_and_a_row_that_cannot_be_read_meet_in_one_turn(
    file_store: SQLiteStore, path: Path, desk: Desk
) -> None:
    now = desk.clock.now()
    ids = [enqueue(file_store) for _ in range(2)]
    jobs = desk.claim()
    bad, good = enqueue(file_store), enqueue(file_store)
    tamper(
        path,
        f"UPDATE mpdispatch_jobs SET starts = 7 WHERE id = {ids[0]}",
        f"UPDATE mpdispatch_jobs SET name = CAST(x'ff' AS TEXT) WHERE id = {bad}",
    )
    result = desk.commit(*[completed(job, now) for job in jobs], slots=10)
    assert list(result.rejected) == [(ids[0], 1)]
    assert [job.id for job, _ in result.ended] == [bad]
    assert file_store.state_of(ids[1]) is JobState.COMPLETED
    assert [job.id for job in desk.claim()] == [good]


def test_a_store_that_is_busy_while_a_row_is_ended_has_taken_no_outcome(
    file_store: SQLiteStore, path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = desk.clock.now()
    enqueue(file_store)
    jobs = desk.claim()
    bad = enqueue(file_store)
    tamper(path, f"UPDATE mpdispatch_jobs SET name = CAST(x'ff' AS TEXT) WHERE id = {bad}")
    outcomes = [completed(job, now) for job in jobs]

    def busy(*_: object, **__: object) -> None:
        raise StoreBusy("jobs.db")

    with monkeypatch.context() as patch:
        patch.setattr(unreadable, "set_aside", busy)
        with pytest.raises(StoreBusy):
            desk.commit(*outcomes, slots=10)
    result = desk.commit(*outcomes, slots=10)
    assert list(result.rejected) == []
    assert [job.id for job, _ in result.ended] == [bad]


# ---------------------------------------------------------------- where nobody finds them


def walk(desk: Desk) -> int:
    """Look at all rows, as a supervisor does when it starts; gives how many were set aside."""
    supervisor_store, count, has_more = desk.store.supervisor_store(), 0, True
    while has_more:
        _, repaired, has_more, _ = supervisor_store.upkeep.step(["default"])
        count += repaired
    supervisor_store.close()
    return count


def rescue(desk: Desk) -> None:
    """Take over what runs without a supervisor."""
    for owner in desk.supervisor_store.peers(desk.owner).unregistered:
        jobs = desk.supervisor_store.jobs_of(owner)
        assert desk.supervisor_store.take_over(owner, [released(job, desk.clock.now()) for job in jobs])


@pytest.mark.parametrize("starts", [0, 1])
@pytest.mark.parametrize("is_one", [True, False])
def test_a_running_row_without_an_owner_that_stands_in_a_line_is_taken_over(
    file_store: SQLiteStore, path: Path, desk: Desk, is_one: bool, starts: int
) -> None:
    ids = [enqueue(file_store) for _ in range(3)]
    bad = {ids[0] if is_one else ids[1]}
    tamper(
        path,
        f"UPDATE mpdispatch_jobs SET state = 'running', starts = {starts}, attempt = {starts} WHERE id = {ids[0]}",
        f"UPDATE mpdispatch_jobs SET trace_context = CAST(x'ff' AS TEXT) WHERE id = {min(bad)}",
    )
    work_off(desk)
    rescue(desk)
    work_off(desk)
    if not starts:
        bad.add(ids[0])  # whoever says that it runs has not begun it
    states = [file_store.state_of(each) for each in ids]
    assert states == [JobState.FAILED if each in bad else JobState.COMPLETED for each in ids]
    assert desk.supervisor_store.outstanding(["default"])[:3] == (0, 0, 0)


def test_a_row_that_cannot_be_ended_costs_none_of_those_beside_it(
    file_store: SQLiteStore, path: Path, desk: Desk
) -> None:
    ids = [enqueue(file_store) for _ in range(3)]
    tamper(
        path,
        "UPDATE mpdispatch_jobs SET trace_context = CAST(x'ff' AS TEXT)",
        f"CREATE TRIGGER keep BEFORE UPDATE ON mpdispatch_jobs WHEN old.id = {ids[0]}"
        " BEGIN SELECT RAISE(ABORT, 'not this one'); END",
    )
    result = desk.commit(slots=10)
    assert [job.id for job, _ in result.ended] == ids[1:]


ASTRAY = (
    "owner = 99, lane = 7",
    "owner = 99",
    "lane = NULL",
    "lane = 2",
    "state = 'gone', lane = NULL",
    "state = 'running', lane = NULL",
    "state = 'running', lane = NULL, starts = 1",
    "state = 'running', lane = NULL, starts = 1, attempt = 1",
    "state = 'running', completed_at_us = 1, starts = 2, attempt = 1",
    "state = 'scheduled', lane = NULL",
    "state = 'retrying', lane = 3",
    "state = 'completed', completed_at_us = 1, lane = NULL, owner = 9",
)


@pytest.mark.parametrize("change", ASTRAY)
def test_a_row_that_stands_where_nobody_finds_it_is_set_aside_by_a_look_at_all_rows(
    file_store: SQLiteStore, path: Path, desk: Desk, change: str
) -> None:
    good = [enqueue(file_store) for _ in range(2)]
    bad = enqueue(file_store)
    later = put_off(file_store, desk, 50)
    assert walk(desk) == 0
    tamper(path, f"UPDATE mpdispatch_jobs SET {change} WHERE id = {bad}")
    assert walk(desk) == 1
    assert walk(desk) == 0
    rescue(desk)
    work_off(desk)
    assert [file_store.state_of(each) for each in (*good, later)] == ["completed", "completed", "scheduled"]
    wanted = "completed" if "attempt =" in change or "'completed'" in change else "failed"
    assert file_store.state_of(bad) == wanted
    assert desk.supervisor_store.outstanding(["default"])[:3] == (0, 0, 0)


def test_a_look_at_all_rows_leaves_what_runs_and_what_is_of_other_queues(
    file_store: SQLiteStore, path: Path, desk: Desk
) -> None:
    other = enqueue(file_store, queue="other")
    tamper(path, f"UPDATE mpdispatch_jobs SET lane = 7 WHERE id = {other}")
    file_store.enqueue_many(AlikeJobs(NewJob(name="render", payload=b"{}"), [b"{}"] * 4100))
    bad = enqueue(file_store)
    tamper(path, f"UPDATE mpdispatch_jobs SET lane = 7 WHERE id = {bad}")
    held = desk.claim(slots=5)
    assert walk(desk) == 1
    assert [file_store.state_of(each) for each in (other, bad)] == ["pending", "failed"]
    assert [file_store.state_of(each.id) for each in held] == ["running"] * 5


@pytest.mark.parametrize("change", ASTRAY[:4])
def test_explain_says_that_it_cannot_be_claimed_and_cancel_ends_it(
    file_store: SQLiteStore, path: Path, now: Instant, change: str
) -> None:
    bad = enqueue(file_store)
    tamper(path, f"UPDATE mpdispatch_jobs SET {change} WHERE id = {bad}")
    _, reasons = explain(file_store, bad, now=now)
    assert reasons[0].code == "unreadable"
    assert reasons[0].text.startswith("its row cannot be claimed: column ")
    assert f"mpdispatch cancel {bad}" in str(reasons[0].remedy)
    assert "due" not in [reason.code for reason in reasons]
    assert file_store.cancel(bad).state is JobState.CANCELLED


def test_cancel_ends_a_running_row_that_nobody_runs(file_store: SQLiteStore, path: Path) -> None:
    bad = enqueue(file_store)
    tamper(path, f"UPDATE mpdispatch_jobs SET state = 'running', lane = NULL WHERE id = {bad}")
    assert file_store.cancel(bad).state is JobState.CANCELLED


# ---------------------------------------------------------------- the highest id there can be

LAST = (1 << 63) - 1


@pytest.mark.parametrize("is_deleted", [False, True])
def test_failed_jobs_are_recorded_behind_a_dead_letter_with_the_last_id(
    file_store: SQLiteStore, path: Path, desk: Desk, is_deleted: bool
) -> None:
    tamper(
        path,
        "INSERT INTO mpdispatch_dead_letters (id, job_id, name, queue, failed_at_us)"
        f" VALUES ({LAST}, 999999, 'render', 'default', 3)",
    )
    if is_deleted:
        tamper(path, "DELETE FROM mpdispatch_dead_letters")
    ids = [enqueue(file_store) for _ in range(3)]
    tamper(path, f"UPDATE mpdispatch_jobs SET name = CAST(x'ff' AS TEXT) WHERE id = {ids[2]}")
    work = desk.commit(slots=10), desk.commit(slots=10)
    jobs = [job for result in work for job in result.claimed]
    desk.commit(*[failed(job, desk.clock.now()) for job in jobs])
    page = file_store.dead_letters(DeadLetterFilter(), limit=10, cursor=None)
    assert sorted(letter.job.id for letter in page.items) == ids
    assert "ids" in {each.check for each in file_store.examine() if "dead_letters" in each.message}


def test_supervisors_register_behind_one_with_the_last_id_and_never_twice_under_one(
    file_store: SQLiteStore, path: Path, desk: Desk
) -> None:
    tamper(path, f"UPDATE mpdispatch_supervisors SET id = {LAST}", f"UPDATE sqlite_sequence SET seq = {LAST}")
    seen = set[int]()
    for _ in range(3):
        owner = desk.supervisor_store.register(registration(), TTL_US)
        assert owner not in seen
        seen.add(owner)
        assert desk.supervisor_store.register(registration(), TTL_US) not in seen
        desk.supervisor_store.unregister(owner)
        desk.clock.advance(0.01)
    assert "ids" in {each.check for each in file_store.examine() if "supervisors" in each.message}


def test_without_an_id_for_a_new_job_every_way_to_make_one_names_the_row(
    file_store: SQLiteStore, path: Path, now: Instant
) -> None:
    bad, old = enqueue(file_store), enqueue(file_store)
    file_store.cancel(old)
    tamper(path, f"UPDATE mpdispatch_jobs SET id = {LAST} WHERE id = {bad}")
    template = NewJob(name="render", payload=b"{}")
    for make in (
        lambda: enqueue(file_store),
        lambda: enqueue(file_store, idempotency_key="k"),
        lambda: file_store.enqueue_many(AlikeJobs(template, [b"{}"] * 2)),
        lambda: file_store.retry(old),
    ):
        with pytest.raises(StoreCorrupt, match=r"no job id is left: .*9223372036854775807.* mpdispatch_jobs"):
            make()
    (finding,) = [each for each in file_store.examine() if each.check == "ids"]
    assert "mpdispatch_jobs" in str(finding.remedy)
    file_store.cancel(LAST)
    assert file_store.prune(PruneFilter()).by_state == {JobState.CANCELLED: 2}
    assert enqueue(file_store) < 1000
