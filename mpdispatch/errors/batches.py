"""Errors about batches, and about jobs that wait for others."""

from __future__ import annotations

from collections.abc import Sequence

from mpdispatch.errors.base import DispatchError, UsageError

__all__ = ["BatchClosedError", "BatchNotFoundError", "BatchTimeoutError", "UnknownParentError"]

_SHOWN = 5


class BatchNotFoundError(DispatchError):
    """There is no batch with this id (it never existed, or was pruned)."""

    def __init__(self, batch_id: int) -> None:
        self.batch_id = batch_id
        super().__init__(f"batch {batch_id} not found")


class BatchClosedError(UsageError):
    """The batch takes no more members: it is closed, or was cancelled."""

    def __init__(self, batch_id: int, *, is_cancelled: bool) -> None:
        self.batch_id, self.is_cancelled = batch_id, is_cancelled
        super().__init__(
            f"batch {batch_id} {'was cancelled' if is_cancelled else 'is closed'}: it takes no more members"
        )


class BatchTimeoutError(DispatchError, TimeoutError):
    """`wait()` gave up before the batch ended; its jobs go on."""

    def __init__(self, batch_id: int, timeout_s: float, *, done: int, total: int, why: str = "") -> None:
        self.batch_id, self.timeout_s, self.done, self.total, self.why = batch_id, timeout_s, done, total, why
        super().__init__(
            f"batch {batch_id} has not ended after {timeout_s:g} s: {done:,} of {total:,} jobs have"
            + (f"; {why}" if why else "")
        )


class UnknownParentError(UsageError):
    """A job is to wait for jobs that the store does not have."""

    def __init__(self, ids: Sequence[int], *, are_elsewhere: bool = False) -> None:
        """`are_elsewhere`: these are jobs of another store; this one has given their ids to others."""
        self.ids, self.are_elsewhere = tuple(ids), are_elsewhere
        shown = ", ".join(map(str, ids[:_SHOWN])) + (
            f" and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else ""
        )
        if are_elsewhere:
            text = f"job {shown} is" if len(ids) == 1 else f"jobs {shown} are"
            text += " of another store; a job can only wait for jobs of its own"
        else:
            text = f"there is no job {shown}" if len(ids) == 1 else f"there are no jobs {shown}"
            text += " in this store (never enqueued, or pruned)"
        super().__init__(f"after: {text}")
