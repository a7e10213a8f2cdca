"""What somebody waits for while jobs run in this process. Reads the store."""

from __future__ import annotations

from typing import Protocol

from mpdispatch.model import JobState
from mpdispatch.store.contract import Store

_LATER = (JobState.SCHEDULED, JobState.RETRYING)


class Goal(Protocol):
    """An end that running jobs may bring about."""

    def is_reached(self) -> bool: ...

    def is_later(self) -> bool:
        """Whether it takes time: a job on the way to it is due later."""
        ...


class JobGoal:
    """The end of a job. Raises JobNotFoundError."""

    def __init__(self, store: Store, job_id: int) -> None:
        self._store, self._job_id = store, job_id

    def is_reached(self) -> bool:
        return self._store.state_of(self._job_id).is_terminal

    def is_later(self) -> bool:
        return self._is_later(self._job_id)

    def _is_later(self, job_id: int) -> bool:
        """Whether this job is due later, or waits for one that is."""
        state = self._store.state_of(job_id)
        if state is not JobState.PENDING:
            return state in _LATER
        return any(
            each.state in _LATER or (each.state is JobState.PENDING and self._is_later(each.id))
            for each in self._store.parents(job_id)
        )


class BatchGoal:
    """The end of a batch. Raises BatchNotFoundError."""

    def __init__(self, store: Store, batch_id: int) -> None:
        self._store, self._batch_id = store, batch_id

    def is_reached(self) -> bool:
        return self._store.batches.get(self._batch_id).ended_at is not None

    def is_later(self) -> bool:
        counts = self._store.batches.get(self._batch_id).counts
        return any(counts[state] for state in _LATER)
