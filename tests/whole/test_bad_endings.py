"""However a handler ends, its job has one recorded end, and the supervisor and the other workers go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.whole.harness import Place, Process, is_alive, state_of, until


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Process]]:
    """A supervisor with a short stale threshold, shared by the tests of this module."""
    place = Place(tmp_path_factory.mktemp("crowd"))
    try:
        yield place, place.supervising("-c", "3", stale_job_threshold=1, heartbeat_interval=0.3)
    finally:
        place.close()


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("sigkill", "WorkerDied", "SIGKILL"),
        ("sigsegv", "WorkerDied", "SIGSEGV"),
        ("sigabrt", "WorkerDied", "SIGABRT"),
        ("exit0", "WorkerDied", "status 0"),
        ("sys.exit", "SystemExit", "sys.exit(0)"),
        ("interrupt", "KeyboardInterrupt", ""),
        ("generator_exit", "GeneratorExit", ""),
        ("group", "BaseExceptionGroup", "all of it"),
        ("bad_str", "StrRaises", "str() failed"),
        ("recursion", "RecursionError", "recursion"),
        ("big_result", "ResultError", "20,000,002 bytes"),
        ("not_json", "ResultError", "object"),
        ("nan", "ResultError", "nan"),
        ("surrogate", "ResultError", "surrogate"),
        ("close_fds", "WorkerChannelLost", "worker"),
        ("close_all_fds", "WorkerChannelLost", "worker"),
    ],
)
def test_a_job_that_ends_badly_fails_once_with_its_cause(
    crowd: tuple[Place, Process], how: str, kind: str, text: str
) -> None:
    place, supervisor = crowd
    job = place.ended(place.app.end_badly.enqueue(how).id, "failed")
    assert job.last_error.type.rpartition(".")[2] == kind
    assert text in job.last_error.message
    assert (job.starts, job.attempt) == (1, 1)
    assert len(place.starts_of(job.id)) == 1
    assert supervisor.popen.poll() is None
    assert [a["cause"] for a in place.show(job.id)["attempts"]] in (["error"], ["worker_died"])


def test_a_child_forked_by_a_handler_cannot_answer_for_it(crowd: tuple[Place, Process]) -> None:
    place, _ = crowd
    assert place.complete(place.app.end_badly.enqueue("fork_return").id).result == "parent"


def test_every_job_of_a_mixed_crowd_ends_as_it_should(crowd: tuple[Place, Process]) -> None:
    place, _ = crowd
    good = [job_id for n in range(5) for job_id in [place.app.quick.enqueue(n=n).id]]
    bad = [place.app.end_badly.enqueue(how).id for how in ("sigkill", "exit0", "close_fds", "sigsegv")]
    good += [job_id for n in range(5) for job_id in [place.app.quick.enqueue(n=n).id]]
    assert [place.complete(job_id).result for job_id in good] == [0, 1, 2, 3, 4] * 2
    assert {str(place.ended(job_id).state) for job_id in bad} == {"failed"}
    assert all(len(place.starts_of(job_id)) == 1 for job_id in bad)


def test_a_job_holding_the_gil_for_three_stale_thresholds_is_not_rescued(crowd: tuple[Place, Process]) -> None:
    place, _ = crowd
    job_id = place.app.hold_gil.enqueue(3).id
    place.started(job_id)
    other = place.supervise("-c", "1", stale_job_threshold=1, heartbeat_interval=0.3)
    try:
        until(lambda: "registered" in other.err, "a neighbour watches")
        job = place.complete(job_id)
    finally:
        other.kill(15)
        assert other.ended() == 0
    assert (job.result, job.starts) == ("held", 1)
    assert len(place.starts_of(job_id)) == 1


def test_a_job_holding_the_gil_is_killed_at_its_timeout(crowd: tuple[Place, Process]) -> None:
    place, _ = crowd
    job = place.ended(place.app.spin_in_c.options(timeout=0.5).enqueue().id, "failed")
    assert job.last_error.type == "JobTimeout"
    lasted = (job.completed_at - job.started_at).total_seconds()
    print(f"timeout 0.5 s, kill grace 0.3 s: ended after {lasted:.3f} s")
    assert 0.8 <= lasted < 1.8


def test_a_stopped_worker_is_killed_at_its_jobs_timeout(crowd: tuple[Place, Process]) -> None:
    place, supervisor = crowd
    job_id = place.app.stop_self.options(timeout=1).enqueue().id
    pid = place.started(job_id)[3]
    until(lambda: state_of(pid) == "T", "the worker is stopped")
    job = place.ended(job_id, "failed")
    assert job.last_error.type == "JobTimeout"
    assert not is_alive(pid)
    assert len(place.starts_of(job_id)) == 1
    assert supervisor.popen.poll() is None


def test_a_job_ignoring_every_signal_and_exception_is_killed_at_its_timeout(
    crowd: tuple[Place, Process],
) -> None:
    place, _ = crowd
    job = place.ended(place.app.ignore_everything.options(timeout=0.5).enqueue().id, "failed")
    assert job.last_error.type == "JobTimeout"
    assert not is_alive(place.started(job.id)[3])


def test_a_daemonised_grandchild_ends_with_its_job(crowd: tuple[Place, Process]) -> None:
    place, _ = crowd
    pid = place.complete(place.app.daemonise.enqueue().id).result
    until(lambda: not is_alive(pid), "the grandchild is gone", within=1)


def test_a_daemonised_grandchild_ends_with_its_jobs_timeout(crowd: tuple[Place, Process]) -> None:
    place, _ = crowd
    (place.folder / "grandchild").unlink(missing_ok=True)
    job = place.ended(place.app.daemonise.options(timeout=0.5).enqueue(then_sleep=60).id, "failed")
    assert job.last_error.type == "JobTimeout"
    pid = int((place.folder / "grandchild").read_text())
    until(lambda: not is_alive(pid), "the grandchild is gone", within=1)


def test_a_child_in_its_own_session_ends_with_its_job(crowd: tuple[Place, Process]) -> None:
    place, _ = crowd
    pid = place.complete(place.app.leave_child.enqueue().id).result
    until(lambda: not is_alive(pid), "the child is gone", within=1)


def test_nothing_of_it_is_left_after_the_supervisor_was_told_to_stop(tmp_path: Path) -> None:
    place = Place(tmp_path)
    try:
        supervisor = place.supervising("-c", "2")
        pid = place.complete(place.app.daemonise.enqueue().id).result
        place.ended(place.app.end_badly.enqueue("close_all_fds").id)
        supervisor.kill(15)
        assert supervisor.ended() == 0
        assert not is_alive(pid)
        assert place.left_over() == []
        place.assert_sound()
    finally:
        place.close()
