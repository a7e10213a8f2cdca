"""What an engine asks of whoever runs its jobs in this process: a protocol only. Tests do so (`mpdispatch.testing`)."""

from __future__ import annotations

from typing import Protocol

from mpdispatch.model import Job


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

    async def awaited_async(self, job_id: int) -> None:
        """As `awaited`, from async code: runs on a thread of its own."""
        ...
