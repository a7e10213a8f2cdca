"""Waits for a batch to end, by looking at it again and again."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from mpdispatch.clock import sleep
from mpdispatch.engine.batch_block import is_in_block_of
from mpdispatch.errors import BatchTimeoutError, UsageError
from mpdispatch.model import BatchInfo
from mpdispatch.policy.durations import duration_of
from mpdispatch.store.contract import Store

if TYPE_CHECKING:  # which loads this module
    from mpdispatch.engine.client import JobClient

_FIRST_PAUSE_S, _LAST_PAUSE_S, _GROWTH = 0.002, 0.020, 1.3
_LOOKS_PART = 4
"""Between two looks it sleeps at least this many times as long as the last one took: some have to count members."""

Timeout = float | timedelta | str | None


class _Wait:
    """When to look, and when to give up."""

    def __init__(self, client: JobClient, store: Store, batch_id: int, timeout: Timeout) -> None:
        self._client, self._store, self._batch_id = client, store, batch_id
        self._timeout_s = None if timeout is None else duration_of("timeout", timeout)
        if is_in_block_of(batch_id, store.location):
            raise UsageError(
                f"wait: batch {batch_id} is closed only at the end of its `with`; wait for it after that"
            )
        self._until_s = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        self._pause_s = _FIRST_PAUSE_S

    def look(self) -> BatchInfo | float:
        """How the batch stands if it has ended, else how many seconds to sleep. Raises BatchTimeoutError."""
        began_s = time.monotonic()
        info = self._store.batches.get(self._batch_id)
        if info.ended_at is not None:
            return info
        now_s = time.monotonic()
        pause_s = max(self._pause_s, _LOOKS_PART * (now_s - began_s))
        self._pause_s = min(self._pause_s * _GROWTH, _LAST_PAUSE_S)
        if self._until_s is None:
            return pause_s
        if now_s >= self._until_s:
            raise BatchTimeoutError(
                info.id, self._timeout_s or 0.0, done=info.done, total=info.total, why=self._why(info)
            )
        return min(pause_s, self._until_s - now_s)

    def _why(self, info: BatchInfo) -> str:
        if info.is_open and info.done == info.total:
            return "it is open, and ends once somebody closes it: batch.close()"
        if not self._client.has_supervisor():
            return (
                "no supervisor is running ▸ mpdispatch supervise APP (in a program: `with engine.dispatcher:`)"
            )
        return ""


def wait_for_batch(client: JobClient, store: Store, batch_id: int, timeout: Timeout) -> BatchInfo:
    """How the batch stands, once it has ended. Raises BatchTimeoutError, BatchNotFoundError, UsageError."""
    wait = _Wait(client, store, batch_id, timeout)
    while not isinstance(found := wait.look(), BatchInfo):
        sleep(found)
    return found


async def wait_for_batch_async(client: JobClient, store: Store, batch_id: int, timeout: Timeout) -> BatchInfo:
    """As `wait_for_batch`, from async code: it looks on another thread, and sleeps on the event loop."""
    import asyncio

    from mpdispatch.engine.offload import offload_read

    wait = _Wait(client, store, batch_id, timeout)
    while not isinstance(found := await offload_read(wait.look), BatchInfo):
        await asyncio.sleep(found)
    return found
