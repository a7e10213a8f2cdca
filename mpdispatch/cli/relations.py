"""What a job has to do with others, for people: the parents it waits or waited for, and its dependents."""

from __future__ import annotations

from collections.abc import Sequence

from mpdispatch.model import Parent
from mpdispatch.store.values import Dependents

_SHOWN = 10


def relations(parents: Sequence[Parent], dependents: Dependents) -> dict[str, str | None]:
    """Lines of `show`; None where there are none.

    >>> from mpdispatch.model import JobState
    >>> relations([Parent(12, JobState.RUNNING), Parent(13, None)], Dependents(waiting=1, total=2))
    {'parents': '12 (running), 13 (pruned)', 'dependents': '2 (1 waiting)'}
    """
    first = ", ".join(f"{each.id} ({each.state or 'pruned'})" for each in parents[:_SHOWN])
    more = f" and {len(parents) - _SHOWN:,} more" if len(parents) > _SHOWN else ""
    count = f"{dependents.total:,} ({dependents.waiting:,} waiting)" if dependents.total else None
    return {"parents": first + more or None, "dependents": count}
