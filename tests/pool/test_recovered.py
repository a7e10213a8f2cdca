"""What a start journal proves: starts that were marked, answers that were said; whatever else lies in it, no other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpdispatch.host.journal_layout import Control
from mpdispatch.host.journal_reader import JournalReader
from mpdispatch.host.reply_ring import LINE_BYTES, REPLY_RING_BYTES
from mpdispatch.host.start_journal import Journal, journal_path
from mpdispatch.host.worker_record import WorkerRecord
from mpdispatch.model import Answer, Cancelled, Completed, ErrorInfo, Raised, RetryAsked, Run, Snoozed, Stream
from mpdispatch.pool.assigned import StopReason
from mpdispatch.pool.frames import (
    Done,
    Ended,
    EnqueuedEvents,
    FromWorker,
    NeedsReplacement,
    ProgressReport,
    Spill,
    Wrote,
    encode,
)
from mpdispatch.pool.process import CONTROL_CANCEL, CONTROL_TIMEOUT
from mpdispatch.pool.recovered import Answered, Recovered, recover

RUN = Run(started_us=5, duration_us=7, worker_pid=11, cpu_us=1, max_rss_bytes=2)
ERROR = ErrorInfo(type="ValueError", message="as told", traceback="Traceback …")
OTHERWISE = [
    Raised(run=RUN, error=ERROR, is_retryable=False, exit_status=3),
    RetryAsked(run=RUN, error=ERROR, delay_us=1),
    Snoozed(run=RUN, delay_us=1),
    Cancelled(run=RUN, error=ERROR),
]
JUNK = b"}{"


def _done(job_id: int, starts: int = 1, result: bytes = b"1") -> Done:
    return Done(job_id, starts, RUN, msgspec.Raw(result))


def _completed(result: bytes = b"1") -> Completed:
    return Completed(run=RUN, result=result)


def _say(record: WorkerRecord, *messages: FromWorker | bytes) -> None:
    box = record.reply_writer()
    for message in messages:
        line = message if isinstance(message, bytes) else encode(message)
        assert box.put(line + b"\n")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(journal_path(tmp_path, 7), 3, token="0123456789abcdef")
    yield made
    made.close(remove=True)


@pytest.fixture
def record(file: Journal) -> WorkerRecord:
    return _taken(file)


def _taken(file: Journal) -> WorkerRecord:
    record = file.take_record()
    assert record is not None
    return record


def _recovered(file: Journal) -> Recovered | None:
    with closing(JournalReader(file.path)) as journal:
        return recover(journal)


def _answers(file: Journal) -> dict[tuple[int, int], Answer]:
    return {start: said.answer for start, said in _recovered(file).answered.items()}


@pytest.mark.parametrize("is_heard", [True, False])
def test_every_answer_is_found_heard_or_not(file: Journal, record: WorkerRecord, is_heard: bool) -> None:
    heard = record.reply_ring()
    _say(record, _done(1), *(Ended(number, 2, answer) for number, answer in enumerate(OTHERWISE, start=2)))
    if is_heard:
        heard.take()
    expected = {(number, 2): answer for number, answer in enumerate(OTHERWISE, start=2)}
    assert _answers(file) == {(1, 1): _completed(), **expected}


def test_the_answers_of_every_ring_are_found_and_starts_beside_them(
    file: Journal, record: WorkerRecord
) -> None:
    other = _taken(file)
    record.write(1, 1, 10)
    other.write(2, 3, 20)
    other.write(4, 1, 30)
    _say(record, _done(1))
    _say(other, _done(2, 3))
    nothing = 0
    assert _recovered(file) == Recovered(
        started={(1, 1): 10, (2, 3): 20, (4, 1): 30},
        answered={(1, 1): Answered(_completed(), nothing), (2, 3): Answered(_completed(), nothing)},
        junk=0,
    )


def test_what_else_a_worker_says_answers_nothing(file: Journal, record: WorkerRecord) -> None:
    raw = msgspec.Raw(b"[]")
    _say(
        record,
        ProgressReport(1, 1, raw),
        Wrote(1, 1, Stream.LOG, "x", 1),
        EnqueuedEvents(raw, 1),
        NeedsReplacement("x"),
        Spill(1),
    )
    assert _recovered(file) == Recovered(started={}, answered={}, junk=0)


def test_of_two_answers_the_first_counts(file: Journal, record: WorkerRecord) -> None:
    _say(record, _done(1, result=b"1"), _done(1, result=b"2"), Ended(1, 1, OTHERWISE[0]))
    assert _answers(file) == {(1, 1): _completed()}


@pytest.mark.parametrize(
    "junk", [JUNK, b"", b"\xff\xfe", b"[" * 10_000, b'["done",1,1]', b'["done","1",1,[5],1]']
)
def test_a_line_that_says_nothing_is_counted_and_hides_no_other(
    file: Journal, record: WorkerRecord, junk: bytes
) -> None:
    _say(record, _done(1), junk, _done(2))
    found = _recovered(file)
    assert found.junk == 1
    assert set(found.answered) == {(1, 1), (2, 1)}


@pytest.mark.parametrize(
    "answer",
    [
        Raised(run=Run(started_us=2**64), error=ERROR),
        Raised(run=Run(started_us=-(2**64)), error=ERROR),
        Snoozed(run=Run(started_us=5, max_rss_bytes=10**30), delay_us=1),
        Raised(run=RUN, error=ERROR, exit_status=2**63),
    ],
)
def test_an_answer_no_store_can_hold_is_junk(
    file: Journal, record: WorkerRecord, answer: Raised | Snoozed
) -> None:
    # It would stop one rescuer after the other.
    _say(record, Ended(1, 1, answer), _done(2), Ended(3, 1, Cancelled(run=None, error=ERROR)))
    found = _recovered(file)
    assert found.junk == 1
    assert set(found.answered) == {(2, 1), (3, 1)}


def test_a_line_that_was_being_written_was_never_said(file: Journal, record: WorkerRecord) -> None:
    _say(record, _done(1))
    line = encode(_done(2)) + b"\n"
    box = record.reply_writer()
    at = box._lines + box._words[box._at]
    box._map[at : at + len(line)] = line
    assert set(_answers(file)) == {(1, 1)}


@pytest.mark.parametrize(
    ("asked", "cancel_requested", "stop_reason"),
    [
        (None, True, None),
        (Control(1, 1, CONTROL_TIMEOUT), True, StopReason.TIMEOUT),
        (Control(1, 1, CONTROL_CANCEL), True, StopReason.CANCEL),
        (Control(1, 1, CONTROL_CANCEL), False, StopReason.ABORT),
        (Control(1, 1, 0), True, None),
        (Control(1, 1, 77), True, None),
        (Control(1, 2, CONTROL_TIMEOUT), True, None),
        (Control(2, 1, CONTROL_TIMEOUT), True, None),
    ],
)
def test_what_was_asked_of_a_start_is_known_with_its_answer(
    file: Journal,
    record: WorkerRecord,
    asked: Control | None,
    cancel_requested: bool,
    stop_reason: StopReason | None,
) -> None:
    if asked is not None:
        record.ask(asked)
    _say(record, _done(1))
    (said,) = _recovered(file).answered.values()
    assert said.stop_reason(cancel_requested=cancel_requested) == stop_reason


@given(
    sizes=st.lists(st.integers(0, LINE_BYTES - 200), max_size=30),
    junk=st.binary(max_size=200),
    spots=st.lists(st.integers(0, REPLY_RING_BYTES - 300), max_size=5),
)
@settings(deadline=None, max_examples=100)
def test_no_answer_is_invented_and_none_that_is_new_is_missed(
    sizes: list[int], junk: bytes, spots: list[int]
) -> None:
    """Beyond what it counted, a box may hold anything."""
    with tempfile.TemporaryDirectory() as folder:
        made = Journal(Path(folder) / "journal.1", 1, token="0")
        record = _taken(made)
        heard, said, total = record.reply_ring(), dict[tuple[int, int], Answer](), 0
        for number, size in enumerate(sizes, start=1):
            result = b'"' + b"x" * size + b'"'
            _say(record, line := _done(number, number, result))
            said[number, number] = _completed(result)
            total += len(encode(line)) + 1
            heard.take()
        for spot in spots:
            if spot >= total:
                box = record.reply_writer()
                made._map[box._lines + spot : box._lines + spot + len(junk)] = junk
        found = _answers(made)
        assert found.items() <= said.items()
        if total <= REPLY_RING_BYTES - 16 - LINE_BYTES:
            assert found == said
        made.close(remove=True)
