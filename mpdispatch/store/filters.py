"""Filters for lists of jobs and of dead letters. Values: an impossible filter is refused on creation."""

from __future__ import annotations

import msgspec

from mpdispatch.errors import UsageError
from mpdispatch.fstext import is_utf8
from mpdispatch.model import JobState


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Raises UsageError on text that is not valid UTF-8, and on what cannot be the id of a batch."""

    state: JobState | None = None
    queue: str | None = None
    name: str | None = None
    batch_id: int | None = None
    """A member of this batch, unless another job has taken its place."""

    def __post_init__(self) -> None:
        _check_text(queue=self.queue, name=self.name)
        _check_batch(self.batch_id)


class BatchFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Raises UsageError on text that is not valid UTF-8."""

    name: str | None = None
    has_ended: bool | None = None
    """None: ended or not."""

    def __post_init__(self) -> None:
        _check_text(name=self.name)


class DeadLetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Raises UsageError on text that is not valid UTF-8, and on what cannot be the id of a batch."""

    queue: str | None = None
    name: str | None = None
    is_replayed: bool | None = False
    """None: replayed or not."""
    failed_before_us: int | None = None
    """Wall time."""
    batch_id: int | None = None
    """Of a member of this batch."""
    error: str | None = None
    """Stands in the error, as `type: message`."""

    def __post_init__(self) -> None:
        _check_text(queue=self.queue, name=self.name, error=self.error)
        _check_batch(self.batch_id)
        if self.error == "":
            raise UsageError("error: must not be empty, or it stands in every error")


class PruneFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which ended jobs to delete: those for which all of this holds. A failed one only once its dead letter is closed.

    Raises UsageError on a state that is not one of ended jobs.
    """

    state: JobState | None = None
    ended_before_us: int | None = None
    """Wall time."""
    keep: int | None = None
    """Not among this many that ended last. For a failed job counts when its dead letter was replayed or purged."""

    def __post_init__(self) -> None:
        if self.state is not None and not self.state.is_terminal:
            states = ", ".join(each.value for each in JobState if each.is_terminal)
            raise UsageError(
                f"state: must be one of {states}, not {self.state.value}: only what has ended is pruned"
            )


def _check_text(**fields: object) -> None:
    for field, value in fields.items():
        if value is not None and not (isinstance(value, str) and is_utf8(value)):
            raise UsageError(f"{field}: must be text that is valid UTF-8, not {_brief(value)}")


def _check_batch(batch_id: object) -> None:
    if batch_id is None:
        return
    if isinstance(batch_id, bool) or not isinstance(batch_id, int) or not 0 < batch_id < 1 << 63:
        raise UsageError(f"batch: must be the id of a batch, a whole number from 1, not {_brief(batch_id)}")


def _brief(value: object) -> str:
    if isinstance(value, str | int):
        return repr(value)[:60]
    return f"of type {type(value).__name__}"
