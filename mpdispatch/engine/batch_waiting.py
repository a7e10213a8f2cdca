"""Waits for a batch to end: on wake-ups where the store has them, else by polling."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from mpdispatch.engine.batch_block import is_in_block_of
from mpdispatch.engine.waiting import NET_S, EndWatch, Pace
from mpdispatch.errors import BatchTimeoutError, UsageError
from mpdispatch.model import BatchInfo
from mpdispatch.policy.durations import duration_of
from mpdispatch.store.contract import Store

if TYPE_CHECKING:
    from mpdispatch.engine.client import JobClient  # which loads this module
    from mpdispatch.store.optional import WakeListener

Timeout = float | timedelta | str | None


class _Wait:
    """One who waits for a batch, and for how long."""

    def __init__(self, client: JobClient, store: Store, batch_id: int, timeout: Timeout) -> None:
        self._client, self._store, self._batch_id = client, store, batch_id
        self._timeout_s = None if timeout is None else duration_of("timeout", timeout)
        if is_in_block_of(batch_id, store.location):
            raise UsageError(
                f"wait: batch {batch_id} is closed only at the end of its `with`; wait for it after that"
            )
        self._until_s = None if self._timeout_s is None else time.monotonic() + self._timeout_s

    def look(self) -> tuple[BatchInfo, float]:
        """How the batch stands, and how many seconds to go on waiting; 0 once it has ended. Raises BatchTimeoutError."""
        info = self._store.batches.get(self._batch_id)
        if info.ended_at is not None:
            return info, 0.0
        if self._timeout_s is None or self._until_s is None:
            return info, float("inf")
        if (left_s := self._until_s - time.monotonic()) > 0:
            return info, left_s
        raise BatchTimeoutError(info.id, self._timeout_s, done=info.done, total=info.total, why=self._why(info))

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
    info, left_s = wait.look()
    if not left_s:
        return info
    with EndWatch(store) as watch:
        while True:
            info, left_s = watch.look(wait.look)
            if not left_s:
                return info
            watch.pause(left_s)


async def wait_for_batch_async(client: JobClient, store: Store, batch_id: int, timeout: Timeout) -> BatchInfo:
    """As `wait_for_batch`, from async code: it looks on another thread, and waits on the event loop."""
    import asyncio

    from mpdispatch.engine.offload import offload_read

    wait = _Wait(client, store, batch_id, timeout)
    info, left_s = await offload_read(wait.look)
    if not left_s:
        return info
    pace, listener = Pace(), _listener(store)
    try:
        while True:
            began_s = time.monotonic()
            info, left_s = await offload_read(wait.look)
            pace.looked(began_s)
            if not left_s:
                return info
            if listener is not None and not await _hears(listener, min(NET_S, left_s)):
                if not listener.is_in_place():
                    listener.close()
                    listener = _listener(store)
                continue
            await asyncio.sleep(min(pace.rest_s(), left_s))
            if listener is not None:
                listener.drain()
    finally:
        if listener is not None:
            listener.close()


def _listener(store: Store) -> WakeListener | None:
    return None if store.wake_ups is None else store.wake_ups.listen_for_ends()


async def _hears(listener: WakeListener, most_s: float) -> bool:
    """Whether it is woken within this time."""
    import asyncio

    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    loop.add_reader(listener.fileno(), woken.set)
    try:
        async with asyncio.timeout(most_s):
            await woken.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(listener.fileno())
    return True
