"""What running jobs write, between the pipe and the store."""

from __future__ import annotations

from mpdispatch.model import KEPT_BYTES, Stream, tail
from mpdispatch.supervisor.outputs import Outputs

SECOND_US = 1_000_000


def test_the_first_piece_is_due_at_once_and_the_next_a_second_later() -> None:
    outputs = Outputs()
    outputs.add(1, 1, Stream.STDOUT, "a", 1, now_us=10)
    assert outputs.next_us == 10
    (first,) = outputs.due(10, [])
    outputs.written([first], [], 10)
    assert outputs.next_us is None
    outputs.add(1, 1, Stream.STDOUT, "b", 2, now_us=20)
    assert outputs.due(20, []) == []
    (second,) = outputs.due(10 + SECOND_US, [])
    assert (second.text, second.written) == ("ab", 2)


def test_what_ends_is_written_with_its_outcome_and_forgotten() -> None:
    outputs = Outputs()
    outputs.add(1, 1, Stream.LOG, "a", 1, now_us=0)
    outputs.written(outputs.due(0, []), [], 0)
    outputs.add(1, 1, Stream.LOG, "b", 2, now_us=5)
    (last,) = outputs.due(5, [(1, 1)])
    assert last.text == "ab"
    outputs.written([last], [(1, 1)], 5)
    assert not outputs


def test_a_write_that_failed_is_due_again() -> None:
    outputs = Outputs()
    outputs.add(1, 1, Stream.LOG, "a", 1, now_us=0)
    assert outputs.due(0, []) == outputs.due(0, [])


def test_only_the_last_64_kib_are_held() -> None:
    outputs = Outputs()
    for each in range(200):
        outputs.add(1, 1, Stream.STDOUT, f"{each:04d}" * 256, 1024 * (each + 1), now_us=0)
    (held,) = outputs.due(0, [])
    assert len(held.text.encode()) == KEPT_BYTES
    assert held.text.endswith("0199")
    assert held.written == 200 * 1024


def test_a_tail_never_begins_with_half_a_character() -> None:
    for shift in range(4):
        kept = tail("x" * shift + "🦊" * 20_000)
        assert KEPT_BYTES - 4 < len(kept.encode()) <= KEPT_BYTES
        assert set(kept) <= {"🦊", "x"}
