"""Waits for a job to end, by polling its state. `wait_for_end` blocks."""

from __future__ import annotations

import time
from collections.abc import Callable

from mpdispatch.clock import sleep
from mpdispatch.errors import WaitTimeoutError
from mpdispatch.model import JobState
from mpdispatch.store.contract import Store

# Often at first, for short jobs; then at most 100 times a second. A look costs some 20 µs.
_FIRST_PAUSE_S, _LAST_PAUSE_S, _GROWTH = 0.002, 0.010, 1.3
WhyNotEnded = Callable[[int], str]
_LOOKS_PART = 4
"""An async waiter sleeps at least this many times as long as its last look took."""


def wait_for_end(store: Store, job_id: int, timeout_s: float | None, why: WhyNotEnded) -> JobState:
    """The terminal state of the job, once it has one.

    Raises:
        WaitTimeoutError: it has none after `timeout_s` seconds; `why(job_id)` says the reason.
        JobNotFoundError: there is no such job (any more).
    """
    until_s = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while not (state := store.state_of(job_id)).is_terminal:
        left_s = pause_s if until_s is None else until_s - time.monotonic()
        if left_s <= 0:
            raise WaitTimeoutError(job_id, timeout_s or 0.0, state, why(job_id))
        sleep(min(pause_s, left_s))
        pause_s = min(pause_s * _GROWTH, _LAST_PAUSE_S)
    return state


async def wait_for_end_async(store: Store, job_id: int, timeout_s: float | None, why: WhyNotEnded) -> JobState:
    """As `wait_for_end`, from async code: it looks on another thread, and sleeps on the event loop."""
    import asyncio

    from mpdispatch.engine.offload import offload_read

    until_s = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while True:
        asked_s = time.monotonic()
        if (state := await offload_read(store.state_of, job_id)).is_terminal:
            return state
        # With a thousand waiters each looks less often, or the process would do nothing else.
        pause_s = max(pause_s, _LOOKS_PART * (time.monotonic() - asked_s))
        left_s = pause_s if until_s is None else until_s - time.monotonic()
        if left_s <= 0:
            raise WaitTimeoutError(job_id, timeout_s or 0.0, state, await offload_read(why, job_id))
        await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * _GROWTH, _LAST_PAUSE_S)
