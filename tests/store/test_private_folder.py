"""The side folder and what is in it are ours alone, or nothing in it is believed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mpdispatch.errors import StorePermission
from mpdispatch.host.journal_reader import JournalReader
from mpdispatch.host.processes import pid_namespace
from mpdispatch.host.start_journal import Journal, journal_path
from mpdispatch.host.wake import FifoListener, FifoWake
from mpdispatch.host.worker_record import WorkerRecord
from mpdispatch.ids import boot_id, host_name, machine_id
from mpdispatch.private import NotPrivateError
from mpdispatch.store import SQLiteStore

from .conftest import TTL_US, registration
from .test_sqlite_opening import JOB

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
OTHER = 4711
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def of_another(folder: Path) -> None:
    os.chown(folder, OTHER, OTHER)


def writable(folder: Path) -> None:
    folder.chmod(0o777)


def writable_by_group(folder: Path) -> None:
    folder.chmod(0o770)


def linked(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


FORGED = [
    pytest.param(of_another, f"belongs to user {OTHER}, and this is user 0", id="of another", marks=as_root),
    pytest.param(writable, "can be written by others (drwxrwxrwx); chmod 700 ", id="writable"),
    pytest.param(writable_by_group, "can be written by others (drwxrwx---)", id="writable by group"),
    pytest.param(linked, "is a symbolic link", id="linked"),
]


@pytest.fixture
def side_dir(path: Path) -> Path:
    SQLiteStore(path).migrate()
    return Path(f"{path}-mpd")


@pytest.mark.parametrize(("forge", "why"), FORGED)
def test_a_folder_that_is_not_ours_alone_is_refused(
    path: Path, side_dir: Path, forge: Callable[[Path], None], why: str
) -> None:
    forge(side_dir)
    store = SQLiteStore(path)
    for refused in (
        lambda: store.enqueue(JOB),
        lambda: store.supervisor_store().register(registration(), TTL_US),
    ):
        with pytest.raises(StorePermission) as found:
            refused()  # type: ignore[no-untyped-call]
        assert why in str(found.value)
        assert str(side_dir) in str(found.value)
    assert store.counts().get("pending", 0) == 0
    store.close()


@pytest.mark.parametrize(("forge", "why"), FORGED)
def test_the_command_line_refuses_it_with_77_and_doctor_tells(
    cli: Cli, path: Path, side_dir: Path, forge: Callable[[Path], None], why: str
) -> None:
    forge(side_dir)
    for arguments in (["enqueue", "render"], ["supervise", "--allow-commands", "--drain"]):
        done = cli(*arguments, "--store", str(path))
        assert (done.returncode, done.stdout) == (77, ""), done.stderr
        assert why in done.stderr
    done = cli("doctor", "--store", str(path), "--json")
    assert done.returncode == 1
    found = [each for each in json.loads(done.stdout)["findings"] if str(side_dir) in each["message"]]
    assert [(each["level"], each["check"]) for each in found] == [("error", "permissions")]
    assert why in f"{found[0]['message']}; {found[0]['remedy']}"


@as_root
def test_a_file_in_it_that_is_not_ours_alone_is_refused_and_doctor_tells(
    cli: Cli, path: Path, side_dir: Path
) -> None:
    for forge in (of_another, lambda file: file.chmod(0o666)):
        forge(side_dir / "lock")
        with pytest.raises(StorePermission, match=r"lock.*(belongs to user 4711|can be written by others)"):
            SQLiteStore(path).enqueue(JOB)
        assert str(side_dir / "lock") in cli("doctor", "--store", str(path)).stdout
        (side_dir / "lock").unlink()
        SQLiteStore(path).migrate()
    SQLiteStore(path).enqueue(JOB)


def test_a_writer_that_works_already_notices_a_folder_that_is_exchanged(path: Path, side_dir: Path) -> None:
    store = SQLiteStore(path)
    store.enqueue(JOB)
    for each in side_dir.iterdir():
        each.unlink()
    side_dir.rmdir()
    side_dir.mkdir()
    side_dir.chmod(0o777)
    with pytest.raises(StorePermission, match="can be written by others"):
        store.enqueue(JOB)
    assert list(side_dir.iterdir()) == []
    side_dir.chmod(0o700)
    assert store.enqueue(JOB).id == 2
    store.close()


@pytest.mark.parametrize(("forge", "why"), FORGED)
def test_no_journal_of_it_is_read_made_or_written(
    side_dir: Path, forge: Callable[[Path], None], why: str
) -> None:
    path = journal_path(side_dir, 1)
    Journal(path, 1, token="t").close(remove=False)
    forge(side_dir)
    for refused in (
        lambda: JournalReader(path),
        lambda: WorkerRecord.attach(str(path), 0),
        lambda: Journal(journal_path(side_dir, 2), 1, token="t"),
    ):
        with pytest.raises(NotPrivateError) as found:
            refused()  # type: ignore[no-untyped-call]
        assert why in str(found.value)
    assert not journal_path(side_dir, 2).exists()


@as_root
def test_a_journal_another_wrote_in_our_folder_proves_nothing(side_dir: Path) -> None:
    path = journal_path(side_dir, 1)
    Journal(path, 1, token="t").close(remove=False)
    os.chown(path, OTHER, OTHER)
    with pytest.raises(NotPrivateError, match=r"belongs to user 4711.*remove it"):
        JournalReader(path)


@pytest.mark.parametrize(("forge", "why"), FORGED)
def test_nobody_is_woken_through_it_or_listens_there(
    side_dir: Path, forge: Callable[[Path], None], why: str
) -> None:
    wake = FifoWake(lambda: side_dir)
    listeners = [wake.listen(1), wake.listen_for_ends()]
    wake.notify()
    wake.notify_of_ends()
    for each in listeners:
        assert each is not None
        assert os.read(each.fileno(), 9) == b"!"
    wake.close()
    forge(side_dir)
    late = FifoWake(lambda: side_dir)
    late.notify()
    late.notify_of_ends()
    for each in listeners:
        assert each is not None
        with pytest.raises(BlockingIOError):
            os.read(each.fileno(), 9)
        each.close()
    with pytest.raises(NotPrivateError):
        FifoListener(side_dir / "wake.2")
    assert late.listen(2) is None
    assert late.listen_for_ends() is None
    late.close()


@as_root
def test_a_journal_that_another_user_forged_kills_nobody(cli: Cli, path: Path, side_dir: Path) -> None:
    """In a sticky folder he made it first: it says that a bystander is the worker of a supervisor that has died."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    supervisor_store = SQLiteStore(path).supervisor_store()
    dead = registration(
        host=host_name(),
        machine_id=machine_id(),
        boot_id=boot_id(),
        pid=gone.pid,
        pid_start=1,
        pid_namespace=pid_namespace(),
    )
    owner = supervisor_store.register(dead, TTL_US)
    supervisor_store.close()
    journal = Journal(journal_path(side_dir, owner), 1, token="")
    code = "import sys, time; from mpdispatch.host.start_journal import WorkerRecord;"
    code += "WorkerRecord.attach(sys.argv[1], 0); print(flush=True);"
    bystander = subprocess.Popen(
        [sys.executable, "-c", f"{code} time.sleep(600)", str(journal.path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    try:
        assert bystander.stdout is not None
        bystander.stdout.readline()
        journal.close(remove=False)
        for each in (side_dir, *side_dir.iterdir()):
            os.chown(each, OTHER, OTHER)
        done = cli("supervise", "--allow-commands", "--drain", "--store", str(path))
        assert bystander.poll() is None, "killed by a supervisor that believed a stranger"
        assert done.returncode == 77, done.stderr
    finally:
        bystander.kill()
        bystander.communicate()
