"""What an engine asks of whoever runs its jobs in this process: tests do so (`mpdispatch.testing`)."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Protocol, TypeVar

from mpdispatch.model import Job

T = TypeVar("T")


class InProcess(Protocol):
    """Runs an engine's jobs in this process. Its methods are called outside of transactions, by any thread."""

    def made(self, job: Job) -> Job:
        """The engine has made this job, or made it due. Gives the job as it is afterwards; it may have run."""
        ...

    def settle(self) -> None:
        """Jobs may have been made, or have become due."""
        ...

    def awaited(self, job_id: int) -> None:
        """Somebody waits for the end of this job. Returns when it has ended.

        Raises UsageError: nothing in this process can end it.
        """
        ...

    def batch_awaited(self, batch_id: int) -> None:
        """As `awaited`, for a batch."""
        ...


async def on_thread(call: Callable[[int], T], number: int) -> T:
    """What the call gives, from async code, on a thread of its own: jobs may run in it for long, and wait for others."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    thread = ThreadPoolExecutor(1, thread_name_prefix="mpdispatch-in-process")
    try:
        run = contextvars.copy_context().run
        return await asyncio.get_running_loop().run_in_executor(thread, run, call, number)
    finally:
        thread.shutdown(wait=False)
