"""Batches at work: real supervisors and workers, some of which are killed. Each callback is enqueued once, and counts
are right."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.whole.harness import PYTHON, Place, Process, until

APP = """
import os
import time
from pathlib import Path

from mpdispatch import Dispatcher, Engine, SQLiteStore, backoff

HERE = Path(__file__).resolve().parent
engine = Engine.build(Dispatcher(store=SQLiteStore(HERE / "jobs.db")), backoff=backoff.Constant(0))

@engine.job(max_retries=1000)
def plain(n: int = 0) -> int:
    return n

@engine.job(max_retries=1000)
def nap(s: float) -> float:
    time.sleep(s)
    return s

@engine.job(max_retries=0)
def frail(n: int) -> int:
    if not (HERE / "healed").exists():
        raise ValueError(f"no {n}")
    return n

@engine.job(max_retries=1000)
def succeeded(batch: int) -> int:
    return batch

@engine.job(max_retries=1000)
def failed(batch: int) -> int:
    return batch

@engine.job(max_retries=1000)
def ended(batch: int) -> int:
    return batch

@engine.job(max_retries=0)
def until_file(name: str) -> None:
    while not (HERE / name).exists():
        time.sleep(0.002)

@engine.job
def next_generation(batch: int) -> int:
    with engine.batch(f"after {batch}", on_success=next_generation if batch < 4 else ended) as made:
        for n in range(3):
            plain.enqueue(n)
    return made.id
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, APP)
    try:
        yield made
    finally:
        made.close()


def callbacks(place: Place) -> Counter[tuple[str, int]]:
    """How many jobs there are of each callback and batch."""
    rows = place.sql(
        "SELECT name, CAST(payload AS TEXT) FROM mpdispatch_jobs"
        " WHERE name IN ('succeeded', 'failed', 'ended', 'next_generation')"
    )
    return Counter((name, int(payload.strip('{"batch:}'))) for name, payload in rows)


def assert_counts_are_right(place: Place, batch_id: int) -> None:
    """What the batch says is what its members are."""
    rows = place.sql(
        f"SELECT state, count(*) FROM mpdispatch_jobs WHERE batch_id = {batch_id} AND retried_as IS NULL GROUP BY state"
    )
    batch = place.app.engine.batches.get(batch_id)
    assert {str(state): count for state, count in batch.counts.items() if count} == dict(rows)
    assert batch.total == sum(count for _, count in rows)


def supervisors_up(place: Place, count: int, *args: str, **env: object) -> list[Process]:
    found = [place.supervise(*args, **env) for _ in range(count)]
    until(lambda: all("registered" in each.err for each in found), "all supervisors are up")
    return found


@pytest.mark.timeout(400)
def test_three_thousand_members_under_kills(place: Place) -> None:
    """Supervisors and workers are killed until the batch has ended; and then again while what failed is retried."""
    app, seed = place.app, random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    with app.engine.batch("stormy", on_success=app.succeeded, on_failure=app.failed, on_end=app.ended) as batch:
        app.nap.enqueue_many({"s": dice.choice((0.0, 0.001, 0.004))} for _ in range(2_700))
        app.frail.enqueue_many({"n": n} for n in range(300))
    kills = _kill_until_ended(place, batch, dice)
    info = batch.status()
    assert (info.counts["completed"], info.counts["failed"], info.total) == (2_700, 300, 3_000)
    assert_counts_are_right(place, batch.id)
    assert callbacks(place) == {("failed", batch.id): 1, ("ended", batch.id): 1}
    # Members that fail again end the batch once more; that is told nobody.
    assert batch.retry_failed() == 300
    assert place.drain("-c", "2") == 1
    assert (batch.status().counts["failed"], batch.status().ended_at is not None) == (300, True)
    assert callbacks(place) == {("failed", batch.id): 1, ("ended", batch.id): 1}
    (place.folder / "healed").touch()
    assert batch.retry_failed() == 300
    kills += _kill_until_ended(place, batch, dice)
    assert (batch.status().counts["completed"], batch.total) == (3_000, 3_000)
    assert_counts_are_right(place, batch.id)
    assert place.drain("-c", "2") == 0
    assert callbacks(place) == {("failed", batch.id): 1, ("ended", batch.id): 1, ("succeeded", batch.id): 1}
    assert {str(place.job(each.job_id).state) for each in batch.status().callbacks.values()} == {"completed"}
    results = list(batch.results())
    assert len(results) == 3_000
    assert all(each.result == next(iter(each.arguments.values())) for each in results)
    print(f"{kills} kills")
    place.assert_sound()


