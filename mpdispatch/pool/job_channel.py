"""Sends many jobs at a time to a worker, and can recall each of them. Both sides.

A frame has many jobs, so the worker holds jobs that it has not begun. For each of them there is a *permit* in an eventfd
that both sides share: the worker takes one before it begins a job, and the supervisor recalls jobs by taking permits.
The kernel gives each permit to one side only. Permits are anonymous. A worker begins its jobs in order, so taking n
permits always recalls the last n jobs sent.

    supervisor                              worker
    add(3); send [a b c]  ───▶  read [a b c]; take ▸ begins a
    take 2 permits: b and c are recalled     take: no permit is left for b and c ▸ discard them, reply Discarded(2)

Permits are added before the frame is sent, and a worker takes them only after it has read the frame. So a worker that has
read jobs and finds no permit knows that they were recalled, and no permit is taken for a job that never arrives.
Recalled jobs stay in the channel: if the supervisor read frames out of it, a worker that reads at the same moment could
get the second frame without the first. A worker gets no new jobs until it has discarded all recalled ones, or it would
take a new permit for an old job. Without eventfds (not on Linux) no job is recalled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from mpdispatch.pool.channel import Channel, ChannelBroken
from mpdispatch.pool.frames import decode_stop
from mpdispatch.pool.job_frames import JobToSend, ReceivedJob, decode_jobs, encode_jobs, is_jobs
from mpdispatch.pool.permits import StartPermits

_FRAME_BYTES = 32 * 1024
_UNIT_BYTES = 160
"""The size of a job without its arguments, rounded up."""


class JobSender:
    """The supervisor's side. Never waits."""

    def __init__(self, channel: Channel, permits: StartPermits | None) -> None:
        self._channel, self._permits = channel, permits
        self._astray = 0
        """The number of recalled jobs that are still in the channel or in the worker."""
        self.is_stale = False
        """Whether there are such jobs, so that the worker gets no new ones."""
        self.is_broken: str | None = None
        """Why nothing more can be sent to this worker; None: it can."""

    def send(self, jobs: Sequence[JobToSend]) -> int:
        """Send these jobs in order; gives how many were sent. The buffer may be full, or the worker stale or gone."""
        sent = 0
        try:
            for some in _frames(jobs):
                if self.is_stale or not self._send(some):
                    break
                sent += len(some)
        except ChannelBroken as error:
            # Not raised, because the jobs sent before belong to the worker, which may have begun them.
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
            # The worker takes permits only for jobs that it has read, so all that were added must still be there.
            if not is_sent and permits.take_all(count) < count:
                raise ChannelBroken("somebody else took its permits")
        return is_sent

    def recall(self, at_most: int) -> int:
        """Recall the jobs that the worker has not begun; gives their number. They are the last ones sent.

        If it is more than `at_most`, permits were forged.

        Raises ChannelBroken: the worker is gone.
        """
        if self._permits is None:
            return 0
        count = self._permits.take_all(at_most + 1)
        self._astray += count
        self.is_stale = self._astray > 0
        return count

    def discarded(self, count: int) -> None:
        """The worker has discarded this many recalled jobs. Raises ChannelBroken if there were fewer."""
        self._astray -= count
        self.is_stale = self._astray > 0
        if count < 1 or self._astray < 0:
            raise ChannelBroken(f"it discarded {count} jobs that were not recalled")


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
        """`on_rest` is called before an idle wait, `on_discarded` with the number of recalled jobs."""
        self._channel, self._permits = channel, permits
        self._on_rest, self._on_discarded = on_rest, on_discarded
        self._jobs: deque[ReceivedJob] = deque()
        self._may_begin = False
        self._is_stopped = self._is_shut = False

    def check(self) -> None:
        """Check that our descriptors are still ours. Reads nothing from the channel.

        Raises ChannelBroken: a handler closed them.
        """
        if self._jobs and self._permits is not None and not self._is_shut:
            self._look()  # needed next anyhow; it fails with a closed descriptor, too
        else:
            self._channel.check()

    def has_next(self, name: str) -> bool:
        """Whether the next job, unless it is recalled, has this name."""
        return bool(self._jobs) and self._jobs[0].name == name

    def shut(self) -> None:
        """Begin no more jobs. The supervisor recalls those that have not begun."""
        # Without permits nothing can be recalled, so the jobs that were sent must run.
        self._is_shut = self._permits is not None

    def _look(self) -> bool:
        """Whether there is a job to begin. If so, `next` returns it, and it can no longer be recalled."""
        # First the job, then its permit: a permit taken before might belong to another job than the one read next.
        if not self._may_begin and (self._jobs or self._read(wait=False)):
            self._may_begin = self._permits is None or self._permits.take()
        return self._may_begin

    def next(self) -> ReceivedJob | None:
        """Wait for the next job to run; None: a Stop came."""
        if self._is_shut:
            self._wait_for_stop()
            return None
        while not self._look():
            if self._jobs:
                count = len(self._jobs)
                self._jobs.clear()
                self._on_discarded(count)
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
        decode_stop(frame)  # it can be nothing else
        self._is_stopped = True
        return False
