"""Why a job still waits for its parents: which they are, how each stands, and what holds these back in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from mpdispatch.engine.explain import Reason
from mpdispatch.errors import JobNotFoundError
from mpdispatch.model import JobState, Parent
from mpdispatch.policy.names import cut

SHOWN = 5
"""Parents that are named."""
_HARMLESS = ("running", "due", "turn", "busy", "ended", "expiring")
"""Codes of reasons that need nothing done about them: they are not repeated for a parent."""
_ReasonsOf = Callable[[int], Sequence[Reason]]


def reasons(parents: Sequence[Parent], reasons_of: _ReasonsOf, known: Iterable[str]) -> Iterator[Reason]:
    """For a job that waits for these parents. `reasons_of` explains one of them; may raise JobNotFoundError.

    `known`: what holds this job back itself, and need not be repeated for a parent.
    """
    failed = [each for each in parents if _has_failed(each)]
    # Those that need somebody's help come first: the others end by themselves.
    shown = [*failed, *(each for each in parents if not _has_failed(each))][:SHOWN]
    more = f" and {len(parents) - SHOWN:,} more" if len(parents) > SHOWN else ""
    count = "1 job" if len(parents) == 1 else f"{len(parents):,} jobs"
    retry = " ".join(str(each.id) for each in failed[:SHOWN])
    text = f"it waits for {count}: {', '.join(map(_named, shown))}{more}"
    yield Reason("parents", text, remedy=f"mpdispatch retry {retry}" if retry else None)
    said = {*known}
    for parent in shown:
        reason = _held_back(parent, reasons_of)
        if reason is not None and reason.text not in said:
            said.add(reason.text)
            yield Reason("parent", f"job {parent.id} waits in turn: {cut(reason.text, 200)}", reason.remedy)


def _has_failed(parent: Parent) -> bool:
    return parent.state in (JobState.FAILED, JobState.CANCELLED)


def _named(parent: Parent) -> str:
    until = ": it waits until somebody retries it" if _has_failed(parent) else ""
    return f"{parent.id} ({parent.state or 'pruned'}{until})"


def _held_back(parent: Parent, reasons_of: _ReasonsOf) -> Reason | None:
    """What weighs most of what keeps a parent from running."""
    try:
        first = reasons_of(parent.id)[0]
    except JobNotFoundError:
        return None
    return None if first.code in _HARMLESS else first
