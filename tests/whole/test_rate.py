"""A rate limit holds over the starts of handlers, measured in them, however late their workers come up."""

from __future__ import annotations

import pytest

from tests.whole.harness import TASKS, Place, until

SECOND_NS = 1_000_000_000

# Two seconds of import that no zygote may share, for threads do not survive a fork.
SLOW = """
import os, threading, time
if os.environ.get("IS_SLOW_TO_IMPORT"):
    time.sleep(2)
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


def place_of(place: Place, rate: float) -> Place:
    source = TASKS.read_text().replace("rate_limit=50", f"rate_limit={rate:g}")
    head, mark, tail = source.partition("import ast\n")
    (place.folder / "tasks.py").write_text(head + SLOW + mark + tail)
    return place


def starts_of(place: Place) -> list[int]:
    """Boottime in ns of each start, by the handlers' own clock."""
    return sorted(at for what, *_, at in place.records if what == "start")


def most_in_a_second(starts: list[int]) -> int:
    """In any window of 1 s, both ends included."""
    most = first = 0
    for last, at in enumerate(starts):
        while at - starts[first] > SECOND_NS:
            first += 1
        most = max(most, last - first + 1)
    return most


def rate_of(starts: list[int], seconds: float) -> float:
    """Jobs per second in the last so many seconds."""
    since = starts[-1] - round(seconds * SECOND_NS)
    return sum(at > since for at in starts) / seconds


@pytest.mark.serial
def test_workers_that_come_up_late_do_not_start_in_a_bunch_what_was_claimed_meanwhile(place: Place) -> None:
    place_of(place, 10).app.nap.options(queue="rated").enqueue_many({"s": 0.3} for _ in range(400))
    place.env["IS_SLOW_TO_IMPORT"] = "1"
    place.supervise("-c", "16", "-q", "rated")
    until(lambda: len(starts_of(place)) >= 100, "a hundred starts", within=40, every=0.05)
    starts = starts_of(place)
    print(f"{most_in_a_second(starts)} in a second at most; {rate_of(starts, 5):.1f} a second in the end")
    assert most_in_a_second(starts) <= 10 + 1  # the burst
    assert rate_of(starts, 5) >= 9


@pytest.mark.serial
def test_the_starts_of_three_supervisors_together_keep_the_rate(place: Place) -> None:
    place_of(place, 20).app.nap.options(queue="rated").enqueue_many({"s": n % 4 * 0.08} for n in range(400))
    for _ in range(3):
        place.supervise("-c", "2", "-q", "rated")
    until(lambda: len(starts_of(place)) >= 160, "eight seconds' worth of starts", within=40, every=0.05)
    starts = starts_of(place)
    print(f"{most_in_a_second(starts)} in a second at most; {rate_of(starts, 5):.1f} a second in the end")
    assert most_in_a_second(starts) <= 20 + 1  # the burst
    assert rate_of(starts, 5) >= 18
