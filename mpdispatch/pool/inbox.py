"""How jobs get to a worker many at a time, and how any of them can be taken back one by one. Both sides.

Jobs travel many to a frame, so the worker holds jobs it has not begun. For each there is a *token* in an eventfd
that both sides hold: the worker takes one before it begins a job, and the supervisor takes back jobs by taking
tokens. The kernel gives a token to one of them only. Tokens have no names: they are worth the jobs sent last, for a
worker begins its jobs in order.

    supervisor                              worker
    add(3); send [a b c]  ───▶  take ▸ a    take ▸ (begins a)
    take 2 tokens: b, c are mine again      no token, but jobs in hand: they are not mine, away with them ▸ Dropped

Tokens are added before the frame is sent: a worker that has jobs and finds no token was taken back from. Until it has
said `Dropped`, a worker that may hold such jobs gets none, for it would take a new token for an old job. Without
eventfds (not Linux) nothing is ever taken back.
"""

from __future__ import annotations

import os
import select
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from mpdispatch.pool.channel import Channel, ChannelBroken
from mpdispatch.pool.frames import RunJob, decode_jobs, decode_stop, encode, is_jobs

__all__ = ["Feed", "Inbox", "Tokens"]

_FRAME_BYTES = 32 * 1024
_UNIT_BYTES = 160
"""What a job is besides its arguments, generously."""


class Tokens:
    """A count that either side adds to and takes from, one at a time or none."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def make(cls) -> Tokens | None:
        """None: this system has no such thing. Raises OSError: no descriptor left."""
        if sys.platform != "linux":
            return None
        return cls(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE))

    def add(self, count: int) -> None:
        os.eventfd_write(self.fd, count)

    def take(self) -> bool:
        """Take one; False: there is none."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ChannelBroken(f"tokens: {error}") from error
        return True

    def take_all(self, at_most: int) -> int:
        count = 0
        while count < at_most and self.take():
            count += 1
        return count

    def close(self) -> None:
        os.close(self.fd)


class Feed:
    """The supervisor's side. Never waits."""

    def __init__(self, channel: Channel, spare: Channel | None, tokens: Tokens | None) -> None:
        """`spare`: a duplicate of the worker's end, to take back what it has not read."""
        self._channel, self._spare, self._tokens = channel, spare, tokens
        self._owed = 0
        """Tokens the worker took for jobs that could not be sent after all."""
        self._sent = 0
        self.is_stale = False
        """Whether the worker may hold jobs that were taken back, and so must not be sent any."""

    def send(self, jobs: Sequence[RunJob]) -> int:
        """Send these, in order; gives how many were sent: the buffer may be full.

        Raises:
            ChannelBroken: the worker is gone.
        """
        sent = 0
        for some in _frames(jobs):
            if not self._send(some):
                break
            sent += len(some)
        self._sent += sent
        return sent

    def _send(self, jobs: Sequence[RunJob]) -> bool:
        frame = encode(jobs)
        if self._tokens is None:
            return self._channel.send(frame, wait=False)
        count = max(0, len(jobs) - self._owed)
        if count:
            self._tokens.add(count)
        if self._channel.send(frame, wait=False):
            self._owed = max(0, self._owed - len(jobs))
            return True
        self._owed += count - self._tokens.take_all(count)
        return False

    def take_back(self) -> int:
        """Keep the worker from beginning what it has not begun; gives how many of the jobs sent last that are.

        Raises:
            ChannelBroken: the worker is gone.
        """
        if self._tokens is None or self._spare is None:
            return 0
        count = self._tokens.take_all(self._sent)
        unread, others = list[RunJob](), list[bytes]()
        while (frame := self._spare.receive(wait=False)) is not None:
            if is_jobs(frame):
                unread += decode_jobs(frame)
            else:
                others.append(frame)
        # It has taken the token of a job and waits for its frame, which we have just taken away.
        if len(unread) > count:
            others.insert(0, encode(unread[: len(unread) - count]))
        elif len(unread) < count:
            self.is_stale = True
        for frame in others:
            if not self._channel.send(frame, wait=False):
                raise ChannelBroken("what was taken back by mistake cannot be sent again")
        return count


def _frames(jobs: Sequence[RunJob]) -> Iterator[Sequence[RunJob]]:
    start = size = 0
    for position, job in enumerate(jobs):
        size += len(job.payload) + _UNIT_BYTES
        if size > _FRAME_BYTES and position > start:
            yield jobs[start:position]
            start, size = position, len(job.payload) + _UNIT_BYTES
    if start < len(jobs):
        yield jobs[start:] if start else jobs


class Inbox:
    """The worker's side."""

    def __init__(
        self,
        channel: Channel,
        tokens: Tokens | None,
        *,
        on_rest: Callable[[], None],
        on_dropped: Callable[[], None],
    ) -> None:
        """`on_rest` is called before it waits; `on_dropped` when it let go of jobs that were taken back."""
        self._channel, self._tokens = channel, tokens
        self._on_rest, self._on_dropped = on_rest, on_dropped
        self._jobs: deque[RunJob] = deque()
        self._may_begin = False
        self._is_stopped = False

    def look(self) -> bool:
        """Whether there is a job for now; if so, `next` gives it, and nobody can take it back any more.

        Raises:
            ChannelBroken: a handler closed our descriptors.
        """
        if self._tokens is not None:
            self._may_begin = self._may_begin or self._tokens.take()
        else:
            self._may_begin = bool(self._jobs) or self._read(wait=False)
        return self._may_begin

    def next(self) -> RunJob | None:
        """The next job to run, waited for; None: stop."""
        while not self.look():
            if self._jobs:
                self._jobs.clear()
                self._on_dropped()
            self._on_rest()
            if self._is_stopped:
                return None
            self._wait()
        while not self._jobs:
            # There is a token, so its job was sent, or is being sent.
            if self._is_stopped:
                return None
            self._read(wait=True)
        self._may_begin = False
        return self._jobs.popleft()

    def _wait(self) -> None:
        """Until there is a token, or a frame."""
        if self._tokens is None:
            self._read(wait=True)
            return
        poll = select.poll()
        poll.register(self._tokens.fd, select.POLLIN)
        poll.register(self._channel.fileno(), select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll()}
        if self._tokens.fd not in ready:
            self._read(wait=False)

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
