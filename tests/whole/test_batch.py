"""A real batch: every file of a standard library, parsed by jobs as by plain calls."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from tests.whole.harness import Place, is_alive

FILES = 2000


def sources() -> list[str]:
    """Two thousand small Python files of this interpreter's standard library; repeated if it has fewer."""
    library = Path(sysconfig.get_path("stdlib"))
    found = sorted(str(path) for path in library.rglob("*.py") if path.stat().st_size < 12_000)
    return (found * (FILES // len(found) + 1))[:FILES]


@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_two_thousand_files_give_what_the_plain_function_gives(place: Place) -> None:
    paths = sources()
    batch = place.app.measure.enqueue_many({"path": path} for path in paths)
    assert batch.count == FILES
    assert place.drain("-c", "2") == 0
    jobs = {job["id"]: job for job in place.json("jobs", "--all")}
    assert {job["state"] for job in jobs.values()} == {"completed"}
    assert all(job["starts"] == 1 for job in jobs.values())
    plain = {path: place.app.measured(path) for path in set(paths)}
    for job_id, path in zip(batch, paths, strict=True):
        assert jobs[job_id]["payload"] == {"path": path}
        assert jobs[job_id]["result"] == plain[path], path
    place.assert_sound()
    assert place.left_over() == []
    assert not any(is_alive(job["worker_pid"]) for job in jobs.values())
