"""`jobs`, `show`, `dlq` and `retry` where jobs run and fail: what they show, and on which terminal. In this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mpdispatch.clock import SystemClock
from mpdispatch.model import ClaimedJob, ErrorInfo, NewBatch, NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.values import Progress

from .conftest import Mp
from .store.conftest import Desk, completed, failed, retrying
from .terminal import Terminal, on_terminal


class House:
    """A store with a supervisor that does what a test says."""

    def __init__(self, store: SQLiteStore) -> None:
        self.store, self.clock = store, SystemClock()
        self.desk = Desk(store, self.clock)  # type: ignore[arg-type]  # it only asks for the time

    def started(self, name: str = "render", payload: Any = None, **options: Any) -> ClaimedJob:
        """A job that runs."""
        body = msgspec.json.encode({} if payload is None else payload)
        self.store.enqueue(NewJob(name=name, payload=body, **options))
        (claimed,) = self.desk.claim()
        return claimed

    def completed(self, name: str = "render", **options: Any) -> int:
        job = self.started(name, **options)
        self.desk.commit(completed(job, self.clock.now()))
        return job.id

    def failed(self, error: str = "ValueError: no such page", name: str = "render", **options: Any) -> int:
        """A job that has failed with this error (type: message)."""
        job = self.started(name, **options)
        self.desk.commit(failed(job, self.clock.now(), error=_error(error)))
        return job.id

    def retrying(self, error: str = "ValueError: no such page", name: str = "render", **options: Any) -> int:
        job = self.started(name, **options)
        self.desk.commit(retrying(job, self.clock.now(), error=_error(error)))
        return job.id

    def report(
        self, job: ClaimedJob, done: float, total: float | None = None, message: str | None = None
    ) -> None:
        data = msgspec.json.encode({"done": done, "total": total, "message": message})
        self.desk.commit(progress=[Progress(job_id=job.id, starts=job.starts, data=data)])


def _error(text: str) -> ErrorInfo:
    kind, _, message = text.partition(": ")
    return ErrorInfo(type=kind, message=message, traceback=f"Traceback …\n{text}")


@pytest.fixture
def house(store: SQLiteStore) -> Iterator[House]:
    house = House(store)
    yield house
    house.desk.close()


# ---------------------------------------------------------------- progress


def test_show_tells_people_how_far_a_job_is_and_programs_its_eta(house: House, mp: Mp) -> None:
    job = house.started()
    house.report(job, 1, 4, "page 1")
    facts = json.loads(mp("show", str(job.id), "--json")[1])
    assert facts["progress"] == {"done": 1, "total": 4, "message": "page 1"}
    assert facts["eta_s"] == pytest.approx(3 * facts["duration_s"], rel=0.01)
    lines = dict(line.split(maxsplit=1) for line in mp("show", str(job.id))[1].splitlines() if line)
    assert lines["progress"].startswith("25 % (1/4), ")
    assert lines["progress"].endswith(" left: page 1")
    assert "duration" in lines


def test_show_leaves_out_what_says_nothing_of_the_job(house: House, mp: Mp) -> None:
    job_id = house.completed()
    shown = mp("show", str(job_id))[1]
    for key in ("created ", "eta_s", "duration_s"):
        assert f"\n{key}" not in shown
    assert "\ncreated_at " in shown
    assert json.loads(mp("show", str(job_id), "--json")[1])["created"] is True


# ---------------------------------------------------------------- lists, at the width of the terminal

LONG = (
    "ConnectionError: cannot reach mail.example.org:25 after 3 tries; the last answer was 421 too busy, go away"
)


def test_lists_in_a_pipe_show_arguments_duration_and_the_whole_error(house: House, mp: Mp) -> None:
    payload = {"path": "x" * 200, "title": "so far", "dpi": 300, "tags": ["a"]}
    house.failed(LONG, payload=payload)
    for command in (["jobs"], ["dlq", "list"]):
        head, row = mp(*command)[1].splitlines()
        assert {"id", "name", "queue", "attempt", "duration", "arguments"} <= {*head.split()}
        assert row.endswith(LONG), row
        assert f"path={'x' * 200} 'title=so far' dpi:=300 'tags:=[\"a\"]'" in row
        (letter,) = json.loads(mp(*command, "--json")[1])
        assert f"{letter['last_error']['type']}: {letter['last_error']['message']}" == LONG
        assert letter["payload"] == payload
        assert letter["duration_s"] > 0


@pytest.mark.parametrize("columns", [60, 80, 100, 140, 330])
@pytest.mark.parametrize("command", [["jobs"], ["dlq", "list"], ["dlq", "list", "--replayed"]])
def test_a_list_on_a_terminal_fits_it_and_keeps_the_whole_error(
    house: House, tmp_path: Path, columns: int, command: list[str]
) -> None:
    house.failed(LONG, payload={"path": "x" * 120})
    lines = on_terminal(tmp_path, *command, columns=columns)
    assert max(map(len, lines)) <= columns
    head = lines[0].split()
    assert {"id", "name", "arguments"} <= {*head}
    assert ("queue" in head) == (columns >= 140) or columns in (80, 100)
    assert ("…" in lines[2]) == (columns < 330)  # of the x
    # The error is the last column: wrapped, with nothing left out.
    at = lines[0].index(head[-1])
    assert "".join(line[at:].strip() for line in lines[2:]).replace(" ", "") == LONG.replace(" ", "")


def test_a_list_on_a_very_narrow_terminal_still_shows_each_job(house: House, tmp_path: Path) -> None:
    house.failed(LONG)
    lines = on_terminal(tmp_path, "jobs", columns=20)
    assert max(map(len, lines)) <= 20
    assert any("1" in line for line in lines[2:])


def test_the_note_of_a_job_says_when_it_is_due_how_far_it_is_or_why_it_failed(house: House, mp: Mp) -> None:
    running = house.started("sum")
    house.report(running, 2, 4)
    house.retrying("OSError: gone", "copy")
    house.store.enqueue(NewJob(name="later", payload=b"{}", delay_us=3_600_000_000))
    house.failed("shop.errors.Broken: in two", "cut")
    notes = {line.split()[1]: line for line in mp("jobs")[1].splitlines()[1:]}
    assert "50 % (2/4), " in notes["sum"]
    assert notes["copy"].endswith("; OSError: gone")
    assert "due in 1m00s" in notes["copy"] or "due in 59s" in notes["copy"]
    assert notes["later"].endswith(("due in 1h00m", "due in 59m59s"))
    assert notes["cut"].endswith("  Broken: in two")


def test_the_arguments_of_a_program_are_the_line_that_runs_it(tmp_path: Path, mp: Mp) -> None:
    mp("run", "--create", "--", "convert", "a b.jpg", "-resize", "10%")
    assert "convert 'a b.jpg' -resize 10%" in mp("jobs")[1]


def test_show_has_the_whole_error_of_each_start(house: House, mp: Mp) -> None:
    job_id = house.failed(LONG)
    rows = [line for line in mp("show", str(job_id))[1].splitlines() if "error " in line]
    assert any(row.endswith(LONG) for row in rows)


# ---------------------------------------------------------------- failures by the many


def test_jobs_and_letters_are_listed_by_batch_and_letters_by_error(house: House, mp: Mp) -> None:
    batch = house.store.batches.open(NewBatch(name="b")).id
    mine, done = house.failed("OSError: gone", batch_id=batch), house.completed(batch_id=batch)
    other = house.failed()

    def found(*args: str) -> list[int]:
        return [each["id"] for each in json.loads(mp(*args, "--json")[1])]

    assert found("jobs", "--batch", str(batch)) == [done, mine]
    assert found("jobs", "--batch", str(batch), "--state", "failed") == [mine]
    assert found("dlq", "list", "--batch", str(batch)) == [mine]
    assert found("dlq", "list", "--error", "no such") == [other]
    assert mp("jobs", "--batch", "0")[0] == 2
    assert "error: must not be empty" in mp("dlq", "list", "--error", "")[2]


def test_failures_are_counted_by_name_and_error(house: House, mp: Mp, tmp_path: Path) -> None:
    for n in range(3):
        house.failed(f"KeyError: no page {n} in /srv/{n}.pdf")
    last = house.failed("OSError: gone", "mail")
    groups = json.loads(mp("dlq", "list", "--group", "--json")[1])
    assert [(each["name"], each["type"], each["message"], each["count"]) for each in groups] == [
        ("render", "KeyError", "no page <n> in <path>", 3),
        ("mail", "OSError", "gone", 1),
    ]
    assert groups[1]["first_failed_at"] == groups[1]["last_failed_at"]
    assert (groups[1]["example_id"], groups[0]["example_id"]) == (last, last - 1)
    head, first, second = mp("dlq", "list", "--group")[1].splitlines()
    assert head.split() == ["count", "name", "first", "last", "example", "error"]
    assert first.split()[:2] == ["3", "render"]
    assert first.endswith("KeyError: no page <n> in <path>")
    assert second.endswith("OSError: gone")
    lines = on_terminal(tmp_path, "dlq", "list", "--group", columns=60)
    assert max(map(len, lines)) <= 60
    code, out, err = mp("dlq", "list", "--group", "--limit", "1")
    assert (code, len(out.splitlines()), err) == (0, 2, "there are 1 more groups: --limit, or --all\n")
    assert mp("dlq", "list", "--group", "--limit", "1", "--all")[2] == ""
    assert mp("dlq", "list", "--group", "--cursor", "3")[0] == 2
    assert mp("dlq", "list", "--group", "--name", "mail")[1].count("\n") == 2


@pytest.mark.parametrize(("command", "word"), [(["dlq", "replay"], "replayed"), (["retry"], "retried")])
def test_many_failures_run_again_by_what_the_options_select(
    house: House, mp: Mp, command: list[str], word: str
) -> None:
    batch = house.store.batches.open(NewBatch(name="b")).id
    first = house.failed("OSError: gone", batch_id=batch)
    house.failed("OSError: gone", "mail")
    third, fourth = house.failed(), house.failed()
    assert mp(*command, "--name", "mail", "--error", "no such")[:2] == (0, f"{word} 0, 0 errors\n")
    assert mp(*command, "--batch", str(batch))[:2] == (0, f"{word} 1, 0 errors\n")
    assert json.loads(mp(*command, "--error", "gone", "--json")[1]) == {word: 1, "errors": 0}
    assert mp(*command, str(third))[1] == f"job {third} runs again as job {fourth + 3}\n"
    assert mp(*command, "--all", "--queue", "nowhere")[1] == f"{word} 0, 0 errors\n"
    assert mp(*command, "--all")[1] == f"{word} 1, 0 errors\n"
    assert house.store.get(first).retried_as == fourth + 1
    assert house.store.dead_letter_count() == 0


@pytest.mark.parametrize("command", [["dlq", "replay"], ["retry"]])
def test_it_must_be_said_what_runs_again(house: House, mp: Mp, command: list[str]) -> None:
    house.failed()
    for args in ([], ["--yes"]):
        code, out, err = mp(*command, *args)
        assert (code, out) == (2, "")
        assert "say which jobs: ids, --queue, --name, --batch, --error or --all" in err
    for args in (["--all"], ["--name", "render"], ["--batch", "3"], ["--error", "x"]):
        assert mp(*command, "1", *args)[0] == 2, args
    if command == ["retry"]:
        assert mp(*command, "--state", "failed")[0] == 2
        assert mp(*command, "--state", "completed", "--all")[0] == 2
    assert house.store.dead_letter_count() == 1


def test_retry_takes_another_state_if_it_is_named(house: House, mp: Mp) -> None:
    house.retrying("OSError: gone")
    house.store.enqueue(NewJob(name="later", payload=b"{}", delay_us=3_600_000_000))
    assert mp("retry", "--all")[1] == "retried 1, 0 errors\n"
    assert mp("retry", "--all")[1] == "retried 0, 0 errors\n"
    assert mp("retry", "--all", "--state", "scheduled")[1] == "retried 1, 0 errors\n"


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 130, 2), ("y", 0, 0)])
def test_a_terminal_asks_before_many_run_again(
    house: House, tmp_path: Path, answer: str, code: int, left: int
) -> None:
    for _ in range(2):
        house.failed()
    with Terminal(tmp_path, "dlq", "replay", "--all") as terminal:
        assert "2 jobs will run again. Go on?" in terminal.read_until(lambda text: "Go on?" in text)
        terminal.type(f"{answer}\n")
        terminal.rest()
        assert terminal.process.returncode == code
    assert house.store.dead_letter_count() == left


def test_a_terminal_does_not_ask_with_yes_or_if_there_are_none(house: House, tmp_path: Path) -> None:
    house.failed()
    assert on_terminal(tmp_path, "dlq", "replay", "--all", "--yes")[-1] == "replayed 1, 0 errors"
    assert on_terminal(tmp_path, "dlq", "replay", "--all")[-1] == "replayed 0, 0 errors"


def test_what_cannot_run_again_is_named_and_the_command_exits_1(house: House, mp: Mp) -> None:
    bad, good = house.failed(), house.failed()
    connection = house.store._sessions.current().connection
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute("UPDATE mpdispatch_jobs SET max_retries = -1 WHERE id = ?", (bad,))
    connection.execute("PRAGMA ignore_check_constraints = OFF")
    code, out, err = mp("dlq", "replay", "--all")
    assert (code, out) == (1, "replayed 1, 1 error\n")
    assert f"job {bad} is unreadable" in err
    assert house.store.get(good).retried_as is not None


def test_a_replayed_failure_says_by_which_job_and_is_no_failure_in_stats(house: House, mp: Mp) -> None:
    old, queue = house.failed("OSError: gone"), "default"
    before = json.loads(mp("stats", "--json")[1])
    assert (before["jobs"]["failed"], before["queues"][queue]["jobs"]["failed"]) == (1, 1)
    new = json.loads(mp("dlq", "replay", str(old), "--json")[1])[0]["id"]
    after = json.loads(mp("stats", "--json")[1])
    assert (after["jobs"]["failed"], after["queues"][queue]["jobs"]["failed"]) == (0, 0)
    assert [each["jobs"]["failed"] for each in json.loads(mp("queues", "--json")[1])] == [0]
    assert json.loads(mp("show", str(old), "--json")[1])["retried_as"] == new
    assert f"retried_as     {new}" in mp("show", str(old))[1]
    assert mp("jobs", "--state", "failed")[1].splitlines()[1].endswith(f"retried as {new}; OSError: gone")
    (letter,) = json.loads(mp("dlq", "list", "--replayed", "--json")[1])
    assert (letter["retried_as"], letter["replayed_as"]) == (new, new)
    explained = mp("explain", str(old))[1]
    assert f"OSError: gone; job {new} has taken its place ▸ mpdispatch explain {new}" in explained
    assert f"retried_as   {new}" in mp("dlq", "show", str(old))[1]


def test_letters_are_purged_by_error(house: House, mp: Mp) -> None:
    house.failed("OSError: gone")
    house.failed()
    assert mp("dlq", "purge", "--error", "gone")[1] == "purged: 1\n"
    assert house.store.dead_letter_count() == 1


# ---------------------------------------------------------------- progress, as it goes on


def test_wait_shows_the_progress_of_the_job_on_a_terminal(house: House, tmp_path: Path) -> None:
    job = house.started("sum")
    house.report(job, 1, 4, "page [red]1")
    reader, writer = os.pipe()
    with Terminal(tmp_path, "wait", str(job.id), columns=120, stdout=writer) as terminal:
        os.close(writer)
        seen = terminal.read_until(lambda text: "25 %" in text)
        assert f"job {job.id} (sum)" in seen
        assert "25 % (1/4), " in seen
        assert "left: page [red]1" in seen
        house.report(job, 3, 4)
        assert "75 % (3/4), " in terminal.read_until(lambda text: "75 %" in text)
        house.desk.commit(completed(job, house.clock.now()))
        terminal.rest()
        assert terminal.process.returncode == 0
    with open(reader) as out:
        assert out.read() == f'{job.id} completed {{"pages": 3}}\n', "no bar gets into what a program reads"


def test_wait_says_why_a_job_does_not_run_and_how_long_one_runs(house: House, tmp_path: Path) -> None:
    running = house.started("sum")
    waiting = house.store.enqueue(NewJob(name="later", payload=b"{}", delay_us=3_600_000_000)).id
    with Terminal(tmp_path, "wait", str(running.id), str(waiting), columns=160) as terminal:
        seen = terminal.read_until(lambda text: "runs for" in text)
        assert "0/2" in seen
        house.desk.commit(completed(running, house.clock.now()))
        seen = terminal.read_until(lambda text: "it is due at" in text)
        assert "1/2" in seen
        house.store.cancel(waiting)
        assert f"{waiting} cancelled\n" in terminal.rest()
        assert terminal.process.returncode == 1


def test_wait_on_a_terminal_gives_up_in_time(house: House, tmp_path: Path) -> None:
    job = house.started()
    with Terminal(tmp_path, "wait", str(job.id), "--for", "600ms", columns=160) as terminal:
        assert f"job {job.id} is still running after 0.6 s" in terminal.rest()
        assert terminal.process.returncode == 1


def test_stats_watch_shows_the_progress_of_running_jobs(house: House, tmp_path: Path) -> None:
    first, second, third = house.started("sum"), house.started("count"), house.started("quiet")
    house.report(first, 1, 4, "page 1")
    house.report(second, 12)
    with Terminal(tmp_path, "stats", "--watch", "0.1", columns=100) as terminal:
        seen = terminal.read_until(lambda text: "dead letters" in text)
        assert f"{first.id} sum  █████░░░░░░░░░░░░░░░ 25 % (1/4), " in seen
        assert f"{second.id} count  12 done" in seen
        assert f"{third.id} quiet" not in seen
        house.report(first, 3, 4)
        assert "75 % (3/4), " in terminal.read_until(lambda text: "75 %" in text)
        house.desk.commit(*(completed(each, house.clock.now()) for each in (first, second, third)))
        at = len(terminal.text)
        terminal.read_until(lambda text: "ended: " in text[at:] and "done" not in text[text.rindex("queue") :])
        terminal.process.send_signal(2)
        terminal.rest()
        assert terminal.process.returncode == 0


def test_stats_watch_gives_programs_the_progress_of_running_jobs(house: House, tmp_path: Path) -> None:
    job = house.started("sum")
    house.report(job, 1, 4, "page 1")
    process = subprocess.Popen(
        [sys.executable, "-m", "mpdispatch", "stats", "--json", "--watch", "50ms"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        ((facts),) = json.loads(process.stdout.readline())["progress"]
    finally:
        process.kill()
        process.communicate()
    eta_s = facts.pop("eta_s")
    assert facts == {"id": job.id, "name": "sum", "done": 1, "total": 4, "message": "page 1", "share": 0.25}
    assert eta_s > 0