def _let_some_end(batch: Any, some: int) -> None:
    """Wait for so many ends, or two seconds: the kills keep step with the machine, busy or not."""
    enough, latest = batch.status().done + some, time.monotonic() + 2
    while time.monotonic() < latest and batch.status().done < enough and batch.ended_at is None:
        time.sleep(0.01)


def _kill_until_ended(place: Place, batch: Any, dice: random.Random) -> int:
    """Two supervisors, whose workers and which themselves are killed now and then. All are dead when it returns."""
    kills = 0
    supervisors = [place.supervise("-c", "2", heartbeat_interval=0.5) for _ in range(2)]
    deadline = time.monotonic() + 150
    while batch.ended_at is None:
        assert time.monotonic() < deadline, (batch.status(), supervisors[0].err[-2000:])
        _let_some_end(batch, dice.randrange(1, 150))
        which = dice.randrange(2)
        victim = supervisors[which]
        if dice.random() < 0.6 and (workers := victim.workers):
            try:
                os.kill(dice.choice(workers), signal.SIGKILL)
            except ProcessLookupError:
                continue
        else:
            victim.kill()
            victim.ended()
        kills += 1
        if victim.popen.poll() is not None:  # it was killed, or gave up as all its first workers were
            supervisors[which] = place.supervise("-c", "2", heartbeat_interval=0.5)
    for each in supervisors:
        each.kill()
        each.ended()
    return kills


def test_whoever_ends_the_last_member_enqueues_the_callback(place: Place) -> None:
    """Two supervisors end the last two members of a batch at the same time, sixty times."""
    app = place.app
    batches = []
    supervisors_up(place, 2, "-c", "1")
    for round_ in range(60):
        with app.engine.batch("pair", on_success=app.succeeded, on_end=app.ended) as batch:
            app.plain.enqueue()
            app.plain.enqueue()
        batches.append(batch)
        if round_ % 20 == 19:
            batch.wait(20)
    for batch in batches:
        assert batch.wait(20).counts["completed"] == 2
    assert callbacks(place) == {(name, batch.id): 1 for name in ("succeeded", "ended") for batch in batches}


def test_callbacks_make_batches_themselves(place: Place) -> None:
    app = place.app
    with app.engine.batch("first", on_success=app.next_generation):
        app.plain.enqueue()
    assert place.drain("-c", "2") == 0
    names = [each.name for each in app.engine.batches.list().items]
    assert names == ["after 4", "after 3", "after 2", "after 1", "first"]
    assert callbacks(place) == {**{("next_generation", n): 1 for n in range(1, 5)}, ("ended", 5): 1}


def test_too_many_failures_cancel_the_rest(place: Place) -> None:
    app = place.app
    with app.engine.batch("doomed", on_failure=app.failed, on_success=app.succeeded, max_fails=3) as by_number:
        for n in range(8):
            app.frail.options(priority=5).enqueue(n)
        app.nap.enqueue_many({"s": 0.2} for _ in range(5_000))
    with app.engine.batch("doomed too", on_failure=app.failed, max_fails=0.25) as by_share:
        app.frail.options(priority=5).enqueue_many({"n": n} for n in range(60))
        app.nap.enqueue_many({"s": 0.2} for _ in range(140))
    place.supervise("-c", "2")
    for batch in (by_number, by_share):
        info = batch.wait(60)
        assert info.cancelled_at is not None
        assert info.counts["cancelled"] > 0
        assert info.counts["completed"] < info.total / 2
        assert_counts_are_right(place, batch.id)
    assert by_number.status().counts["failed"] > 3
    assert by_share.status().counts["failed"] > 50
    assert callbacks(place) == {("failed", by_number.id): 1, ("failed", by_share.id): 1}


