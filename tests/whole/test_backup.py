"""Backups under load, and what becomes of a supervisor that meets one in its store's place. Real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.whole.harness import CLI, PYTHON, Place, processes_in, until

ENQUEUE = """
import pathlib, time
import tasks
while not pathlib.Path("enough").exists():
    tasks.engine.enqueue("plain", n=1)
"""


def test_a_backup_under_load_opens_and_goes_on(place: Place) -> None:
    """While a supervisor drains and four processes enqueue."""
    place.supervising("-c", "2")
    place.app.engine.enqueue_many("plain", [{"n": n} for n in range(20_000)])
    enqueuers = [place.start([PYTHON, "-c", ENQUEUE]) for _ in range(4)]
    until(lambda: sum(place.counts().values()) > 20_100, "they enqueue")
    (place.folder / "there").mkdir()
    made = []
    for number in range(3):
        done = place.cli("backup", f"there/{number}.db", "--store", "jobs.db", "--json")
        assert done.returncode == 0, done.stderr
        made.append(json.loads(done.stdout))
    (place.folder / "enough").touch()
    assert [each.ended() for each in enqueuers] == [0] * 4, [each.err for each in enqueuers]
    assert [each["jobs"] for each in made] == sorted({each["jobs"] for each in made}), (
        "each later than the last"
    )
    other = Place(place.folder / "there", source=(place.folder / "tasks.py").read_text())
    try:
        assert sorted(path.name for path in other.folder.glob("*.db*")) == ["0.db", "1.db", "2.db"]
        os.rename(other.folder / "2.db", other.db)
        assert sum(other.counts().values()) == made[-1]["jobs"]
        assert other.drain("-c", "2") == 0
        assert other.counts()["completed"] == made[-1]["jobs"]
        other.assert_sound()
    finally:
        other.close()


@pytest.mark.parametrize("is_renamed", [True, False], ids=["renamed over", "copied over"])
def test_a_stopped_supervisor_writes_nothing_to_a_backup_in_its_place(place: Place, is_renamed: bool) -> None:
    supervisor = place.supervising("-c", "1", heartbeat_interval=0.3)
    running = place.app.until_file.enqueue(name="go").id
    place.started(running)
    place.app.engine.backup(place.folder / "backup.db")
    later = place.app.plain.enqueue()
    place.app.engine.store.close_all()
    supervisor.kill(signal.SIGSTOP)
    for suffix in ("-wal", "-shm"):
        Path(f"{place.db}{suffix}").unlink()
    before = (place.folder / "backup.db").read_bytes()
    if is_renamed:
        os.replace(place.folder / "backup.db", place.db)
    else:
        shutil.copyfile(place.folder / "backup.db", place.db)
    time.sleep(1.1)  # its last look at the log is longer ago
    supervisor.kill(signal.SIGCONT)
    assert supervisor.ended() == 74
    assert "was deleted or replaced while in use" in supervisor.err
    assert place.db.read_bytes() == before
    until(lambda: not [pid for pid in processes_in(place.folder) if pid != os.getpid()], "its workers are gone")
    (place.folder / "go").touch()
    # What ran at that moment runs again; what came later is not in the backup.
    assert place.drain("-c", "1") == 0
    assert place.job(running).state == "completed"
    assert place.job(running).starts == 2
    assert sum(place.counts().values()) == 2
    assert later.id not in {each.id for each in place.app.engine.list_jobs().items}
    place.assert_sound()


def test_without_room_nothing_is_left_and_the_store_goes_on(place: Place, small_disk: Path) -> None:
    payload = "x" * 4000
    place.app.engine.enqueue_many("until_file", [{"name": payload} for _ in range(1500)])
    done = place.cli("backup", "disk/copy.db", "--store", "jobs.db")
    assert (done.returncode, done.stdout) == (74, "")
    assert "disk is full" in done.stderr
    assert list(small_disk.iterdir()) == []
    place.assert_sound()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_backup_leaves_no_copy(place: Place, number: int) -> None:
    place.app.engine.enqueue_many("until_file", [{"name": "x" * 4000} for _ in range(2000)])
    env = {"TESTS_OF_MPDISPATCH": "1", "MPDISPATCH_FAILPOINTS": "backup.step:sleep=0.2"}
    (place.folder / "there").mkdir()
    process = place.start([*CLI, "backup", "there/copy.db", "--store", "jobs.db"], env)
    until(lambda: list((place.folder / "there").iterdir()), "the copy has begun")
    process.kill(number)
    assert process.ended() == 128 + number
    assert list((place.folder / "there").iterdir()) == []


@pytest.mark.parametrize(
    ("destination", "code"), [("jobs.db", 73), ("there", 73), ("nowhere/a.db", 73), ("tasks.py", 73), ("", 2)]
)
def test_the_command_names_what_is_wrong_with_the_destination(
    place: Place, destination: str, code: int
) -> None:
    place.app.plain.enqueue()
    (place.folder / "there").mkdir()
    done = place.cli("backup", destination, "--store", "jobs.db")
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 1
    assert place.counts()["pending"] == 1
    assert place.cli("backup", "b.db", "--store", "none.db").returncode == 69
