"""Jobs, frames and permits: whatever the interleaving, a job is begun once or taken back once, and none is lost.

Both sides are real, in one process. The worker runs in a thread that stops before each step it takes (each system
call), and goes on as far as the supervisor's side lets it before each step of its own: hypothesis says how far.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpdispatch.model import ClaimedJob
from mpdispatch.pool import job_channel as inboxes
from mpdispatch.pool.channel import Channel, ChannelBroken, channel_pair
from mpdispatch.pool.frames import Stop, encode
from mpdispatch.pool.job_channel import JobReceiver, JobSender
from mpdispatch.pool.job_frames import JobToSend
from mpdispatch.pool.permits import StartPermits

_STEPS = 5000


def _job(number: int, size: int = 0) -> JobToSend:
    return ClaimedJob(number, 1, 1, "noop", "default", 0, 0, 3, None, None, payload=b"x" * size), None


class _Stepper:
    """Two threads that take turns, a step at a time."""

    def __init__(self, pace: Sequence[int]) -> None:
        self._pace = itertools.cycle([*pace, 1])
        self._go, self._parked = threading.Semaphore(0), threading.Semaphore(0)
        self.is_over = self.is_abandoned = False

    def park(self) -> None:
        """In the worker: wait for its next step."""
        self._parked.release()
        self._go.acquire()
        if self.is_abandoned:
            raise SystemExit

    def over(self) -> None:
        self.is_over = True
        self._parked.release()

    def begin(self) -> None:
        self._parked.acquire()

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            if not self.is_over:
                self._go.release()
                self._parked.acquire()

    def turn(self) -> None:
        """In the supervisor: let the worker go on for a while."""
        self.step(next(self._pace))

    def abandon(self) -> None:
        self.is_abandoned = True
        self.step()


class _SupervisorTokens(StartPermits):
    __slots__ = ("stepper",)
    stepper: _Stepper

    def add(self, count: int) -> None:
        self.stepper.turn()
        super().add(count)

    def take(self) -> bool:
        self.stepper.turn()
        return super().take()


class _SupervisorChannel(Channel):
    __slots__ = ("is_full", "stepper")
    stepper: _Stepper
    is_full: bool

    def send(self, frame: bytes, *, wait: bool) -> bool:
        self.stepper.turn()
        return not self.is_full and super().send(frame, wait=wait)


class _WorkerTokens(StartPermits):
    __slots__ = ("stepper",)
    stepper: _Stepper

    def take(self) -> bool:
        self.stepper.park()
        return super().take()


class _WorkerChannel(Channel):
    __slots__ = ("stepper",)
    stepper: _Stepper

    def receive(self, *, wait: bool) -> bytes | None:
        while True:
            self.stepper.park()
            frame = super().receive(wait=False)
            if frame is not None or not wait:
                return frame


class _Twins:
    """A supervisor and its worker. What is checked: nothing of what was taken back is ever begun."""

    def __init__(self, pace: Sequence[int]) -> None:
        self.stepper = _Stepper(pace)
        ours, theirs = channel_pair()
        made = StartPermits.make()
        assert made is not None
        self._permits, self._other_end = made, theirs
        self.channel = _SupervisorChannel(ours._socket)
        self.channel.stepper, self.channel.is_full = self.stepper, False
        permits = _SupervisorTokens(made.fd)
        permits.stepper = self.stepper
        self.sender = JobSender(self.channel, permits)
        self.assigned: deque[int] = deque()
        self.sent: list[int] = []
        self.taken: list[int] = []
        self._numbers = itertools.count(1)
        # The worker's side.
        self.begun: list[int] = []
        self.said: deque[tuple[str, int]] = deque()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        self.stepper.begin()

    def _work(self) -> None:
        channel = _WorkerChannel(self._other_end)
        permits = _WorkerTokens(self._permits.fd)
        channel.stepper = permits.stepper = self.stepper
        receiver = JobReceiver(channel, permits, on_rest=lambda: None, on_discarded=self._discarded)
        try:
            while (job := receiver.next()) is not None:
                self.begun.append(job.id)
                self.stepper.park()
                receiver.check()
                self.said.append(("done", job.id))
        except BaseException as error:
            self.error = error
        self.stepper.over()

    def _discarded(self, count: int) -> None:
        self.stepper.park()
        self.said.append(("discarded", count))

    def send(self, sizes: Sequence[int], *, is_full: bool = False) -> None:
        if self.sender.is_stale:
            return
        jobs = [_job(next(self._numbers), size) for size in sizes]
        self.assigned.extend(job.id for job, _ in jobs)
        self.channel.is_full = is_full
        sent = self.sender.send(jobs)
        self.channel.is_full = False
        assert self.sender.is_broken is None
        assert not (is_full and sent)
        for _ in range(len(jobs) - sent):
            self.assigned.pop()
        self.sent += [job.id for job, _ in jobs[:sent]]

    def recall(self) -> None:
        count = self.sender.recall(len(self.assigned))
        assert count <= len(self.assigned)
        back = [self.assigned.pop() for _ in range(count)]
        assert not {*back} & {*self.begun}
        self.taken += back

    def hear(self) -> None:
        for _ in range(len(self.said)):
            what, number = self.said.popleft()
            if what == "done":
                self.assigned.remove(number)
            else:
                self.sender.discarded(number)

    def finish(self) -> None:
        """Everything was begun or taken back, once and in order, and nothing is left over."""
        self.channel.send(encode(Stop()), wait=False)
        for _ in range(_STEPS):
            self.stepper.step()
            if self.stepper.is_over:
                break
        assert self.stepper.is_over, "the worker hangs"
        assert self.error is None
        self.hear()
        taken = set(self.taken)
        assert len(taken) == len(self.taken)
        assert self.begun == [number for number in self.sent if number not in taken]
        assert not self.assigned
        assert not self.sender.is_stale
        assert not self._permits.take()

    def close(self) -> None:
        while not self.stepper.is_over:
            self.stepper.abandon()
        self._thread.join()
        self.channel.close()
        self._other_end.close()
        self._permits.close()


@pytest.fixture(autouse=True, scope="module")
def few_to_a_frame() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(inboxes, "_FRAME_BYTES", 2 * inboxes._UNIT_BYTES + 10)
        yield


_sizes = st.lists(st.sampled_from([0, 0, 0, 100, 70_000]), min_size=1, max_size=7)
_acts: st.SearchStrategy[tuple[str, list[int]]] = st.one_of(
    st.tuples(st.just("send"), _sizes),
    st.tuples(st.just("full"), _sizes),
    st.tuples(st.sampled_from(["recall", "recall", "hear", "hear", "idle"]), st.just([])),
)


@settings(max_examples=400)
@given(acts=st.lists(_acts, max_size=25), pace=st.lists(st.integers(0, 6), max_size=40))
def test_a_job_is_begun_once_or_taken_back_once_whatever_the_interleaving(
    acts: list[tuple[str, list[int]]], pace: list[int]
) -> None:
    twins = _Twins(pace)
    try:
        for what, sizes in acts:
            match what:
                case "send" | "full":
                    twins.send(sizes, is_full=what == "full")
                case "recall":
                    twins.recall()
                case "hear":
                    twins.hear()
                case _:
                    twins.stepper.turn()
        twins.finish()
    finally:
        twins.close()


# ---------------------------------------------------------------- one by one


@pytest.fixture
def twins() -> Iterator[_Twins]:
    made = _Twins([0] * 10_000)  # it goes on only when told to
    yield made
    made.close()


def test_a_worker_that_reads_the_second_frame_while_jobs_are_taken_back_begins_none_of_them(
    twins: _Twins,
) -> None:
    # Frames were once taken out of the channel: it had the token of the first, and got the second.
    twins.send([100, 100, 100])  # each in a frame of its own
    twins.stepper.step(2)  # the first is read, and begun
    twins.recall()
    assert twins.taken == [3, 2]
    twins.finish()
    assert twins.begun == [1]


def test_a_worker_gets_no_jobs_until_it_has_let_go_of_every_frame_that_was_taken_back(twins: _Twins) -> None:
    twins.send([100, 100, 100])
    twins.recall()
    while not twins.said:
        twins.stepper.step()
    twins.hear()  # of the first frame; two still lie there, and a token would be taken for them
    assert twins.sender.is_stale
    assert twins.sender.send([_job(9)]) == 0
    while sum(count for _, count in twins.said) < 2:
        twins.stepper.step()
    twins.hear()
    assert not twins.sender.is_stale
    twins.send([0])
    twins.finish()
    assert twins.begun == [4]


def test_a_worker_does_not_wait_with_a_token_for_jobs_that_cannot_be_sent(twins: _Twins) -> None:
    class Impatient(StartPermits):
        def add(self, count: int) -> None:
            super().add(count)
            twins.stepper.step(20)  # the worker looks, between the permits and the frame

    twins.sender._permits = Impatient(twins._permits.fd)
    twins.send([0, 0], is_full=True)
    assert not twins._permits.take()
    twins.send([0])
    twins.finish()
    assert twins.begun == [3]


def _sender() -> tuple[JobSender, Channel, Channel, StartPermits]:
    ours, theirs = channel_pair()
    permits = StartPermits.make()
    assert permits is not None
    return JobSender(ours, permits), ours, Channel(theirs), permits


def test_what_was_sent_before_the_channel_broke_is_the_workers() -> None:
    sender, ours, theirs, permits = _sender()

    class Breaks(Channel):
        def send(self, frame: bytes, *, wait: bool) -> bool:
            if tokens_there() > 1:
                raise ChannelBroken("send: broken pipe")
            return ours.send(frame, wait=wait)

    def tokens_there() -> int:
        count = permits.take_all(10)
        if count:
            permits.add(count)
        return count

    sender._channel = Breaks(ours._socket)
    assert sender.send([_job(number, 200) for number in range(3)]) == 1
    assert sender.is_broken == "send: broken pipe"
    assert tokens_there() == 1  # and none for those that were not
    for end in (ours, theirs, permits):
        end.close()


def test_tokens_that_somebody_took_are_missed() -> None:
    sender, ours, theirs, permits = _sender()

    class Full(Channel):
        def send(self, frame: bytes, *, wait: bool) -> bool:
            assert permits.take()
            return False

    sender._channel = Full(ours._socket)
    assert sender.send([_job(1)]) == 0
    assert "somebody else" in str(sender.is_broken)
    for end in (ours, theirs, permits):
        end.close()


def test_tokens_that_cannot_be_added_break_the_channel() -> None:
    sender, ours, theirs, permits = _sender()
    os.eventfd_write(permits.fd, 2**64 - 2)
    assert sender.send([_job(1)]) == 0
    assert "permits" in str(sender.is_broken)
    for end in (ours, theirs, permits):
        end.close()


def test_an_inbox_that_is_shut_begins_nothing_more_and_leaves_all_to_be_taken_back() -> None:
    sender, ours, theirs, permits = _sender()
    receiver = JobReceiver(theirs, permits, on_rest=lambda: None, on_discarded=lambda count: None)
    assert sender.send([_job(1), _job(2)]) == 2
    assert receiver.next() is not None  # both are read, and the first is begun
    receiver.shut()
    receiver.check()
    assert sender.send([_job(3)]) == 1
    assert sender.recall(2) == 2
    ours.send(encode(Stop()), wait=False)
    assert receiver.next() is None
    for end in (ours, theirs, permits):
        end.close()


@pytest.mark.parametrize("how", ["closed", "something else"])
@pytest.mark.parametrize("waiting", [0, 1])
def test_a_look_at_our_descriptors_finds_them_closed_and_reads_nothing(how: str, waiting: int) -> None:
    sender, ours, theirs, permits = _sender()
    receiver = JobReceiver(theirs, permits, on_rest=lambda: None, on_discarded=lambda count: None)
    assert sender.send([_job(1)]) == 1
    assert receiver.next() is not None
    if waiting:
        ours.send(b"this is no frame", wait=False)
    receiver.check()
    number = theirs.fileno()
    os.close(number)
    if how == "something else":
        other = os.open(os.devnull, os.O_RDONLY)
        assert other == number
    with pytest.raises(ChannelBroken):
        receiver.check()
    if how == "closed":
        os.open(os.devnull, os.O_RDONLY)  # for the close below
    for end in (ours, theirs, permits):
        end.close()


@pytest.mark.parametrize("count", [0, -1, 3])
def test_a_worker_that_lets_go_of_what_it_does_not_hold_is_not_believed(count: int) -> None:
    sender, ours, theirs, permits = _sender()
    assert sender.send([_job(1), _job(2)]) == 2
    assert sender.recall(2) == 2
    with pytest.raises(ChannelBroken):
        sender.discarded(count)
    for end in (ours, theirs, permits):
        end.close()


def test_more_tokens_than_jobs_are_noticed_and_not_counted_for_ever() -> None:
    sender, ours, theirs, permits = _sender()
    assert sender.send([_job(1), _job(2)]) == 2
    permits.add(1_000_000)
    assert sender.recall(2) == 3
    for end in (ours, theirs, permits):
        end.close()
