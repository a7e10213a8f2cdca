"""Filters for lists of jobs and of dead letters. Values: an impossible filter is refused on creation."""

from __future__ import annotations

import msgspec

from mpdispatch.errors import UsageError
from mpdispatch.fstext import is_utf8
from mpdispatch.model import JobState


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Raises UsageError on text that is not valid UTF-8."""

    state: JobState | None = None
    queue: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        _check_text(queue=self.queue, name=self.name)


class BatchFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Raises UsageError on text that is not valid UTF-8."""

    name: str | None = None
    has_ended: bool | None = None
    """None: ended or not."""

    def __post_init__(self) -> None:
        _check_text(name=self.name)


class DeadLetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Raises UsageError on text that is not valid UTF-8."""

    queue: str | None = None
    name: str | None = None
    is_replayed: bool | None = False
    """None: replayed or not."""
    failed_before_us: int | None = None
    """Wall time."""

    def __post_init__(self) -> None:
        _check_text(queue=self.queue, name=self.name)


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


def _brief(value: object) -> str:
    return repr(value[:60]) if isinstance(value, str) else f"of type {type(value).__name__}"
