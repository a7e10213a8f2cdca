"""Whatever happens to the files beside the store while a supervisor runs, it goes on, and its jobs are recorded once."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from mpdispatch.host import start_journal
from mpdispatch.host.journal_reader import JournalReader
from mpdispatch.host.start_journal import journal_path
from mpdispatch.model import Cause, JobState
from mpdispatch.pool.recovered import recover
from tests.pool.probes import lives
from tests.supervisor.conftest import Build
from tests.supervisor.house import House


def _side(house: House) -> Path:
    return house.folder / "jobs.db-mpd"


def _holding(house: House, tmp_path: Path, **options: object) -> int:
    job_id = house.enqueue("hold", options or None, started=tmp_path / "started", gate=tmp_path / "gate")
    house.until((tmp_path / "started").exists)
    return job_id


def _remove(house: House, what: str) -> None:
    match what:
        case "the folder":
            shutil.rmtree(_side(house))
        case "the start journal":
            journal_path(_side(house), house.owner).unlink()
        case "all files":
            for path in _side(house).iterdir():
                path.unlink()
        case "the start journal, and another is there":
            journal_path(_side(house), house.owner).unlink()
            journal_path(_side(house), house.owner).write_bytes(b"x" * 5000)


def _beat(house: House) -> None:
    house.clock.advance(house.config.heartbeat_interval)
    house.steps(2)


@pytest.mark.parametrize(
    "what", ["the folder", "the start journal", "all files", "the start journal, and another is there"]
)
def test_what_is_removed_is_made_anew_and_ends_no_job(build: Build, tmp_path: Path, what: str) -> None:
    house = build(config={"poll_interval": 30})
    job_id = _holding(house, tmp_path, max_retries=0)
    (worker,) = house.workers
    before = house.owner
    _remove(house, what)
    _beat(house)
    assert lives(worker.pid)
    (tmp_path / "gate").touch()
    (job,) = house.ended(job_id)
    assert (job.state, job.starts, house.owner) == (JobState.COMPLETED, 1, before)
    # It cannot begin another where nobody would see that; whoever takes its place can, and is told at once.
    house.until(lambda: not lives(worker.pid))
    for _ in range(3):
        (job,) = house.ended(house.enqueue("noop"))
        assert (job.state, job.starts) == (JobState.COMPLETED, 1)


def test_an_idle_supervisor_whose_folder_was_removed_is_told_of_jobs_at_once(build: Build) -> None:
    house = build(config={"poll_interval": 30})
    house.ready()
    shutil.rmtree(_side(house))
    _beat(house)
    house.steps(20)
    house.ended(house.enqueue("noop"))
    assert {"lock", f"wake.{house.owner}", f"marks.{house.owner}"} <= set(os.listdir(_side(house)))


def test_what_had_begun_when_the_mark_file_was_removed_is_still_known_to_have(
    build: Build, tmp_path: Path
) -> None:
    house = build(config={"prefetch_window": 5.0})
    house.ended(house.enqueue("hold", started=tmp_path / "first", gate="/"))  # known to be short: it may queue
    job_id = _holding(house, tmp_path)
    waiting = [house.enqueue("hold", started=tmp_path / name, gate=tmp_path / "gate") for name in "ab"]
    house.until(lambda: len(house.workers[0].assigned) == 3)
    _remove(house, "the start journal")
    _beat(house)
    with closing(JournalReader(journal_path(_side(house), house.owner))) as journal:
        evidence = recover(journal)
    assert evidence is not None
    assert (job_id, 1) in evidence.started
    assert not {(each, 1) for each in waiting} & set(evidence.started)
    (tmp_path / "gate").touch()
    assert [job.state for job in house.ended(job_id, *waiting)] == [JobState.COMPLETED] * 3


def test_a_full_disk_while_the_mark_file_is_made_anew_is_survived(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = build()
    job_id = _holding(house, tmp_path, max_retries=0)
    _remove(house, "the start journal")
    with monkeypatch.context() as patched:
        patched.setattr(start_journal.os, "posix_fallocate", _full)
        _beat(house)
        house.steps(5)
        assert house.report is None
        assert not journal_path(_side(house), house.owner).exists()
    house.clock.advance(1)
    house.until(journal_path(_side(house), house.owner).exists)
    (tmp_path / "gate").touch()
    assert house.ended(job_id)[0].state is JobState.COMPLETED


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_keeps_workers_from_jobs_says_so_once_and_ends_nothing(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As much as one worker needs is there.
    house = build(config={"concurrency": 2})
    job_id = _holding(house, tmp_path, max_retries=0)
    with monkeypatch.context() as patched:
        patched.setattr(start_journal.os, "posix_fallocate", _full)
        other = house.enqueue("noop")
        house.until(lambda: len(house.workers) == 2)
        for _ in range(10):
            house.clock.advance(0.6)
            house.steps(2)
        assert len(house.runtime.pool.ready) == 1
        assert house.report is None
        said = [each for each in caplog.records if "no room on the disk" in each.getMessage()]
        assert [each.levelno for each in said] == [logging.ERROR]
    house.clock.advance(1)
    assert house.ended(other)[0].state is JobState.COMPLETED
    (tmp_path / "gate").touch()
    assert house.ended(job_id)[0].starts == 1
    assert any("room on the disk for all workers again" in each.getMessage() for each in caplog.records)


@pytest.mark.parametrize("size", [0, 4096 + 100])
def test_a_mark_file_that_was_cut_is_a_lost_lease_and_no_end(house: House, tmp_path: Path, size: int) -> None:
    job_id = _holding(house, tmp_path, max_retries=0)
    before = house.owner
    os.truncate(journal_path(_side(house), before), size)
    house.until(lambda: house.owner != before)
    (job,) = house.ended(job_id)
    # Nobody knows any more what its worker had begun.
    assert (job.state, house.causes(job_id)) == (JobState.FAILED, [Cause.LEASE_LOST])
    assert house.ended(house.enqueue("noop"))[0].state is JobState.COMPLETED
