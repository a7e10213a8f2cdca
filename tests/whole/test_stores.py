"""A store that is missing, foreign, damaged, from the future, read-only, full or gone: said clearly, nothing half done."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.whole.harness import CLI, PYTHON, Place, until

READERS = [["jobs"], ["stats"], ["show", "1"], ["wait", "1"], ["cancel", "1"], ["pause", "default"]]
SUPERVISE = ["supervise", "tasks:engine", "--drain"]


def refused(place: Place, argv: Sequence[str], code: int, said: str = "jobs.db") -> None:
    done = place.cli(*argv, "--store", "jobs.db")
    assert done.returncode == code, (argv, done)
    assert "Traceback" not in done.stderr
    assert said in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) <= 2, done.stderr


@pytest.mark.parametrize("argv", READERS, ids=" ".join)
def test_reading_a_missing_store_exits_69_and_creates_nothing(place: Place, argv: list[str]) -> None:
    refused(place, argv, 69)
    assert [path.name for path in place.folder.iterdir()] == ["tasks.py"]


@pytest.mark.parametrize("argv", [["jobs"], SUPERVISE, ["enqueue", "x"], ["migrate"]], ids=" ".join)
def test_a_store_of_a_newer_version_exits_78_and_stays_as_it_is(place: Place, argv: list[str]) -> None:
    assert place.cli("enqueue", "x", "--store", "jobs.db").returncode == 0
    place.sql("UPDATE mpdispatch_meta SET value = '999' WHERE key = 'schema_version'")
    refused(place, argv, 78, "999")
    assert place.sql(
        "SELECT count(*), max(value) FROM mpdispatch_jobs, mpdispatch_meta WHERE key = 'schema_version'"
    ) == [[1, "999"]]


@pytest.mark.parametrize("argv", [["jobs"], SUPERVISE, ["enqueue", "x"], ["migrate"]], ids=" ".join)
def test_a_database_of_somebody_else_exits_65_and_gets_no_tables(place: Place, argv: list[str]) -> None:
    place.sql("CREATE TABLE customers (name TEXT)", "SELECT 1")
    refused(place, argv, 65)
    assert place.sql("SELECT name FROM sqlite_master") == [["customers"]]


@pytest.mark.parametrize("argv", [["jobs"], SUPERVISE, ["enqueue", "x"], ["migrate"]], ids=" ".join)
def test_a_file_that_is_no_database_exits_65_and_stays_as_it_is(place: Place, argv: list[str]) -> None:
    place.db.write_text("Dear diary, today I did not write a database.\n" * 100)
    before = place.db.read_bytes()
    refused(place, argv, 65)
    assert place.db.read_bytes() == before


@pytest.mark.parametrize("argv", [["jobs", "--all"], SUPERVISE, ["enqueue", "x"]], ids=" ".join)
def test_a_damaged_store_exits_65(place: Place, argv: list[str]) -> None:
    place.app.plain.enqueue_many({"n": n} for n in range(2000))
    assert place.drain("-c", "1") == 0
    place.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    size = place.db.stat().st_size
    with place.db.open("r+b") as file:  # every page but the first
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    refused(place, argv, 65)


def test_a_folder_where_the_store_should_be_is_said(place: Place) -> None:
    place.db.mkdir()
    for argv in (["jobs"], ["enqueue", "x"], SUPERVISE):
        refused(place, argv, 73)


def test_a_folder_that_does_not_exist_exits_73(place: Place) -> None:
    for argv in (["enqueue", "x"], SUPERVISE):
        done = place.cli(*argv, "--store", "nowhere/jobs.db")
        assert (done.returncode, done.stdout) == (73, ""), done
        assert "nowhere" in done.stderr
        assert "Traceback" not in done.stderr


def without_power(argv: Sequence[str]) -> list[str]:
    """The command without root's leave to write anywhere."""
    if os.geteuid() != 0:
        return list(argv)
    if shutil.which("setpriv") is None:
        pytest.skip("root, and no setpriv")
    less = "-dac_override,-dac_read_search,-fowner"
    return ["setpriv", f"--bounding-set={less}", f"--inh-caps={less}", *argv]


@pytest.mark.parametrize("argv", [["enqueue", "x"], SUPERVISE, ["migrate"]], ids=" ".join)
def test_a_read_only_folder_exits_77_naming_it(place: Place, argv: list[str]) -> None:
    folder = place.folder / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    process = place.start(without_power([*CLI, *argv, "--store", "locked/jobs.db"]))
    assert process.ended() == 77, process.err
    assert "locked" in process.err
    assert "Traceback" not in process.err
    assert list(folder.iterdir()) == []


def test_a_read_only_store_exits_77(place: Place) -> None:
    place.app.plain.enqueue()
    place.db.chmod(0o444)
    for argv in (["enqueue", "x"], SUPERVISE):
        process = place.start(without_power([*CLI, *argv, "--store", "jobs.db"]))
        assert process.ended() == 77, process.err
        assert "jobs.db" in process.err
        assert "Traceback" not in process.err


