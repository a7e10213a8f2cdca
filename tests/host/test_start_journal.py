"""Start marks: what is written is read back by anybody, and nothing is ever read that was not written."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mpdispatch.host import journal_layout, journal_reader, start_journal
from mpdispatch.host.journal_layout import RECORD_JOBS, Control, Mark
from mpdispatch.host.journal_reader import JournalReader
from mpdispatch.host.processes import process_id
from mpdispatch.host.start_journal import Journal, journal_path
from mpdispatch.host.worker_record import WorkerRecord

TOKEN = "0123456789abcdef"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(journal_path(tmp_path, 7), 3, token=TOKEN)
    yield made
    made.close(remove=True)


def _taken(file: Journal) -> tuple[WorkerRecord, WorkerRecord]:
    """A record as the supervisor and as its worker has it."""
    record = file.take_record()
    assert record is not None
    return record, WorkerRecord.attach(str(file.path), record.index)


def _marks(reader: JournalReader) -> dict[tuple[int, int], int]:
    return {start: boot_us for marks, _, _ in reader.look() for start, boot_us in marks.items()}


def _read(file: Journal) -> dict[tuple[int, int], int]:
    reader = JournalReader(file.path)
    try:
        return _marks(reader)
    finally:
        reader.close()


def test_the_supervisor_sees_what_its_worker_runs(file: Journal) -> None:
    ours, theirs = _taken(file)
    assert ours.last() is None
    theirs.write(41, 2, 1000)
    assert ours.last() == Mark(41, 2, 1000)
    theirs.write(42, 1, 2000)
    assert ours.last() == Mark(42, 1, 2000)
    assert ours.has(41, 2)
    assert ours.has(42, 1)
    assert not ours.has(41, 1)
    assert not ours.has(42, 2)


def test_a_reader_finds_the_marks_and_workers_of_every_ring(file: Journal) -> None:
    (_, first), (_, second) = _taken(file), _taken(file)
    first.write(1, 1, 10)
    second.write(2, 5, 20)
    reader = JournalReader(file.path)
    assert reader.is_evidence
    assert reader.token == TOKEN
    assert _marks(reader) == {(1, 1): 10, (2, 5): 20}
    assert reader.workers() == [process_id(), process_id()]
    reader.close()


def test_a_record_that_wraps_keeps_its_newest_marks(file: Journal) -> None:
    ours, theirs = _taken(file)
    for number in range(1, 3 * journal_layout.MARKS + 8):
        theirs.write(number, 1, number)
        assert ours.last() == Mark(number, 1, number)
    newest = range(3 * journal_layout.MARKS + 8 - RECORD_JOBS, 3 * journal_layout.MARKS + 8)
    assert all(ours.has(number, 1) for number in newest)
    assert not ours.has(1, 1)
    assert len(_read(file)) == journal_layout.MARKS


def test_more_marks_are_kept_than_jobs_may_be_unsettled() -> None:
    assert RECORD_JOBS < journal_layout.MARKS
    assert (
        journal_layout.MARKS_AT + journal_layout.MARKS * journal_layout.MARK_BYTES
        <= journal_layout.RECORD_BYTES
    )


@pytest.mark.parametrize("length", range(1, 32))
@pytest.mark.parametrize("is_over_an_old_one", [False, True])
def test_a_torn_mark_is_no_mark(file: Journal, length: int, is_over_an_old_one: bool) -> None:
    ours, theirs = _taken(file)
    old, new = Mark(0x0102030405060708, 3, 0x1111111111111111), Mark(0x1112131415161718, 9, 0x2222222222222222)
    slot = journal_layout.PAGE + ours.index * journal_layout.RECORD_BYTES + journal_layout.MARKS_AT
    if is_over_an_old_one:
        theirs.write(*old)
    before = bytes(file._map[slot : slot + 32])
    with tempfile.TemporaryDirectory() as folder:
        other = Journal(Path(folder) / "other", 1, token=TOKEN)
        record = other.take_record()
        assert record is not None
        record.write(*new)
        whole = bytes(other._map[journal_layout.PAGE + journal_layout.MARKS_AT :][:32])
        other.close(remove=True)
    file._map[slot : slot + 32] = whole[:length] + before[length:]
    assert not ours.has(*new[:2])
    assert not any(token == new[:2] for token in _read(file))


def test_a_file_of_another_boot_is_no_evidence(file: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    _, record = _taken(file)
    record.write(1, 1, 10)
    monkeypatch.setattr(journal_reader, "boot_id", lambda: "00000000-1111-2222-3333-444444444444")
    reader = JournalReader(file.path)
    assert not reader.is_evidence
    reader.close()


@pytest.mark.parametrize("content", [b"", b"mpdmark2", bytes(4096), os.urandom(4096)])
def test_a_file_that_is_none_of_ours_is_no_evidence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.1"
    path.write_bytes(content)
    reader = JournalReader(path)
    assert not reader.is_evidence
    assert _marks(reader) == {}
    assert reader.workers() == []
    assert isinstance(reader.token, str)
    reader.close()


def test_a_file_cut_short_gives_the_records_that_are_whole(file: Journal) -> None:
    (_, first), (_, second) = _taken(file), _taken(file)
    first.write(1, 1, 10)
    second.write(2, 1, 20)
    whole = min(first.index, second.index)
    copy = file.path.with_name("copy")
    copy.write_bytes(
        file.path.read_bytes()[: journal_layout.PAGE + (whole + 1) * journal_layout.RECORD_BYTES + 100]
    )
    reader = JournalReader(copy)
    assert len(_marks(reader)) == whole + 1
    reader.close()


def test_no_file_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        JournalReader(tmp_path / "journal.1")


def test_a_symlink_is_not_followed(tmp_path: Path, file: Journal) -> None:
    link = tmp_path / "journal.8"
    link.symlink_to(file.path)
    with pytest.raises(OSError):
        JournalReader(link)
    with pytest.raises(OSError):
        Journal(link, 1, token=TOKEN)


_LOOK = """
import sys; from pathlib import Path; from mpdispatch.host.journal_reader import JournalReader
reader = JournalReader(Path(sys.argv[1])); print(reader.owner_is_gone()); reader.close()
"""


def test_another_process_sees_whether_the_owner_lives(tmp_path: Path) -> None:
    path = tmp_path / "journal.1"
    made = Journal(path, 1, token=TOKEN)

    def looked() -> str:
        done = subprocess.run([sys.executable, "-c", _LOOK, path], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert looked() == "False"
    made.close(remove=False)
    assert looked() == "True"


def test_looking_does_not_keep_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "journal.1"
    Journal(path, 1, token=TOKEN).close(remove=False)
    reader = JournalReader(path)
    assert reader.owner_is_gone()
    with open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    reader.close()


def test_the_control_word_names_the_start_that_is_to_end(file: Journal) -> None:
    ours, theirs = _taken(file)
    assert theirs.asked() == Control(0, 0, 0)
    ours.ask(Control(1 << 40, 7, 2))
    assert theirs.asked() == Control(1 << 40, 7, 2)
    theirs.write(5, 5, 5)
    assert theirs.asked() == Control(1 << 40, 7, 2)


def test_records_are_handed_out_clean_and_only_while_there_are_any(file: Journal) -> None:
    records = [_taken(file)[0] for _ in range(3)]
    assert len({record.index for record in records}) == 3
    assert file.take_record() is None
    records[1].write(9, 9, 9)
    records[1].ask(Control(9, 9, 1))
    file.give_back(records[1])
    again = file.take_record()
    assert again is not None
    assert again.index == records[1].index
    assert again.last() is None
    assert again.asked() == Control(0, 0, 0)
    assert not again.has(9, 9)


def test_the_file_is_private_and_never_replaces_another(file: Journal) -> None:
    assert file.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        Journal(file.path, 1, token=TOKEN)


def test_every_version_finds_it_by_the_same_name_and_believes_it(file: Journal) -> None:
    assert journal_path(Path("jobs.db-mpd"), 7) == Path("jobs.db-mpd/marks.7")
    _taken(file)
    content = file.path.read_bytes()
    assert content[:8] == b"mpdmark3"
    assert content[4096 + 24 :].startswith(b"mpd-ring\0")


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    made = Journal(tmp_path / "of a server" / "journal.1", 1, token=TOKEN)
    assert made.path.parent.stat().st_mode & 0o777 == 0o700
    made.close(remove=True)


def test_a_full_disk_is_an_error_and_not_a_bus_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A hole in the file would be filled at the first mark: on a full disk that is SIGBUS, for us and for workers.
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(start_journal.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        Journal(tmp_path / "journal.1", 1, token=TOKEN)
    assert not (tmp_path / "journal.1").exists()
    assert len(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------- what it costs


def test_a_file_takes_room_for_the_records_handed_out_and_no_others(tmp_path: Path) -> None:
    made = Journal(tmp_path / "journal.1", 4004, token=TOKEN)  # of a supervisor with 1,000 workers
    assert made.path.stat().st_blocks * 512 <= 64 * 1024
    records = [made.take_record() for _ in range(3)]
    taken = made.path.stat().st_blocks * 512
    assert 3 * journal_layout.RECORD_BYTES <= taken <= 3 * journal_layout.RECORD_BYTES + 64 * 1024
    for record in records:
        assert record is not None
        made.give_back(record)
    assert made.take_record() is not None
    assert made.path.stat().st_blocks * 512 == taken
    made.close(remove=True)


def test_most_of_what_is_given_back_the_disk_has_back_and_a_reader_misses_nothing(tmp_path: Path) -> None:
    made = Journal(tmp_path / "journal.1", 64, token=TOKEN)
    records = [made.take_record() for _ in range(33)]
    kept = records.pop()
    assert kept is not None
    kept.write(7, 1, 70)
    for record in records:
        assert record is not None
        record.write(1, 1, 10)
        made.give_back(record)
    made.trim()
    # Of each its first page stays, and of one all.
    assert made.path.stat().st_blocks * 512 <= 2 * journal_layout.RECORD_BYTES + 34 * 4096 + 64 * 1024
    assert _read(made)[7, 1] == 70
    again = [made.take_record() for _ in range(33)]
    assert [each for each in again if each is None or each.last() or each.has(1, 1)] == []
    assert made.path.stat().st_blocks * 512 >= 33 * journal_layout.RECORD_BYTES
    assert _read(made) == {(7, 1): 70}
    assert JournalReader(made.path).is_evidence
    made.close(remove=True)


def test_a_worker_can_be_replaced_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    made = Journal(tmp_path / "journal.1", 8, token=TOKEN)
    only = made.take_record()
    assert only is not None
    monkeypatch.setattr(start_journal.os, "posix_fallocate", full)
    made.give_back(only)
    made.trim()
    assert made.take_record() is not None
    made.close(remove=True)


def test_who_is_at_work_is_read_from_the_heads_of_the_records(
    file: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        _taken(file)[1].write(number + 1, 1, 10)
    read = list[int]()
    pread = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        read.append(length)
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    reader = JournalReader(file.path)
    assert not reader.owner_is_gone()
    assert sum(read) <= 128, "who looks whether a supervisor lives reads no more than the header"
    assert reader.is_evidence
    assert reader.latest() == {process_id(): Mark(3, 1, 10)}
    assert sum(read) <= 1024
    reader.close()


def test_a_record_there_is_no_room_for_is_none_and_can_be_had_later(
    file: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(start_journal.os, "posix_fallocate", full)
        assert file.take_record() is None
        assert file.no_room is not None
        assert _read(file) == {}
    assert file.take_record() is not None
    assert file.no_room is None


def test_a_file_is_not_read_for_what_is_in_its_header(file: Journal) -> None:
    _, record = _taken(file)
    record.write(1, 1, 10)
    os.truncate(file.path, 1 << 40)
    reader = JournalReader(file.path)
    assert not reader.owner_is_gone()
    assert reader.is_evidence
    assert reader.workers() == [process_id()]
    assert _marks(reader) == {(1, 1): 10}
    reader.close()


def test_a_worker_maps_its_own_record_and_no_more(file: Journal) -> None:
    _taken(file)
    _, second = _taken(file)
    assert len(second._map) <= journal_layout.RECORD_BYTES + 65536


# ---------------------------------------------------------------- what may happen to it


@pytest.mark.parametrize(
    "size",
    [
        0,
        50,
        journal_layout.PAGE,
        journal_layout.PAGE + journal_layout.RECORD_BYTES,
        journal_layout.PAGE + 2 * journal_layout.RECORD_BYTES - 1,
    ],
)
@pytest.mark.parametrize("is_long_again", [False, True])
def test_a_file_that_was_cut_is_no_evidence(file: Journal, size: int, is_long_again: bool) -> None:
    for number, (_, record) in enumerate([_taken(file), _taken(file)], start=1):
        record.write(number, 1, 10)
    whole = file.path.stat().st_size
    copy = file.path.with_name("copy")
    copy.write_bytes(file.path.read_bytes()[:size])
    if is_long_again and size != journal_layout.PAGE + 2 * journal_layout.RECORD_BYTES - 1:
        os.truncate(copy, whole)
    reader = JournalReader(copy)
    assert not reader.is_evidence
    reader.close()
    reader = JournalReader(file.path)
    assert reader.is_evidence
    reader.close()


def test_a_file_that_was_removed_is_made_anew_with_all_it_proved(file: Journal) -> None:
    (ours, theirs), (_, other) = _taken(file), _taken(file)
    free, _ = _taken(file)
    file.give_back(free)
    theirs.write(1, 1, 10)
    other.write(2, 3, 20)
    assert file.is_in_place()
    file.path.unlink()
    assert not file.is_in_place()
    file.remake([(ours, 9, 1, 30)])  # which its worker may be about to mark
    assert file.is_in_place()
    reader = JournalReader(file.path)
    assert reader.is_evidence
    assert reader.token == TOKEN
    assert not reader.owner_is_gone()
    assert _marks(reader) == {(1, 1): 10, (2, 3): 20, (9, 1): 30}
    reader.close()
    # What was handed out before is still of use to its worker and us, and nobody else sees it.
    assert not file.is_of_this_file(ours)
    theirs.write(5, 1, 50)
    assert ours.last() == Mark(5, 1, 50)
    assert (5, 1) not in _read(file)
    file.give_back(ours)
    again, worker = _taken(file)
    assert again.index == ours.index
    assert file.is_of_this_file(again)
    worker.write(6, 1, 60)
    assert set(_read(file)) == {(2, 3), (6, 1)}


def test_a_file_that_cannot_be_made_anew_stays_in_use(file: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = _taken(file)
    file.path.unlink()
    before = len(os.listdir("/proc/self/fd"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(start_journal.os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space"):
            file.remake([])
    assert not file.path.exists()
    assert len(os.listdir("/proc/self/fd")) == before
    theirs.write(1, 1, 10)
    assert ours.last() == Mark(1, 1, 10)
    file.remake([])
    assert _read(file) == {(1, 1): 10}


_MARKED = st.tuples(st.integers(1, 2**63 - 1), st.integers(1, 2**32 - 1), st.integers(0, 2**62))
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), _MARKED),
        st.tuples(st.just("tear"), st.tuples(_MARKED, st.integers(0, 31))),
    ),
    max_size=30,
)


@given(steps=_STEPS, wrapped=st.booleans())
@example(steps=[("tear", ((2, 2, 0), 9))], wrapped=True)
@settings(deadline=None, max_examples=100)
def test_whatever_is_written_no_start_is_invented(steps: list, wrapped: bool) -> None:  # type: ignore[type-arg]
    with tempfile.TemporaryDirectory() as folder:
        made = Journal(Path(folder) / "journal.1", 1, token=TOKEN)
        supervisors, record = _taken(made)
        begun: set[tuple[int, int]] = set()
        count = 0
        if wrapped:
            for count in range(1, journal_layout.MARKS + 1):
                record.write(count, 1, count)
                begun.add((count, 1))
        whole: list[tuple[int, int]] = []
        for kind, what in steps:
            at = journal_layout.PAGE + journal_layout.MARKS_AT + (count % journal_layout.MARKS) * 32
            if kind == "write":
                record.write(*what)
                whole.append(what[:2])
                count += 1
                continue
            (job_id, starts, boot_us), length = what
            check = job_id ^ starts << journal_layout.SHIFT ^ boot_us ^ journal_layout.CHECK
            packed = journal_layout.MARK.pack(job_id, starts, boot_us, check)
            # A kill in the middle of a write: this mark's handler was never called.
            made._map[at : at + length] = packed[:length]
            if length >= 16:
                begun.add((job_id, starts))
        found = _read(made)
        assert set(whole) <= set(found)
        assert set(found) <= begun | set(whole)
        assert all(supervisors.has(*token) for token in whole)
        made.close(remove=True)


@given(st.binary(max_size=3000))
@settings(deadline=None, max_examples=100)
def test_junk_in_a_record_is_no_start(junk: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = Journal(Path(folder) / "journal.1", 1, token=TOKEN)
        record, _ = _taken(made)
        made._map[journal_layout.PAGE : journal_layout.PAGE + len(junk)] = junk
        assert _read(made) == {}
        assert record.last() is None or record.last() not in _read(made)
        made.close(remove=True)
