"""How jobs get to a worker many at a time, and how any of them can be taken back one by one. Both sides.

Jobs travel many to a frame, so the worker holds jobs it has not begun. For each there is a *token* in an eventfd
that both sides hold: the worker takes one before it begins a job, and the supervisor takes back jobs by taking
permits. The kernel gives a token to one of them only. StartPermits have no names: they are worth the jobs sent last, for a
worker begins its jobs in order.

    supervisor                              worker
    add(3); send [a b c]  ───▶  read [a b c]; take ▸ begins a
    take 2 permits: b, c are mine again      take: none, but jobs in hand: they are not mine, away with them ▸ Discarded(2)

StartPermits are added before the frame is sent, and taken only after it is read: a worker that has read jobs and finds no
token was taken back from, and nobody waits with a token for a job that never comes. Frames stay in the channel: were
they taken out of it, a worker that reads just then would get the second without the first. Until it has let go of all
that was taken back, which is counted, a worker gets no jobs: it would take a new token for an old job. Without
eventfds (not Linux) nothing is ever taken back.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence

# Bound here: a job may have put something else in their place.
from os import eventfd_read

from mpdispatch.pool.channel import Channel, ChannelBroken
from mpdispatch.pool.frames import decode_stop
from mpdispatch.pool.job_frames import JobToSend, ReceivedJob, decode_jobs, encode_jobs, is_jobs

__all__ = ["JobReceiver", "JobSender", "StartPermits"]

_FRAME_BYTES = 32 * 1024
_UNIT_BYTES = 160
"""What a job is besides its arguments, generously."""


class StartPermits:
    """A count that either side adds to and takes from, one at a time or none."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def make(cls) -> StartPermits | None:
        """None: this system has no such thing. Raises OSError: no descriptor left."""
        if sys.platform != "linux":
            return None
        return cls(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE))

    def add(self, count: int) -> None:
        try:
            os.eventfd_write(self.fd, count)
        except OSError as error:  # somebody else filled it
            raise ChannelBroken(f"permits: {error}") from error

    def take(self) -> bool:
        """Take one; False: there is none."""
        try:
            eventfd_read(self.fd)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ChannelBroken(f"permits: {error}") from error
        return True

    def take_all(self, at_most: int) -> int:
        count = 0
        while count < at_most and self.take():
            count += 1
        return count

    def close(self) -> None:
        os.close(self.fd)


class JobSender:
    """The supervisor's side. Never waits."""

    def __init__(self, channel: Channel, permits: StartPermits | None) -> None:
        self._channel, self._permits = channel, permits
        self._astray = 0
        """Jobs taken back that still lie in the channel, or in the worker."""
        self.is_stale = False
        """Whether the worker may come upon such jobs, and so is sent none."""
        self.is_broken: str | None = None
        """Why nothing can be sent to this worker any more."""

    def send(self, jobs: Sequence[JobToSend]) -> int:
        """Send these, in order; gives how many were sent: the buffer may be full, the worker stale or gone."""
        sent = 0
        try:
            for some in _frames(jobs):
                if self.is_stale or not self._send(some):
                    break
                sent += len(some)
        except ChannelBroken as error:
            # Not raised: what was sent until then is the worker's, and may have been begun.
            self.is_broken = str(error)
        return sent

    def _send(self, jobs: Sequence[JobToSend]) -> bool:
        frame, permits, count = encode_jobs(jobs), self._permits, len(jobs)
        if permits is None:
            return self._channel.send(frame, wait=False)
        permits.add(count)
        is_sent = False
        try:
            is_sent = self._channel.send(frame, wait=False)
        finally:
            # The worker takes a token only for a job it has read: as many as were added are still there.
            if not is_sent and permits.take_all(count) < count:
                raise ChannelBroken("somebody else took its permits")
        return is_sent

    def take_back(self, at_most: int) -> int:
        """Keep the worker from beginning what it has not begun; gives how many of the jobs sent last that are.

        More than `at_most`: somebody else added permits.

        Raises:
            ChannelBroken: the worker is gone.
        """
        if self._permits is None:
            return 0
        count = self._permits.take_all(at_most + 1)
        self._astray += count
        self.is_stale = self._astray > 0
        return count

    def discarded(self, count: int) -> None:
        """The worker let go of so many jobs that were taken back. Raises ChannelBroken: there were fewer."""
        self._astray -= count
        self.is_stale = self._astray > 0
        if count < 1 or self._astray < 0:
            raise ChannelBroken(f"it let go of {count} jobs that were not taken back")


def _frames(jobs: Sequence[JobToSend]) -> Iterator[Sequence[JobToSend]]:
    start = size = 0
    for position, (job, _) in enumerate(jobs):
        size += len(job.payload) + _UNIT_BYTES
        if size > _FRAME_BYTES and position > start:
            yield jobs[start:position]
            start, size = position, len(job.payload) + _UNIT_BYTES
    if start < len(jobs):
        yield jobs[start:] if start else jobs


class JobReceiver:
    """The worker's side."""

    def __init__(
        self,
        channel: Channel,
        permits: StartPermits | None,
        *,
        on_rest: Callable[[], None],
        on_discarded: Callable[[int], None],
    ) -> None:
        """`on_rest` is called before it waits; `on_discarded` with how many jobs it let go of: they were taken back."""
        self._channel, self._permits = channel, permits
        self._on_rest, self._on_dropped = on_rest, on_discarded
        self._jobs: deque[ReceivedJob] = deque()
        self._may_begin = False
        self._is_stopped = self._is_shut = False

    def check(self) -> None:
        """See that our descriptors are still ours. Nothing of what lies in the channel is read.

        Raises:
            ChannelBroken: a handler closed them.
        """
        if self._jobs and self._permits is not None and not self._is_shut:
            self._look()  # it has to be done anyhow, and a closed descriptor shows there as well
        else:
            self._channel.check()

    def has_next(self, name: str) -> bool:
        """Whether a job of this name is here to be the next, if it is not taken back."""
        return bool(self._jobs) and self._jobs[0].name == name

    def shut(self) -> None:
        """Let nothing more be begun here: what is not begun is left for the supervisor to take back."""
        # Where nothing can be taken back, what has been sent is to be run.
        self._is_shut = self._permits is not None

    def _look(self) -> bool:
        """Whether there is a job for now; if so, `next` gives it, and nobody can take it back any more."""
        # First the job, then its token: a token taken before might be worth another job than the one read then.
        if not self._may_begin and (self._jobs or self._read(wait=False)):
            self._may_begin = self._permits is None or self._permits.take()
        return self._may_begin

    def next(self) -> ReceivedJob | None:
        """The next job to run, waited for; None: stop."""
        if self._is_shut:
            self._wait_for_stop()
            return None
        while not self._look():
            if self._jobs:
                count = len(self._jobs)
                self._jobs.clear()
                self._on_dropped(count)
                if self._is_shut:
                    return self.next()
                continue
            self._on_rest()
            if self._is_stopped:
                return None
            if self._is_shut:
                return self.next()
            self._read(wait=True)
        self._may_begin = False
        return self._jobs.popleft()

    def _wait_for_stop(self) -> None:
        while not self._is_stopped:
            self._read(wait=True)
            self._jobs.clear()

    def _read(self, *, wait: bool) -> bool:
        frame = self._channel.receive(wait=wait)
        if frame is None:
            return False
        if is_jobs(frame):
            self._jobs.extend(decode_jobs(frame))
            return True
        decode_stop(frame)  # there is nothing else it may be
        self._is_stopped = True
        return False
