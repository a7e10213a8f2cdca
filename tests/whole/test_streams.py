"""Where output goes, nobody may be reading: a closed, a broken and a full stdout or stderr stop no job."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.whole.harness import CLI, Place, until

SUPERVISE = [*CLI, "supervise", "tasks:engine", "-c", "1"]


@contextmanager
def running(place: Place, argv: list[str], **popen: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(argv, cwd=place.folder, env=place.env, **popen)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_stop_no_job(place: Place, closed: str) -> None:
    with running(place, ["sh", "-c", f'exec "$@" {closed}', "sh", *SUPERVISE]) as process:
        assert place.complete(place.app.quick.enqueue(n=3).id).result == 3
        place.ended(place.app.end_badly.enqueue("sigkill").id, "failed")
        place.ended(place.app.chatter.enqueue(10_000).id)
        assert place.complete(place.app.quick.enqueue(n=4).id).result == 4
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    place.assert_sound()


def test_a_reader_that_has_gone_stops_no_job(place: Place) -> None:
    read, write = os.pipe()
    with running(place, SUPERVISE, stdout=write, stderr=write) as process:
        os.close(write)
        place.complete(place.app.quick.enqueue().id)
        os.close(read)
        for how in ("sigkill", "sys.exit", "sigsegv"):
            place.ended(place.app.end_badly.enqueue(how).id, "failed")
        place.ended(place.app.chatter.enqueue(10_000).id)  # it may fail; the others may not
        assert place.complete(place.app.quick.enqueue(n=4).id).result == 4
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_reader_that_hangs_stops_neither_timeouts_nor_other_jobs(place: Place) -> None:
    read, write = os.pipe()
    try:
        with running(place, SUPERVISE, stdout=write, stderr=write) as process:
            stuck = place.app.chatter.options(timeout=1, max_retries=0).enqueue(1_000_000).id
            place.ended(stuck)
            for _ in range(3):
                place.ended(place.app.fail.options(max_retries=0).enqueue("logged, or not").id, "failed")
            assert place.complete(place.app.quick.enqueue(n=4).id).result == 4
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    finally:
        os.close(read)
        os.close(write)


def test_a_log_whose_reader_hung_says_how_much_is_missing(place: Place) -> None:
    read, write = os.pipe()
    try:
        with running(place, SUPERVISE, stderr=write) as process:
            many = place.app.fail.options(max_retries=0).enqueue_many({"text": "x" * 200} for _ in range(500))
            place.ended(list(many)[-1], within=40)  # by then the log is more than a pipe holds
            os.set_blocking(read, False)
            text = os.read(read, 1 << 20)
            assert b"x" * 200 in text
            place.ended(place.app.fail.options(max_retries=0).enqueue("again").id)
            told = [text]

            def more() -> bool:
                with suppress(BlockingIOError):
                    told.append(os.read(read, 1 << 20))
                return b"ValueError: again" in b"".join(told)

            until(more, "the log goes on")  # a line is written after its outcome
            text = b"".join(told)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        assert b"lines of the log were dropped" in text
    finally:
        os.close(read)
        os.close(write)
