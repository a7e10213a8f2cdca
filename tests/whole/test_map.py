"""`engine.map` with real processes: its own supervisor, and going on after a kill."""

from __future__ import annotations

from tests.whole.harness import PYTHON, Place, is_alive, until

CALLER = """
import sys
from tasks import engine, quick
for n, result in enumerate(engine.map(quick, range(400), name="sweep", window=60)):
    assert result == n, (n, result)
    print(n, flush=True)
"""


def test_without_a_supervisor_it_runs_one_for_the_time(place: Place) -> None:
    code = """
from tasks import engine, plain
assert list(engine.map(plain, range(300))) == list(range(300))
assert not engine.has_supervisor(), "it is stopped"
print(engine.workers())
"""
    done = place.python(code)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert place.counts()["completed"] == 300
    assert place.left_over() == []


def test_a_loop_that_is_left_stops_the_supervisor_and_cancels_the_rest(place: Place) -> None:
    code = """
from tasks import engine, nap
for _ in engine.map(nap, [0.01] * 500, window=100):
    break
assert not engine.has_supervisor(), "it is stopped"
"""
    done = place.python(code)
    assert done.returncode == 0, done.stderr
    counts = place.counts()
    assert place.unended() == 0
    assert counts["cancelled"] >= 50
    assert place.left_over() == []


def test_after_a_kill_it_goes_on_by_its_name_and_nothing_runs_twice(place: Place) -> None:
    place.supervising("-c", "2")
    said = list[str]()
    for _ in range(2):
        caller = place.start([PYTHON, "-c", CALLER])
        until(lambda caller=caller: len(caller.out.splitlines()) > 50, "it has given some")
        caller.kill()
        caller.ended()
        said.append(caller.out)
    last = place.start([PYTHON, "-c", CALLER])
    assert last.ended(60) == 0, last.err
    assert last.out == "".join(f"{n}\n" for n in range(400))
    starts = [job_id for what, job_id, *_ in place.records if what == "start"]
    assert len(starts) == len(set(starts)) == 400


def test_while_it_waits_another_supervisor_is_started_if_the_first_dies(place: Place) -> None:
    first = place.supervising("-c", "1")
    caller = place.start([PYTHON, "-c", CALLER.replace("quick, range(400)", "quick, iter(range(200))")])
    until(lambda: len(caller.out.splitlines()) > 10, "it has given some")
    first.kill()
    assert caller.ended(60) == 0, caller.err
    assert caller.out == "".join(f"{n}\n" for n in range(200))
    assert not is_alive(first.pid)
