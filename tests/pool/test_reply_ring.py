"""The reply_ring: every line that was said is read once, whole and in order; what makes no sense is refused."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpdispatch.errors import JobTimeout
from mpdispatch.host.processes import ProcessId
from mpdispatch.host.reply_ring import (
    LINE_BYTES,
    REPLY_RING_BYTES,
    ReplyRingBroken,
    ReplyRingReader,
    ReplyRingWriter,
    last_lines,
)
from mpdispatch.host.start_journal import Journal, journal_path
from mpdispatch.host.worker_record import WorkerRecord
from mpdispatch.model import Stream
from mpdispatch.pool.channel import Channel, channel_pair
from mpdispatch.pool.exec import Launched
from mpdispatch.pool.frames import NeedsReplacement, ProgressReport, Wrote, encode
from mpdispatch.pool.process import WorkerProcess
from mpdispatch.pool.replies import ReplyWriter

_ROOM = REPLY_RING_BYTES - 16
_BASE = 4096


class _Box:
    """Both sides of one, with a page before and after that nobody may touch."""

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, _BASE + REPLY_RING_BYTES + 4096)
        self.words = memoryview(self.map).cast("Q")
        self.reader = ReplyRingReader(self.map, self.words, _BASE)
        self.writer = ReplyRingWriter(self.map, self.words, _BASE)

    @property
    def last_lines(self) -> list[bytes]:
        return last_lines(self.map[_BASE : _BASE + REPLY_RING_BYTES])

    @property
    def is_intact(self) -> bool:
        return not any(self.map[:_BASE]) and not any(self.map[_BASE + REPLY_RING_BYTES :])


@contextmanager
def _made() -> Iterator[_Box]:
    box = _Box()
    yield box
    box.words.release()
    box.map.close()


@pytest.fixture
def box() -> Iterator[_Box]:
    with _made() as made:
        yield made


def _line(number: int, size: int) -> bytes:
    return b"%d:" % number + bytes([97 + number % 26]) * size + b"\n"


@settings(max_examples=200)
@given(st.lists(st.one_of(st.none(), st.integers(0, 50), st.integers(0, _ROOM)), max_size=60))
def test_lines_of_any_size_are_read_once_whole_and_in_order(acts: list[int | None]) -> None:
    """None: the supervisor reads."""
    with _made() as box:
        unread = b""
        for number, size in enumerate(acts):
            if size is None:
                assert box.reader.is_empty() == (not unread)
                assert box.reader.take() == unread
                unread = b""
            else:
                line = _line(number, size)
                assert box.writer.put(line) == (len(line) <= _ROOM - len(unread))
                if len(line) <= _ROOM - len(unread):
                    unread += line
        assert box.reader.take() == unread
        assert box.reader.is_empty()
        assert box.is_intact


def test_the_end_of_the_ring_is_passed_at_every_offset(box: _Box) -> None:
    for number in range(3000):
        line = _line(number, 997)
        assert box.writer.put(line)
        assert box.reader.take() == line
    assert box.is_intact


def test_a_full_box_takes_no_more_until_it_is_read(box: _Box) -> None:
    whole = _line(0, _ROOM - 3)
    assert len(whole) == _ROOM
    assert box.writer.put(whole)
    assert not box.writer.put(b"\n")
    assert box.reader.take() == whole
    assert box.writer.put(b"\n")


def test_a_box_is_empty_for_a_new_worker(box: _Box) -> None:
    assert box.writer.put(b"old\n")
    reader = ReplyRingReader(box.map, box.words, _BASE)
    assert reader.take() == b""
    assert ReplyRingWriter(box.map, box.words, _BASE).put(b"new\n")
    assert reader.take() == b"new\n"


@pytest.mark.parametrize("written", [1, 99, 100 + _ROOM + 1, 2**64 - 1])
def test_a_count_that_makes_no_sense_is_refused(box: _Box, written: int) -> None:
    assert box.writer.put(b"x" * 99 + b"\n")
    assert len(box.reader.take()) == 100
    box.words[_BASE // 8] = written
    with pytest.raises(ReplyRingBroken):
        box.reader.take()


class _Struck:
    """Memory in which an interrupt strikes at the `at`-th store, before or after it."""

    def __init__(self, memory: Any, *, at: int, is_after: bool) -> None:
        self._memory, self._left, self._is_after = memory, at, is_after

    def __getitem__(self, where: Any) -> Any:
        return self._memory[where]

    def __setitem__(self, where: Any, what: Any) -> None:
        strikes, self._left = self._left == 0, self._left - 1
        if not strikes or self._is_after:
            self._memory[where] = what
        if strikes:
            raise JobTimeout("struck")


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("where", ["first part", "second part", "count"])
def test_a_line_an_interrupt_strikes_in_leaves_whole_lines_only(box: _Box, where: str, is_after: bool) -> None:
    assert box.writer.put(_line(0, _ROOM - 20))
    box.reader.take()
    at = {"first part": 0, "second part": 1, "count": 0}[where]
    writer: Any = box.writer
    real = writer._map, writer._words
    if where == "count":
        writer._words = _Struck(box.words, at=at, is_after=is_after)
    else:
        writer._map = _Struck(box.map, at=at, is_after=is_after)
    struck, after = _line(1, 30), _line(2, 40)
    with pytest.raises(JobTimeout):
        writer.put(struck)  # round the end: in two parts
    writer._map, writer._words = real
    found = box.reader.take()
    assert found == (struck if where == "count" and is_after else b"")
    assert writer.put(after)
    found += box.reader.take()
    assert found in {after, struck + after}
    assert writer.put(_line(3, 5))
    assert box.reader.take() == _line(3, 5)


# ---------------------------------------------------------------- what is left when both are dead


def _die_over(box: _Box, line: bytes, done: int) -> None:
    """The worker is killed over this line: so many bytes of it are written, and it is not counted."""
    for offset, byte in enumerate(line[:done], start=box.words[_BASE // 8]):
        box.map[_BASE + 16 + offset % _ROOM] = byte


@settings(max_examples=200)
@given(
    acts=st.lists(st.one_of(st.none(), st.integers(0, 200), st.integers(0, LINE_BYTES - 20)), max_size=60),
    unsaid=st.integers(1, LINE_BYTES),
    done=st.integers(0, LINE_BYTES),
)
def test_what_is_left_is_the_last_that_was_said_whole_and_all_that_was_not_read(
    acts: list[int | None], unsaid: int, done: int
) -> None:
    """None: the supervisor reads."""
    with _made() as box:
        said, unread = list[bytes](), 0
        for number, size in enumerate(acts):
            if size is None:
                box.reader.take()
                unread = 0
            elif box.writer.put(line := _line(number, size)):
                said.append(line)
                unread += 1
        # It had looked for room before.
        unsaid = min(unsaid, _ROOM - sum(map(len, said[len(said) - unread :])))
        _die_over(box, (b"n" * (unsaid - 1) + b"\n")[:unsaid], done)
        left = [line + b"\n" for line in box.last_lines]
        assert left == said[len(said) - len(left) :]
        assert len(left) >= unread
        # All, or so much that the next one did not fit; one more if a line begins just there.
        if len(left) < len(said):
            assert len(b"".join(said[-len(left) - 1 :])) >= _ROOM - LINE_BYTES


@pytest.mark.parametrize(("count", "whole"), [(1, 1), (2, 2), (3, 2)])
def test_everything_is_left_while_no_line_can_have_been_written_over_it(
    box: _Box, count: int, whole: int
) -> None:
    """A fourth of the longest lines would reach round to the first."""
    lines = [_line(number, LINE_BYTES - 3) for number in range(count)]
    for line in lines:
        assert len(line) == LINE_BYTES
        assert box.writer.put(line)
    box.reader.take()
    assert [line + b"\n" for line in box.last_lines] == lines[-whole:]


def _answer(number: int) -> bytes:
    return b'["done",%d,1,[5],"%s"]\n' % (number, b"%d" % number * 40)


def _answered(box: _Box) -> int:
    """Go round the ring some times, every answer read; gives the next number."""
    number = 1000
    while box.words[_BASE // 8] < 5 * _ROOM:
        assert box.writer.put(_answer(number))
        box.reader.take()
        number += 1
    return number


def test_the_oldest_line_behind_the_beginning_of_a_new_one_is_no_line(box: _Box) -> None:
    # Two answers of the same length: the head of the one never said, and the tail of the one long read.
    number = _answered(box)
    said = {_answer(n)[:-1] for n in range(1000, number)}
    unsaid = _answer(number)
    for done in range(len(unsaid)):
        _die_over(box, unsaid, done)
        assert set(box.last_lines) <= said
    # The longest, and complete but for its count: its newline makes the tail behind it no line.
    _die_over(box, b"n" * (LINE_BYTES - 1) + b"\n", LINE_BYTES)
    assert set(box.last_lines) <= said
    assert len(box.last_lines) > 200


@pytest.mark.parametrize("read", [0, 2**64 - 1])
def test_how_far_was_read_is_believed_only_if_it_makes_sense(box: _Box, read: int) -> None:
    number = _answered(box)
    left = box.last_lines
    box.words[_BASE // 8 + 1] = read
    assert box.last_lines == left
    assert left[-1] == _answer(number - 1)[:-1]


def test_what_was_not_read_is_left_to_its_oldest_byte(box: _Box) -> None:
    for number in range(40):
        assert box.writer.put(_line(number, 1000))
        box.reader.take()
    unread = []
    while box.writer.put(line := _line(99, 1000)):
        unread.append(line)
    assert [line + b"\n" for line in box.last_lines] == unread
    assert sum(map(len, unread)) > _ROOM - LINE_BYTES


def test_an_interrupted_line_takes_no_more_room_than_the_next_one(box: _Box) -> None:
    # Else two lines that are not counted might have destroyed what is held for whole.
    writer: Any = box.writer
    assert writer.put(_line(1, 10))
    writer._words = _Struck(box.words, at=0, is_after=False)
    with pytest.raises(JobTimeout):
        writer.put(_line(2, 10))
    writer._words = box.words
    assert writer.put(_line(3, 10))
    assert [line + b"\n" for line in box.last_lines] == [_line(1, 10), _line(3, 10)]


@given(written=st.integers(0, 2**64 - 1), read=st.integers(0, 2**64 - 1), junk=st.binary(max_size=300))
def test_of_junk_some_lines_are_left_and_no_error(written: int, read: int, junk: bytes) -> None:
    box = written.to_bytes(8, sys.byteorder) + read.to_bytes(8, sys.byteorder)
    left = last_lines(box + (junk * _ROOM)[:_ROOM].ljust(_ROOM, b"\0"))
    assert not any(b"\n" in line for line in left)


def test_nothing_is_left_of_a_worker_before_the_last(box: _Box) -> None:
    assert box.writer.put(b"old\n" * 100)
    ReplyRingReader(box.map, box.words, _BASE)
    assert box.last_lines == []
    assert ReplyRingWriter(box.map, box.words, _BASE).put(b"new\n")
    assert box.last_lines == [b"new"]


# ---------------------------------------------------------------- long messages


class _Ends:
    """A worker as the supervisor holds it, and the writer of that worker, in one process."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = channel_pair()
        launched = Launched(
            process=ProcessId(1, 1), pidfd=None, channel=ours, spare=None, permits=None, death_fd=-1
        )
        self.worker = WorkerProcess(launched=launched, tag="", started_boot_us=0)
        self.marks = Journal(journal_path(folder, 1), 1, token="0")
        ring = self.marks.take_record()
        assert ring is not None
        self.worker.attach(ring)
        self.theirs = Channel(theirs)
        self.writer = ReplyWriter(
            self.theirs, WorkerRecord.attach(str(self.marks.path), ring.index).reply_writer()
        )

    def close(self) -> None:
        self.worker.launched.channel.close()
        self.theirs.close()
        self.worker.replies.reply_ring = self.worker.record = None
        self.marks.close(remove=True)


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[_Ends]:
    made = _Ends(tmp_path)
    yield made
    made.close()


