"""The judge sees what it is there to see."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.whole.harness import Place, overlaps, processes_in
from tests.whole.storm import Storm, judge


def test_two_executions_of_a_job_at_once_are_seen() -> None:
    rows = [("start", 1, 1, 10, 100), ("start", 1, 2, 11, 150), ("end", 1, 1, 10, 200), ("end", 1, 2, 11, 300)]
    assert len(overlaps(rows, {})) == 1


def test_one_that_was_killed_counts_until_its_death() -> None:
    rows = [("start", 1, 1, 10, 100), ("start", 1, 2, 11, 150), ("end", 1, 2, 11, 300)]
    assert overlaps(rows, {10: 160})
    assert not overlaps(rows, {10: 140})


def test_other_jobs_and_one_after_the_other_are_fine() -> None:
    rows = [
        ("start", 1, 1, 10, 100),
        ("end", 1, 1, 10, 150),
        ("start", 2, 1, 11, 120),
        ("start", 1, 2, 11, 160),
    ]
    assert not overlaps(rows, {})


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ("", "completed without"),
        ("start 1 1 10 100\nend 1 1 10 110\nstart 1 2 11 120\nend 1 2 11 130\n", r"\('start', 1, 1, 10"),
        ("start 1 1 10 100\nstart 1 2 11 105\nend 1 1 10 110\nend 1 2 11 120\n", "until 110"),
    ],
    ids=["never ran", "repeated without a kill", "ran twice at once"],
)
def test_bad_records_are_judged(place: Place, records: str, said: str) -> None:
    job_id = place.app.plain.enqueue().id
    assert place.drain("-c", "1") == 0
    (place.folder / "records").write_text(records)
    with pytest.raises(AssertionError, match=said):
        judge(place, Storm(0), [job_id])


def test_a_lost_job_is_judged(place: Place) -> None:
    place.app.plain.enqueue()
    with pytest.raises(AssertionError, match="pending"):
        judge(place, Storm(0), [1])


def test_a_process_left_over_is_seen(place: Place, tmp_path: Path) -> None:
    sleeper = place.start(["sleep", "60"])
    assert processes_in(tmp_path) == [sleeper.pid]
    assert os.getpid() not in processes_in(Path.cwd())
