"""`jobs`, `show`, `dlq` and `retry` where jobs run and fail: what they show, and on which terminal. In this process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mpdispatch.cli.main import main
from mpdispatch.clock import SystemClock
from mpdispatch.model import ClaimedJob, ErrorInfo, NewJob
from mpdispatch.store import SQLiteStore
from mpdispatch.store.values import Progress

from .store.conftest import Desk, completed, failed, retrying
from .terminal import on_terminal

Mp = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mp:
    """Runs the command line in this process, in the folder of the store: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MPDISPATCH_")]:
        monkeypatch.delenv(name)

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(args)
        found = capsys.readouterr()
        return int(ended.value.code or 0), found.out, found.err

    return run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "mpdispatch.db")
    store.check(create=True)
    yield store
    store.close()


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