def _wrote(number: int) -> Wrote:
    return Wrote(number, 1, Stream.LOG, "x" * 40_000, number)


@pytest.mark.parametrize("in_channel", [True, False])
def test_long_messages_keep_their_place_among_short_ones(ends: _Ends, in_channel: bool) -> None:
    said = [
        NeedsReplacement("a"),
        _wrote(1),
        NeedsReplacement("b"),
        _wrote(2),
        _wrote(3),
        NeedsReplacement("c"),
    ]
    for message in said:
        ends.writer.write(encode(message), is_urgent=False)
    assert ends.worker.messages(in_channel=in_channel) == said
    assert ends.worker.is_broken is None


@pytest.mark.parametrize("size", [LINE_BYTES - 1, LINE_BYTES])
def test_no_line_is_longer_than_what_may_be_destroyed(ends: _Ends, size: int) -> None:
    message = b'["replace","' + b"x" * (size - 14) + b'"]'
    assert len(message) == size
    ends.writer.write(message, is_urgent=False)
    assert ends.worker.replies.reply_ring is not None
    line = ends.worker.replies.reply_ring.take()
    assert line == (message + b"\n" if size < LINE_BYTES else b'["spill",1]\n')
    assert len(line) <= LINE_BYTES


def test_a_long_message_that_was_interrupted_does_not_pass_for_the_next(
    ends: _Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The timeout of a job is raised while it writes; its answer is long as well, for its traceback is.
    def struck(*_: object) -> None:
        raise JobTimeout("struck")

    with monkeypatch.context() as patched:
        patched.setattr(ends.writer, "_put", struck)
        with pytest.raises(JobTimeout):
            ends.writer.write(encode(_wrote(1)), is_urgent=True)
    ends.writer.write(encode(_wrote(2)), is_urgent=False)
    ends.writer.flush()
    assert ends.worker.messages(in_channel=True) == [_wrote(2)]
    assert ends.worker.is_broken is None


def test_the_writer_goes_on_after_an_interrupt(ends: _Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    def struck(*_: object, **__: object) -> bool:
        raise JobTimeout("struck")

    with monkeypatch.context() as patched:
        patched.setattr(Channel, "send", struck)
        with pytest.raises(JobTimeout):
            ends.writer.write(encode(NeedsReplacement("a")), is_urgent=True)  # in the bell
    ends.writer.write(encode(NeedsReplacement("b")), is_urgent=False)
    ends.writer.flush()
    assert ends.worker.has_unread()
    assert ends.worker.messages(in_channel=True) == [NeedsReplacement("a"), NeedsReplacement("b")]


def test_a_long_message_whose_notice_was_not_written_counts_once_its_worker_has_ended(
    ends: _Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends.writer, "_put", lambda _: None)
    ends.writer.write(encode(_wrote(1)), is_urgent=True)
    assert ends.worker.messages(in_channel=True) == []
    assert ends.worker.last_words() == [_wrote(1)]


@pytest.mark.parametrize("junk", [b"@", b"@x y", b'@["replace","x"]', b"@1 {", b"@-1 null"])
def test_a_long_message_that_is_none_breaks_the_channel(ends: _Ends, junk: bytes) -> None:
    ends.theirs.send(junk, wait=False)
    assert ends.worker.messages(in_channel=True) == []
    assert ends.worker.is_broken is not None


def test_a_notice_of_a_message_that_is_not_there_breaks_the_channel(ends: _Ends) -> None:
    ends.writer._put(b'["spill",1]\n')
    assert ends.worker.messages(in_channel=True) == []
    assert "not there" in str(ends.worker.is_broken)


def test_a_result_that_looks_like_a_notice_is_none(ends: _Ends) -> None:
    report = b'["progress",1,1,["spill",1]]'
    ends.writer.write(report, is_urgent=False)
    (message,) = ends.worker.messages(in_channel=False)
    assert isinstance(message, ProgressReport)
    assert bytes(message.data) == b'["spill",1]'
