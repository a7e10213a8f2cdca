"""What runs next, how many at once and how fast: as promised, over queues and supervisors."""

from __future__ import annotations

import random
import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.whole.harness import Place, until

Row = tuple[str, int, int, int, int]


def test_jobs_start_by_priority_then_run_at_then_id_across_queues(place: Place) -> None:
    dice = random.Random(4)
    past = datetime.now(UTC) - timedelta(hours=1)
    wanted = []
    for _ in range(120):
        priority, minutes = dice.randrange(-2, 3), dice.randrange(5)
        run_at = past + timedelta(minutes=minutes)
        queue = dice.choice("abc")
        job = place.app.quick.options(queue=queue, priority=priority, run_at=run_at).enqueue()
        wanted.append((-priority, run_at, job.id))
    assert place.drain("-c", "1", "-q", "c,a,b") == 0
    assert [row[1] for row in place.records if row[0] == "start"] == [job_id for *_, job_id in sorted(wanted)]


def test_a_delayed_job_starts_when_it_is_due_and_not_before(place: Place) -> None:
    place.supervising("-c", "1")
    begun = time.time()
    job = place.complete(place.app.quick.options(delay=1.3).enqueue().id)
    late = job.started_at.timestamp() - begun - 1.3
    print(f"started {late * 1000:.0f} ms after it was due")
    assert 0 <= late < 0.5


def test_a_drain_leaves_later_schedules(place: Place) -> None:
    later = place.app.quick.options(delay=3600).enqueue().id
    now = place.app.quick.enqueue().id
    assert place.drain("-c", "1", within=15) == 0
    assert (str(place.job(now).state), str(place.job(later).state)) == ("completed", "scheduled")


def most_at_once(rows: list[Row]) -> int:
    steps = sorted((at, 1 if what == "start" else -1) for what, *_, at in rows)
    running = most = 0
    for _, step in steps:
        running += step
        most = max(most, running)
    return most


def test_max_concurrency_holds_over_two_supervisors(place: Place) -> None:
    ids = place.app.nap.options(queue="narrow").enqueue_many({"s": 0.03} for _ in range(150))
    two = [place.supervise("-c", "4", "-q", "narrow", "--drain") for _ in range(2)]
    assert [each.ended(60) for each in two] == [0, 0]
    lasted = (place.records[-1][4] - place.records[0][4]) / 1e9
    print(f"1.5 s of work in {lasted:.1f} s")
    assert lasted < 12, "refilled when there is room, not when it is polled"
    assert most_at_once(place.records) == 3
    assert len({row[3] for row in place.records}) > 3, "both supervisors took part"
    assert all(str(place.job(job_id).state) == "completed" for job_id in list(ids)[:5])
    assert place.counts()["completed"] == 150


@pytest.mark.serial
def test_a_rate_limit_is_held_within_five_percent_and_costs_few_writes(place: Place) -> None:
    place.app.quick.options(queue="rated").enqueue_many({"n": n} for n in range(700))
    supervisor = place.supervise("-c", "2", "-q", "rated")
    until(lambda: len(place.records) > 20, "it runs")
    before, first = writes_of(supervisor.pid), len(place.records)
    until(lambda: len(place.records) >= first + 1020, "ten seconds' worth of jobs", within=25, every=0.05)
    after, rows = writes_of(supervisor.pid), place.records
    starts = [at for what, *_, at in rows if what == "start"]
    counts = [sum(begin <= at < begin + 10_000_000_000 for at in starts) for begin in starts[5:11]]
    jobs = (len(rows) - first) / 2
    print(f"starts in windows of 10 s: {counts}; {(after - before) / jobs:.1f} write calls per job")
    assert all(475 <= count <= 525 for count in counts)
    assert (after - before) / jobs < 60


def writes_of(pid: int) -> int:
    """How many write calls a process has made."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["syscw"])


def test_a_queue_waiting_for_its_rate_writes_next_to_nothing(place: Place) -> None:
    source = (place.folder / "tasks.py").read_text().replace("rate_limit=50", "rate_limit=0.01")
    (place.folder / "tasks.py").write_text(source)
    place.app.quick.options(queue="rated").enqueue_many({"n": n} for n in range(500))
    supervisor = place.supervise("-c", "2", "-q", "rated")
    until(lambda: place.counts()["completed"] == 1, "the first one ran")
    before, begun = writes_of(supervisor.pid), time.monotonic()
    until(lambda: time.monotonic() - begun > 3, "three seconds went by")
    written = writes_of(supervisor.pid) - before
    print(f"{written} write calls in 3 s of waiting")
    assert written < 30
    assert place.counts()["completed"] == 1


@pytest.mark.serial
def test_a_hundred_thousand_jobs_for_tomorrow_do_not_slow_the_claim(place: Place) -> None:
    place.supervising("-c", "1")

    def median_s() -> float:
        times = []
        for _ in range(60):
            begun = time.perf_counter()
            place.complete(place.app.plain.enqueue().id)
            times.append(time.perf_counter() - begun)
        return statistics.median(times)

    empty = median_s()
    place.app.plain.options(delay=86_400).enqueue_many({"n": n} for n in range(100_000))
    assert place.counts()["scheduled"] == 100_000
    full = median_s()
    print(f"there and back: {empty * 1000:.2f} ms; with 100,000 for tomorrow: {full * 1000:.2f} ms")
    assert full < 2 * empty + 0.002
