"""Cron entries under real supervisors: killed, gone for a while, changed, with slow jobs and with programs."""

from __future__ import annotations

import json
import signal
import sqlite3
import textwrap
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.whole.harness import CLI, Place, Process, until

PLAIN = """
from pathlib import Path
import time
from mpdispatch import Engine, current_job

engine = Engine.open("jobs.db", concurrency=2, poll_interval=0.5)

@engine.job
def plain() -> None: ...

@engine.job
def slow(seconds: float = 2.5) -> None:
    time.sleep(seconds)
"""


@pytest.fixture
def place_of(tmp_path: Path) -> Callable[[str], Place]:
    made: list[Place] = []

    def build(source: str = PLAIN) -> Place:
        made.append(Place(tmp_path, source))
        return made[-1]

    yield build  # type: ignore[misc]
    for each in made:
        each.close()


def rewrite(place: Place, source: str) -> None:
    (place.folder / "tasks.py").write_text(textwrap.dedent(source))


def cron(place: Place, *args: str) -> Any:
    return place.json("cron", *args)


def slots(place: Place, name: str | None = None) -> list[tuple[str, int]]:
    """Entry and second of each slot that has fired, in order."""
    sql = """SELECT c.name, s.slot_us FROM mpdispatch_cron_slots AS s JOIN mpdispatch_crons AS c ON c.id = s.cron_id
             WHERE c.name = ? OR ? IS NULL ORDER BY c.name, s.slot_us"""
    try:
        with closing(sqlite3.connect(f"file:{place.db}?mode=ro", uri=True)) as connection:
            return [(entry, slot_us // 1_000_000) for entry, slot_us in connection.execute(sql, (name, name))]
    except sqlite3.OperationalError:
        return []  # a supervisor is about to make the store


def jobs(place: Place, name: str) -> list[dict[str, Any]]:
    return sorted(place.json("jobs", "--name", name, "--all"), key=lambda each: each["slot"] or "")


def seconds_of(place: Place, name: str) -> list[int]:
    return [second for _, second in slots(place, name)]


def stop(process: Process) -> None:
    process.kill(signal.SIGTERM)
    assert process.ended() == 0, process.err


def test_two_supervisors_of_which_one_is_killed_every_three_seconds_fire_each_slot_once(
    place_of: Callable[..., Place],
) -> None:
    place = place_of()
    for name, options in (("latest", ()), ("never", ("--catch-up", "skip")), ("all", ("--catch-up", "all"))):
        cron(place, "add", name, "* * * * * *", "plain", *options)
    pair = [place.supervise() for _ in range(2)]
    until(lambda: all(slots(place, name) for name in ("latest", "never", "all")), "the first slots")
    began = int(time.time()) + 1
    for turn in range(5):
        time.sleep(3)
        pair[turn % 2].kill()
        pair[turn % 2].ended()
        pair[turn % 2] = place.supervise()
    ended = int(time.time())
    for name in ("latest", "never", "all"):
        expected = list(range(began, ended))
        until(lambda name=name: seconds_of(place, name)[-1] >= ended, f"the last slot of {name}")
        found = [second for second in seconds_of(place, name) if began <= second < ended]
        assert found == expected, (name, set(expected) ^ set(found))
    for process in pair:
        until(lambda process=process: "registered" in process.err, "its start")
        stop(process)
    counted = [each["slot"] for each in jobs(place, "plain")]
    assert len(counted) == len(slots(place)), "one job for each slot"
    assert cron(place, "history", "never", "--limit", "1000")[0]["job_id"] is not None


def test_a_slot_fires_within_a_moment_of_its_instant(place_of: Callable[..., Place]) -> None:
    place = place_of()
    process = place.supervise(poll_interval=30)
    until(lambda: place.db.exists() and "registered" in process.err, "the supervisor")
    cron(place, "add", "each", "* * * * * *", "plain")
    until(lambda: len(slots(place)) >= 6, "six slots")
    with closing(sqlite3.connect(place.db)) as connection:
        sql = "SELECT fired_at_us - slot_us FROM mpdispatch_cron_slots ORDER BY slot_us LIMIT 6"
        late_us = sorted(row[0] for row in connection.execute(sql))
    assert late_us[0] >= 0
    assert late_us[2] < 20_000, late_us
    stop(process)


@pytest.mark.parametrize(
    ("catch_up", "fires"), [("skip", 0), ("latest", 1), ("all", 5)], ids=["skip", "latest", "all"]
)
def test_a_downtime_is_caught_up_as_the_entry_says(
    place_of: Callable[..., Place], catch_up: str, fires: int
) -> None:
    place = place_of()
    cron(
        place,
        "add",
        "hourly",
        "0 * * * *",
        "plain",
        "--tz",
        "UTC",
        "--catch-up",
        catch_up,
        "--catch-up-limit",
        "5",
    )
    with closing(
        sqlite3.connect(place.db)
    ) as connection:  # as if the last supervisor had stopped three days ago
        connection.execute(
            "UPDATE mpdispatch_crons SET decided_until_us = decided_until_us - 3 * 86400000000,"
            " enabled_at_us = enabled_at_us - 4 * 86400000000, next_slot_us = next_slot_us - 3 * 86400000000"
        )
        connection.commit()
    now = int(time.time())
    process = place.supervise()
    expected = [now // 3600 * 3600 - 3600 * back for back in range(fires)][::-1]
    until(lambda: cron(place, "history", "hourly"), "a decision")
    assert seconds_of(place, "hourly") == expected
    skips = [each for each in cron(place, "history", "hourly") if each["job_id"] is None]
    assert len(skips) == 1
    assert "missed" in skips[0]["reason"]
    stop(process)


def test_enabling_and_firing_by_hand_while_a_supervisor_runs(place_of: Callable[..., Place]) -> None:
    place = place_of()
    process = place.supervise()
    until(lambda: "registered" in process.err, "the supervisor")
    cron(place, "add", "each", "* * * * * *", "plain")
    until(lambda: slots(place), "a slot")
    cron(place, "disable", "each")
    count = len(slots(place))
    (job,) = cron(place, "trigger", "each")
    until(lambda: place.json("show", str(job["id"]))["state"] == "completed", "the job fired by hand")
    time.sleep(1.2)
    assert len(slots(place)) == count + 1
    cron(place, "enable", "each")
    until(lambda: len(slots(place)) > count + 2, "slots again")
    cron(place, "remove", "each")
    before = len(jobs(place, "plain"))
    time.sleep(1.2)
    assert len(jobs(place, "plain")) == before
    stop(process)


def test_an_entry_whose_code_is_gone_is_an_orphan(place_of: Callable[..., Place]) -> None:
    declared = PLAIN + 'engine.cron("* * * * * *", name="each")(plain)\n'
    place = place_of(declared)
    first = place.supervise()
    until(lambda: slots(place), "a slot")
    stop(first)
    rewrite(place, PLAIN)
    second = place.supervise()
    until(lambda: cron(place, "list")[0]["is_orphan"], "the orphan")
    count = len(slots(place))
    assert "cron entry each fires no more" in until(lambda: second.err, "its log")
    time.sleep(1.2)
    assert len(slots(place)) == count
    assert any("declare" in each["text"] for each in place.json("explain", "each")["reasons"])
    stop(second)
    rewrite(place, declared)
    third = place.supervise()
    until(lambda: len(slots(place)) > count, "slots again")
    assert not cron(place, "list")[0]["is_orphan"]
    stop(third)


@pytest.mark.parametrize("overlap", ["skip", "queue", "replace"])
def test_slots_beside_a_slow_job(place_of: Callable[..., Place], overlap: str) -> None:
    place = place_of()
    process = place.supervise()
    until(lambda: "registered" in process.err, "the supervisor")
    cron(place, "add", "each", "* * * * * *", "slow", "--overlap", overlap)
    until(lambda: len([each for each in jobs(place, "slow") if each["started_at"]]) >= 3, "three jobs")
    cron(place, "disable", "each")
    until(lambda: all(each["completed_at"] for each in jobs(place, "slow")), "their ends", within=30)
    found = jobs(place, "slow")
    spans = sorted((each["started_at"], each["completed_at"]) for each in found if each["started_at"])
    assert all(before[1] <= after[0] for before, after in pairwise(spans)), "never two at once"
    states = {each["state"] for each in found[:-1]}
    reasons = {each["reason"] for each in cron(place, "history", "each") if each["job_id"] is None}
    match overlap:
        case "skip":
            assert states == {"completed"}
            assert all("overlap" in reason for reason in reasons)
            assert reasons
        case "queue":
            assert states == {"completed"}
            assert [each["slot"][17:19] for each in found][:2]
            assert seconds_of(place, "each")[:3] == list(
                range(seconds_of(place, "each")[0], seconds_of(place, "each")[0] + 3)
            )
        case "replace":
            assert states == {"cancelled"}
    stop(process)


def test_entries_of_a_file_live_beside_those_of_the_code_and_of_people(place_of: Callable[..., Place]) -> None:
    place = place_of(PLAIN + 'engine.cron("@hourly", name="of code")(plain)\n')
    (place.folder / "mpdispatch.yaml").write_text(
        textwrap.dedent("""
            dispatch:
              crons:
                of a file: {schedule: "* * * * * *", job: slow, args: {seconds: 0}, overlap: skip}
                a program: {schedule: "* * * * * *", command: "touch 'made by cron'"}
            """)
    )
    process = place.supervise("--allow-commands")
    until(lambda: slots(place, "of a file") and slots(place, "a program"), "their slots")
    cron(place, "add", "of people", "@daily", "plain")
    assert {each["name"]: each["origin"] for each in cron(place, "list")} == {
        "of code": "code",
        "of a file": "file",
        "a program": "file",
        "of people": "user",
    }
    until((place.folder / "made by cron").exists, "the program")
    assert jobs(place, "slow")[0]["payload"] == {"seconds": 0}
    stop(process)
    (place.folder / "mpdispatch.yaml").write_text("dispatch: {crons: {}}\n")
    process = place.supervise()
    until(lambda: sum(each["is_orphan"] for each in cron(place, "list")) == 2, "two orphans")
    stop(process)


@pytest.mark.parametrize(
    ("crons", "text"),
    [
        ("{a: {schedule: '@daily', job: nope}}", "crons.a.job: no handler 'nope'"),
        ("{a: {schedule: '@daily', job: plain, args: {d: 1}}}", "crons.a.args.d: is no argument of this job"),
        ("{a: {schedule: '61 * * * *', job: plain}}", "dispatch.crons.a.schedule: the minute must be 0-59"),
        ("{a: {schedule: '@daily', command: no-such-program}}", "crons.a.command: there is no program"),
    ],
)
def test_a_file_that_is_wrong_starts_no_supervisor(
    place_of: Callable[..., Place], crons: str, text: str
) -> None:
    place = place_of()
    (place.folder / "mpdispatch.yaml").write_text(f"dispatch:\n  crons: {crons}\n")
    process = place.supervise()
    assert process.ended() == 78
    assert text in process.err
    assert "Traceback" not in process.err


def test_a_command_entry_is_parked_where_commands_are_not_allowed(place_of: Callable[..., Place]) -> None:
    place = place_of()
    process = place.supervise()
    until(lambda: "registered" in process.err, "the supervisor")
    made = place.cli(
        "cron", "add", "touch", "* * * * * *", "--store", "jobs.db", "--json", "--", "touch", "made"
    )
    assert json.loads(made.stdout)["job_name"] == "mpdispatch.command"
    until(lambda: slots(place), "a slot")
    parked = until(
        lambda: [j for j in jobs(place, "mpdispatch.command") if j["blocked_reason"]], "a parked job"
    )
    assert parked[0]["state"] == "pending"
    allowed = place.start([*CLI, "supervise", "--allow-commands", "--store", "jobs.db"])
    until((place.folder / "made").exists, "the program")
    stop(process)
    stop(allowed)


def test_an_app_that_does_not_import_fires_nothing(place_of: Callable[..., Place]) -> None:
    place = place_of()
    cron(place, "add", "each", "* * * * * *", "plain")
    rewrite(place, "raise ValueError('broken')\n")
    assert place.supervise().ended(60) == 70
    assert slots(place) == []


def test_a_drain_catches_up_and_ends(place_of: Callable[..., Place]) -> None:
    place = place_of(PLAIN + 'engine.cron("@startup", name="hello")(plain)\n')
    assert place.drain() == 0
    (job,) = jobs(place, "plain")
    assert (job["state"], len(slots(place, "hello"))) == ("completed", 1)


def test_a_program_that_adds_an_entry_as_it_is_imported_is_told_where_that_belongs(
    place_of: Callable[..., Place],
) -> None:
    place = place_of(PLAIN + 'engine.crons.add("each", "* * * * * *", job="plain")\n')
    process = place.supervise()
    assert process.ended(60) == 70
    assert "crons.add() was called while a worker process imported the app" in process.err
