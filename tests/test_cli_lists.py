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