def test_cancelling_asks_running_members_to_end(place: Place) -> None:
    app = place.app
    place.supervising("-c", "2")
    with app.engine.batch("held", on_failure=app.failed) as batch:
        app.until_file.enqueue_many({"name": "never"} for _ in range(20))
    until(lambda: batch.counts["running"] >= 2, "two run")
    counts = batch.cancel().counts
    assert counts["running"] + counts["cancelled"] == 20  # those that wait for a worker count as running
    assert batch.wait(20).counts["cancelled"] == 20
    assert callbacks(place) == {("failed", batch.id): 1}


def test_a_batch_whose_maker_is_killed_stays_open(place: Place) -> None:
    code = (
        "from tasks import engine, plain, ended\nimport time\n"
        "with engine.batch('cut off', on_end=ended) as batch:\n"
        "    for n in range(10): plain.enqueue(n)\n"
        "    print(batch.id, flush=True)\n    time.sleep(300)"
    )
    maker = place.start([PYTHON, "-c", code])
    batch_id = int(until(lambda: maker.out.strip(), "the block is full"))
    maker.kill()
    maker.ended()
    assert place.drain("-c", "1") == 0
    batch = place.app.engine.batches.get(batch_id)
    assert (batch.counts["completed"], batch.is_open, batch.ended_at) == (10, True, None)
    assert callbacks(place) == {}
    assert place.cli("batch", str(batch_id), "--close", "--store", "jobs.db").returncode == 0
    assert callbacks(place) == {("ended", batch_id): 1}
    assert batch.wait(1).progress == 1


def test_a_hundred_thousand_members_are_listed_and_cancelled_in_seconds(place: Place) -> None:
    app = place.app
    with app.engine.batch("large", on_end=app.ended) as batch:
        app.plain.enqueue_many({"n": n} for n in range(100_000))
    supervisor = place.supervise("-c", "1")
    until(lambda: batch.progress > 0, "some have ended")
    begun = time.monotonic()
    (info,) = app.engine.batches.list(name="large").items
    listed_s = time.monotonic() - begun
    begun = time.monotonic()
    assert sum(1 for _ in batch) == 100_000
    read_s = time.monotonic() - begun
    begun = time.monotonic()
    batch.cancel()
    batch.wait(60)
    cancelled_s = time.monotonic() - begun
    print(
        f"listed in {listed_s * 1000:.1f} ms, members read in {read_s:.2f} s, cancelled in {cancelled_s:.2f} s"
    )
    assert info.total == 100_000
    assert listed_s < 1
    assert cancelled_s < 20
    assert_counts_are_right(place, batch.id)
    assert callbacks(place) == {("ended", batch.id): 1}
    supervisor.kill(signal.SIGTERM)
    assert supervisor.ended() == 0


def test_waiting_in_a_program_of_its_own(place: Place) -> None:
    (place.folder / "program.py").write_text(
        "import asyncio\nfrom tasks import engine, plain, frail\n"
        "if __name__ == '__main__':\n"
        "    with engine.dispatcher:\n"
        "        with engine.batch('mixed') as batch:\n"
        "            for n in range(20): plain.enqueue(n)\n"
        "            frail.enqueue(20)\n"
        "        info = batch.wait(30)\n"
        "        print(info.counts['completed'], info.counts['failed'], batch.rate > 0, batch.eta)\n"
        "        print([each.result for each in batch.results()] == list(range(20)))\n"
        "        async def main():\n"
        "            async with engine.batch('async') as batch:\n"
        "                await asyncio.gather(*(plain.enqueue_async(n) for n in range(20)))\n"
        "            return (await batch.wait_async(30)).counts['completed']\n"
        "        print(asyncio.run(main()))\n"
    )
    done = place.python("", "program.py")
    assert done.stdout.splitlines() == ["20 1 True 0.0", "True", "20"], done.stderr
