"""Frames between two ends: whole, in order, or not at all; and what is no frame breaks the channel."""

from __future__ import annotations

import array
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpdispatch.pool.channel import FRAME_MAX, INLINE_MAX, Channel, ChannelBroken, channel_pair
from tests.pool.probes import open_descriptors


@dataclass
class Pair:
    ours: Channel
    theirs: Channel
    raw: socket.socket
    """The worker's end, to write there what is no frame."""


def _pair() -> Pair:
    ours, raw = channel_pair()
    return Pair(ours, Channel(raw), raw)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = _pair()
    yield made
    made.ours.close()
    made.theirs.close()


SIZES = [1, 2, 100, INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, 80 * 1024, 80 * 1024 + 1, 1 << 20]


@pytest.mark.parametrize("size", SIZES)
def test_a_frame_arrives_whole_both_ways(pair: Pair, size: int) -> None:
    frame = os.urandom(size)
    for sender, receiver in ((pair.ours, pair.theirs), (pair.theirs, pair.ours)):
        assert sender.send(frame, wait=False)
        assert receiver.receive(wait=False) == frame
        assert receiver.receive(wait=False) is None


@given(st.lists(st.integers(1, 2 * INLINE_MAX), min_size=1, max_size=3))
@settings(deadline=None, max_examples=30)
def test_frames_of_any_size_arrive_in_order(sizes: list[int]) -> None:
    pair = _pair()
    frames = [bytes([number]) * size for number, size in enumerate(sizes)]
    sent = [frame for frame in frames if pair.ours.send(frame, wait=False)]
    got = []
    while (frame := pair.theirs.receive(wait=False)) is not None:
        got.append(frame)
    assert got == sent
    pair.ours.close()
    pair.theirs.close()


def test_large_frames_leak_no_descriptor(pair: Pair) -> None:
    before = open_descriptors()
    for _ in range(20):
        assert pair.ours.send(b"x" * (1 << 20), wait=False)
        received = pair.theirs.receive(wait=False)
        assert received is not None
        assert len(received) == 1 << 20
    assert open_descriptors() == before


def test_an_empty_frame_is_refused_by_the_sender(pair: Pair) -> None:
    # On the wire it cannot be told from a hang-up.
    with pytest.raises(ValueError, match="empty"):
        pair.ours.send(b"", wait=False)
    assert pair.theirs.receive(wait=False) is None


@pytest.mark.parametrize("size", [150, INLINE_MAX, INLINE_MAX + 1])
def test_a_full_buffer_gives_false_and_loses_nothing(pair: Pair, size: int) -> None:
    descriptors = open_descriptors()
    sent = 0
    while sent < 5000 and pair.ours.send(sent.to_bytes(8, "big") + bytes(size - 8), wait=False):
        sent += 1
    assert 0 < sent < 5000
    numbers = []
    while (frame := pair.theirs.receive(wait=False)) is not None:
        numbers.append(int.from_bytes(frame[:8], "big"))
    assert numbers == list(range(sent))
    assert pair.ours.send(b"again", wait=False)
    assert open_descriptors() == descriptors


def test_a_waiting_send_and_receive_meet(pair: Pair) -> None:
    frames = [bytes([number]) * 1000 for number in range(200)] * 5
    writer = threading.Thread(target=lambda: [pair.theirs.send(frame, wait=True) for frame in frames])
    writer.start()
    got = [pair.ours.receive(wait=True) for _ in frames]
    writer.join()
    assert got == frames


def test_neither_end_becomes_non_blocking(pair: Pair) -> None:
    # O_NONBLOCK would be the worker's as well: the duplicate shares its open file description.
    pair.ours.receive(wait=False)
    with pair.raw.dup() as spare:
        Channel(spare).receive(wait=False)
    assert os.get_blocking(pair.ours.fileno())
    assert os.get_blocking(pair.raw.fileno())


def test_a_default_timeout_of_the_app_is_not_ours() -> None:
    socket.setdefaulttimeout(0.01)
    try:
        made = _pair()
        inherited = Channel(socket.socket(fileno=os.dup(made.raw.fileno())))
    finally:
        socket.setdefaulttimeout(None)
    assert os.get_blocking(made.raw.fileno())
    assert made.ours.receive(wait=False) is None, "it neither waits nor fails"
    sender = threading.Timer(0.1, lambda: made.ours.send(b"late", wait=True))
    sender.start()
    assert inherited.receive(wait=True) == b"late"
    sender.join()
    for each in (made.ours, made.theirs, inherited):
        each.close()


