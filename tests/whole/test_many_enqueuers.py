"""Two hundred commands that enqueue at once, as in two hundred crontabs, beside a supervisor that runs the jobs."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.whole.harness import CLI, Place, until


@pytest.mark.serial
def test_two_hundred_enqueue_commands_at_once_make_two_hundred_jobs(place: Place) -> None:
    place.supervising("-c", "2")
    command = [*CLI, "enqueue", "quick", "--store", "jobs.db", "--json"]
    started = [
        subprocess.Popen(
            [*command, f"n:={n}"],
            cwd=place.folder,
            env=place.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for n in range(200)
    ]
    answers = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * 200, answers
    assert {err for _, err in answers} == {b""}
    jobs = [json.loads(out) for out, _ in answers]
    assert len({job["id"] for job in jobs}) == 200
    assert [job["payload"] for job in jobs] == [{"n": n} for n in range(200)]
    for job in jobs:
        assert place.complete(job["id"]).result == job["payload"]["n"]
    until(lambda: place.unended() == 0, "nothing is left")
    starts = [row[1] for row in place.records if row[0] == "start"]
    assert sorted(starts) == sorted(job["id"] for job in jobs), "each ran once"
    place.assert_sound()
