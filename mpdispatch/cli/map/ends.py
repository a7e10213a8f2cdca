"""How the jobs of `map` end: told by the supervisor of this process, or read from the store after a restart."""

from __future__ import annotations

import queue
from collections.abc import Sequence

import msgspec

from mpdispatch.events.notices import Notice, Recorded
from mpdispatch.hooks import HOOKS, JobCompleted
from mpdispatch.model import TERMINAL_STATES, Attempt, Cause, ErrorInfo, Job, JobState, Transition

HOOK = HOOKS[JobCompleted]
"""The hook that a plan must name for a supervisor to tell of ends."""
CUT_OFF = frozenset({Cause.LEASE_LOST, Cause.ABORTED})
"""Causes of an end for which the program is not to blame: it was killed with its supervisor, or by Ctrl-C."""
_MOST_BYTES = 16 << 20
"""The most bytes of results that wait in memory. Further ones are read from the store when they are printed."""


class End(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a job ended, in its last start."""

    job_id: int
    starts: int
    attempt: int
    state: JobState
    cause: Cause
    started_s: float
    """Seconds since the epoch."""
    duration_s: float
    exit_status: int | None = None
    signal: str | None = None
    error: ErrorInfo | None = None
    result: bytes | None = None
    """JSON; None: it has none, or it is to be read from the store."""

    @property
    def is_success(self) -> bool:
        return self.state is JobState.COMPLETED

    def without_result(self) -> End:
        return msgspec.structs.replace(self, result=None)


def end_of(transition: Transition) -> End:
    """The end of a job that this transition has ended."""
    run = transition.run
    return End(
        job_id=transition.job_id,
        starts=transition.starts,
        attempt=transition.claim_attempt,
        state=transition.state,
        cause=transition.cause,
        started_s=(transition.at_us if run is None else run.started_us) / 1e6,
        duration_s=0.0 if run is None or run.duration_us is None else run.duration_us / 1e6,
        exit_status=transition.exit_status,
        signal=transition.signal,
        error=transition.error,
        result=transition.result,
    )


def end_in_store(job: Job, attempts: Sequence[Attempt]) -> End:
    """The end of a job that has ended, as the store has it. Its result is not in it."""
    last = attempts[-1] if attempts else None
    began = (last.started_at if last is not None else job.started_at) or job.created_at
    return End(
        job_id=job.id,
        starts=job.starts,
        attempt=job.attempt,
        state=job.state,
        cause=last.cause if last is not None else Cause.CANCELLED,
        started_s=began.timestamp(),
        duration_s=(last.duration_s if last is not None else None) or 0.0,
        exit_status=None if last is None else last.exit_status,
        signal=None if last is None else last.signal,
        error=job.last_error,
    )


class EndQueue:
    """Takes the ends from the supervisor's thread to the thread that prints. Loses none."""

    def __init__(self) -> None:
        self._ends: queue.SimpleQueue[End | None] = queue.SimpleQueue()
        # One thread counts each, so that no addition is lost.
        self._offered_bytes = self._taken_bytes = 0

    def offer(self, notices: Sequence[Notice], count: int) -> None:
        """Take the ends among these notices; never waits."""
        for notice in notices:
            if type(notice) is Recorded and notice.transition.state in TERMINAL_STATES:
                end = end_of(notice.transition)
                size = len(end.result or b"")
                if self._offered_bytes - self._taken_bytes + size > _MOST_BYTES:
                    end = end.without_result()
                else:
                    self._offered_bytes += size
                self._ends.put(end)

    def drain(self, timeout_s: float) -> bool:
        """Ends are delivered by `get`; the thread that calls it outlives the supervisor."""
        return True

    def wake(self) -> None:
        """Have `get` return. May be called by a signal handler."""
        self._ends.put(None)

    def get(self, timeout_s: float) -> End | None:
        """The next end; None after `timeout_s`, or after `wake`."""
        try:
            end = self._ends.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if end is not None:
            self._taken_bytes += len(end.result or b"")
        return end
