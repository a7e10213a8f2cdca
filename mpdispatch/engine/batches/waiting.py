"""Waits for a batch to end: on wake-ups where the store has them, else by polling."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from mpdispatch.engine.batches.block import is_in_block_of
from mpdispatch.engine.waiting.blocking import wait_until
from mpdispatch.errors import BatchTimeoutError, UsageError
from mpdispatch.model import BatchInfo
from mpdispatch.policy.durations import duration_of
from mpdispatch.store.contract import Store

if TYPE_CHECKING:  # which loads this module
    from mpdispatch.engine.client import JobClient

Timeout = float | timedelta | str | None


class _Wait:
    """One who waits for a batch, and for how long. Raises UsageError."""

    def __init__(self, client: JobClient, store: Store, batch_id: int, timeout: Timeout) -> None:
        self._client, self._store, self._batch_id = client, store, batch_id
        self.timeout_s = None if timeout is None else duration_of("timeout", timeout)
        if is_in_block_of(batch_id, store):
            raise UsageError(
                f"wait: batch {batch_id} is closed only at the end of its `with`; wait for it after that"
            )

    def look(self) -> BatchInfo | None:
        """How the batch stands, if it has ended. Raises BatchNotFoundError."""
        info = self._store.batches.get(self._batch_id)
        return None if info.ended_at is None else info

    def passed(self) -> BatchTimeoutError:
        """The error that says what is missing."""
        info = self._store.batches.get(self._batch_id)
        return BatchTimeoutError(
            info.id, self.timeout_s or 0.0, done=info.done, total=info.total, why=self._why(info)
        )

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
    try:
        return wait_until(store, wait.look, wait.timeout_s)
    except TimeoutError:
        raise wait.passed() from None


async def wait_for_batch_async(client: JobClient, store: Store, batch_id: int, timeout: Timeout) -> BatchInfo:
    """As `wait_for_batch`, from async code."""
    from mpdispatch.engine.offload import offload_read
    from mpdispatch.engine.waiting.loop_watch import wait_until_async  # asyncio, which few need

    wait = _Wait(client, store, batch_id, timeout)
    try:
        return await wait_until_async(store, wait.look, wait.timeout_s)
    except TimeoutError:
        raise await offload_read(wait.passed) from None