def test_a_duplicate_takes_unread_frames_back_whole_and_in_order(pair: Pair) -> None:
    spare = Channel(pair.raw.dup())
    frames = [bytes([number]) * (number * 3000 + 1) for number in range(30)]
    sent = [frame for frame in frames if pair.ours.send(frame, wait=False)]
    assert pair.theirs.receive(wait=False) == frames[0]
    taken = []
    while (frame := spare.receive(wait=False)) is not None:
        taken.append(frame)
    assert taken == sent[1:]
    assert pair.theirs.receive(wait=False) is None
    spare.close()


def test_a_hang_up_breaks_the_channel(pair: Pair) -> None:
    pair.theirs.close()
    with pytest.raises(ChannelBroken):
        pair.ours.receive(wait=True)
    with pytest.raises(ChannelBroken):
        pair.ours.send(b"x", wait=False)
    with pytest.raises(ChannelBroken):
        pair.ours.send(b"x" * (INLINE_MAX + 1), wait=False)


def test_a_closed_end_of_ones_own_breaks_the_channel(pair: Pair) -> None:
    # What a handler's os.closerange does to the worker.
    os.close(pair.raw.fileno())
    with pytest.raises(ChannelBroken):
        pair.theirs.send(b"x", wait=True)
    with pytest.raises(ChannelBroken):
        pair.theirs.receive(wait=True)
    pair.raw.detach()


def test_a_packet_longer_than_any_inline_frame_breaks_the_channel(pair: Pair) -> None:
    pair.raw.send(bytes(INLINE_MAX + 2))
    with pytest.raises(ChannelBroken, match="longer"):
        pair.ours.receive(wait=False)


def _send_descriptors(end: socket.socket, data: bytes, descriptors: list[int]) -> None:
    packed = array.array("i", descriptors).tobytes()
    end.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)])
    for descriptor in set(descriptors):
        os.close(descriptor)


def _memfd(size: int) -> int:
    descriptor = os.memfd_create("test")
    os.ftruncate(descriptor, size)
    return descriptor


def _pipe_end() -> int:
    read, write = os.pipe()
    os.close(write)
    return read


JUNK_DESCRIPTORS = {
    "with a frame of its own": (b"hello", lambda: [_memfd(10)]),
    "two at once": (b"@", lambda: [_memfd(10), _memfd(10)]),
    "far too many": (b"@", lambda: [_memfd(10)] * 60),
    "too large": (b"@", lambda: [_memfd(FRAME_MAX + 1)]),
    "not a file": (b"@", lambda: [_pipe_end()]),
    "a folder": (b"@", lambda: [os.open("/", os.O_RDONLY)]),
    "for writing only": (b"@", lambda: [os.open("/dev/null", os.O_WRONLY)]),
    "without content": (b"@", lambda: [_memfd(0)]),
}


@pytest.mark.parametrize("case", JUNK_DESCRIPTORS)
def test_a_descriptor_that_is_no_frame_breaks_the_channel_and_is_closed(pair: Pair, case: str) -> None:
    before = open_descriptors()
    data, make = JUNK_DESCRIPTORS[case]
    _send_descriptors(pair.raw, data, make())
    with pytest.raises(ChannelBroken):
        pair.ours.receive(wait=False)
    assert open_descriptors() == before


def test_the_announcement_of_a_large_frame_without_its_descriptor_is_no_frame(pair: Pair) -> None:
    pair.raw.send(b"@")
    with pytest.raises(ChannelBroken):
        pair.ours.receive(wait=False)


def test_received_descriptors_are_not_inherited(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    inheritable = []
    real = os.fstat

    def watch(descriptor: int) -> os.stat_result:
        inheritable.append(os.get_inheritable(descriptor))
        return real(descriptor)

    pair.ours.send(b"x" * (INLINE_MAX + 1), wait=False)
    monkeypatch.setattr("mpdispatch.pool.channel.os.fstat", watch)
    pair.theirs.receive(wait=False)
    assert inheritable == [False]


def test_a_sealed_frame_cannot_be_changed_by_its_sender(pair: Pair) -> None:
    pair.ours.send(b"x" * (INLINE_MAX + 1), wait=False)
    _, ancillary, _, _ = pair.raw.recvmsg(10, socket.CMSG_SPACE(4))
    (descriptor,) = array.array("i", ancillary[0][2])
    with pytest.raises(PermissionError):
        os.write(descriptor, b"y")
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 1)
    os.close(descriptor)


def test_no_descriptor_left_is_a_frame_not_sent_now(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    # The supervisor out of descriptors has not lost its worker.
    def exhausted(*_: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("mpdispatch.pool.channel.os.memfd_create", exhausted)
        assert not pair.ours.send(b"x" * (INLINE_MAX + 1), wait=False)
    assert pair.ours.send(b"x" * (INLINE_MAX + 1), wait=False)
