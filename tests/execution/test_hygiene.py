"""What a job changed for the whole process is put back; what cannot be asks for another worker."""

from __future__ import annotations

import gc
import importlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpdispatch.execution.hygiene import Hygiene


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    kept = Hygiene()
    yield
    kept.restore()


def test_nothing_changed_gives_nothing() -> None:
    hygiene = Hygiene()
    for _ in range(20):  # the seldom looks included
        assert hygiene.restore() == []
    assert not hygiene.recycle_reasons


def test_the_working_folder_comes_back(tmp_path: Path) -> None:
    hygiene = Hygiene()
    before = os.getcwd()
    os.chdir(tmp_path)
    assert hygiene.restore() == [f"working folder {tmp_path}"]
    assert os.getcwd() == before


def test_a_deleted_working_folder_is_left(tmp_path: Path) -> None:
    hygiene = Hygiene()
    folder = tmp_path / "gone"
    folder.mkdir()
    os.chdir(folder)
    folder.rmdir()
    assert hygiene.restore() == ["working folder (deleted)"]


def test_a_home_folder_that_is_gone_asks_for_a_new_worker(tmp_path: Path) -> None:
    before, home = os.getcwd(), tmp_path / "home"
    home.mkdir()
    os.chdir(home)
    try:
        hygiene = Hygiene()
        os.chdir(before)
        home.rmdir()
        hygiene.restore()
        assert "cannot go back" in hygiene.recycle_reasons[0]
    finally:
        os.chdir(before)


def test_a_worker_may_begin_in_a_folder_that_is_gone(tmp_path: Path) -> None:
    # That of a release which was replaced under its supervisor.
    home, gone = Path.cwd(), tmp_path / "release"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    try:
        hygiene = Hygiene()
        assert hygiene.restore() == []
        os.chdir(tmp_path)
        assert hygiene.restore() == [f"working folder {tmp_path}"]
        assert hygiene.recycle_reasons, "the next job is to begin as this one did"
    finally:
        os.chdir(home)


def test_umask_and_recursion_limit_come_back() -> None:
    hygiene = Hygiene()
    umask, limit = os.umask(0o007), sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 7)
    assert hygiene.restore() == ["umask 0007", f"recursion limit {limit + 7}"]
    assert os.umask(umask) == umask
    assert sys.getrecursionlimit() == limit


def test_the_environment_comes_back() -> None:
    hygiene = Hygiene()
    path = os.environ["PATH"]
    os.environ["PATH"] = "/nowhere"
    os.environ["MADE_BY_JOB"] = "1"
    assert hygiene.restore() == ["environment MADE_BY_JOB, PATH"]
    assert os.environ["PATH"] == path
    assert "MADE_BY_JOB" not in os.environ
    del os.environ["PATH"]
    assert hygiene.restore() == ["environment PATH"]
    assert os.environ["PATH"] == path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD])
def test_signal_handlers_come_back(number: signal.Signals) -> None:
    hygiene = Hygiene()
    before = signal.getsignal(number)
    signal.signal(number, lambda *_: None)
    assert hygiene.restore() == [f"handler of {number.name}"]
    assert signal.getsignal(number) == before


def test_an_alarm_left_behind_is_off_before_its_handler_is() -> None:
    hygiene = Hygiene()
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 600)
    hygiene.restore()
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_thread_left_running_asks_for_a_new_worker_and_a_daemon_does_not() -> None:
    hygiene = Hygiene()
    stop = threading.Event()
    daemon = threading.Thread(target=stop.wait, daemon=True)
    daemon.start()
    hygiene.restore()
    assert not hygiene.recycle_reasons
    thread = threading.Thread(target=stop.wait, name="left-over")
    thread.start()
    hygiene.restore()
    stop.set()
    for each in (thread, daemon):
        each.join()
    assert hygiene.recycle_reasons == ["threads left running: left-over"]


@pytest.mark.parametrize(
    "limit", [resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_STACK, resource.RLIMIT_MEMLOCK]
)
def test_a_changed_resource_limit_comes_back(limit: int) -> None:
    hygiene = Hygiene()
    soft, hard = resource.getrlimit(limit)
    changed = 64 * 1024 if soft == resource.RLIM_INFINITY else soft - 1 if soft > 0 else soft + 1
    resource.setrlimit(limit, (changed, hard))
    try:
        assert len(hygiene.restore()) == 1
        assert resource.getrlimit(limit) == (soft, hard)
    finally:
        resource.setrlimit(limit, (soft, hard))
    assert not hygiene.recycle_reasons


def test_a_finder_of_a_module_that_a_job_was_first_to_import_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As six does: it is imported once, so its later users would not find what it brings.
    (tmp_path / "brings_a_finder.py").write_text(
        "import sys\nclass Finder:\n    def find_spec(self, *_): return None\nsys.meta_path.append(Finder())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)
    hygiene = Hygiene()
    try:
        module = importlib.import_module("brings_a_finder")
        hygiene.restore()
        assert [type(each) for each in sys.meta_path if each not in before] == [module.Finder]
        assert hygiene.restore() == [], "it is known from then on"
    finally:
        sys.meta_path[:] = before
        sys.modules.pop("brings_a_finder", None)


def test_a_copy_that_is_gone_opens_nothing_wrong(tmp_path: Path) -> None:
    """A number of ours that the job has closed can be another file by now: that is not put in the place of stdin."""
    gc.collect()  # else a descriptor that an earlier test has left is closed here, and its number used again
    kept = os.dup(0)
    before = {number for number in range(256) if _is_open(number)}
    hygiene = Hygiene()
    ours = [number for number in range(256) if number not in before and _is_open(number)]
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    try:
        for number in ours:
            os.dup2(other, number)
        os.dup2(other, 0)
        hygiene.restore()
        assert hygiene.recycle_reasons == ["cannot open again: descriptor 0"]
    finally:
        os.dup2(kept, 0)
        for number in (kept, other, *ours):
            os.close(number)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