def test_a_store_deleted_under_a_running_supervisor_exits_74_within_a_heartbeat(place: Place) -> None:
    supervisor = place.supervising("-c", "1", heartbeat_interval=0.5, stale_job_threshold=5)
    place.started(place.app.until_file.enqueue("never").id)
    place.db.unlink()
    assert supervisor.ended(3) == 74
    assert "Traceback" not in supervisor.err
    assert not place.db.exists()
    assert place.left_over() == []


def test_a_client_does_not_acknowledge_into_a_deleted_store(place: Place) -> None:
    from mpdispatch import StoreError

    place.app.plain.enqueue()
    place.db.unlink()
    with pytest.raises(StoreError) as caught:
        place.app.plain.enqueue()
    assert caught.value.exit_code in (69, 74)


def test_a_store_replaced_under_a_running_supervisor_exits_74(place: Place) -> None:
    supervisor = place.supervising("-c", "1", heartbeat_interval=0.5, stale_job_threshold=5)
    other = Place(Path(tempfile.mkdtemp(dir=place.folder)))
    other.app.plain.enqueue()
    other.db.replace(place.db)
    assert supervisor.ended(3) == 74


def test_eight_first_starts_and_eight_enqueuers_at_once_make_one_store(place: Place) -> None:
    writers = [place.start([*CLI, "enqueue", "quick", f"n:={n}", "--store", "jobs.db"]) for n in range(8)]
    starts = [place.supervise("--drain", "-c", "1") for _ in range(8)]
    assert [each.ended(60) for each in writers] == [0] * 8, [each.err for each in writers]
    assert [each.ended(60) for each in starts] == [0] * 8, [
        each.err for each in starts if each.popen.returncode
    ]
    assert sorted(int(each.out) for each in writers) == list(range(1, 9))
    assert place.drain("-c", "1") == 0  # for a job that came after the last of them had drained
    jobs = place.json("jobs", "--all")
    assert sorted((job["result"], job["starts"]) for job in jobs) == [(n, 1) for n in range(8)]
    place.assert_sound()


def test_supervisors_start_while_others_enqueue_without_a_pause(place: Place) -> None:
    code = "import tasks\nwhile True: tasks.plain.options(delay=3600).enqueue()"
    writers = [place.start([PYTHON, "-c", code]) for _ in range(2)]
    place.app.plain.enqueue()
    until(lambda: place.counts()["scheduled"] > 20, "they enqueue")
    for n in range(4):
        supervisor = place.supervise("-c", "1")
        assert place.complete(place.app.quick.enqueue(n=n).id).result == n, supervisor.err
        supervisor.kill(signal.SIGTERM)
        assert supervisor.ended() == 0
    for writer in writers:
        writer.kill()


def test_a_supervisor_that_finds_the_file_locked_waits_for_its_turn(place: Place) -> None:
    job_id = place.app.quick.enqueue(n=3).id
    holder = place.hold_write_lock()
    supervisor = place.supervise("--drain", "-c", "1")
    until(lambda: supervisor.workers, "its workers are up")
    with pytest.raises(AssertionError, match="did not end"):
        supervisor.ended(2)
    holder.kill()
    assert supervisor.ended() == 0
    assert place.job(job_id).result == 3


def test_the_store_is_readable_by_its_owner_only(place: Place) -> None:
    place.app.plain.enqueue()
    for path in place.folder.glob("jobs.db*"):
        assert path.stat().st_mode & 0o077 == 0, path


def fill(kept: list[int], handle: Any) -> None:
    """Enqueue until it raises, remembering what was acknowledged."""
    while True:
        kept.append(handle.enqueue().id)


def test_a_full_disk_acknowledges_nothing_and_goes_on_when_there_is_room(
    place: Place, small_disk: Path
) -> None:
    from mpdispatch import StoreFull

    tasks = place.folder / "tasks.py"
    tasks.write_text(tasks.read_text().replace('HERE / "jobs.db"', 'HERE / "disk" / "jobs.db"'))
    place.db = small_disk / "jobs.db"
    supervisor = place.supervising("-c", "2", heartbeat_interval=0.3, stale_job_threshold=30)
    running = place.app.until_file.options(max_retries=0).enqueue("go").id
    place.started(running)
    ballast = small_disk / "ballast"
    kept: list[int] = []
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    with pytest.raises(StoreFull):
        fill(kept, place.app.plain.options(delay=3600))
    (place.folder / "go").touch()
    until(lambda: any(r[:2] == ("end", running) for r in place.records), "the job ends on a full disk")
    until(lambda: "full" in supervisor.err, "the supervisor says so")
    assert supervisor.popen.poll() is None
    ballast.unlink()
    assert place.complete(running).starts == 1
    assert place.complete(place.app.quick.enqueue(n=7).id).result == 7
    assert place.counts()["scheduled"] == len(kept)
    supervisor.kill(signal.SIGTERM)
    assert supervisor.ended() == 0
