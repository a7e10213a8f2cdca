"""The counts of a whole store, for `Engine.stats()`, `mpdispatch stats --json` and HTTP."""

from __future__ import annotations

from typing import Any

from mpdispatch.model import JobState
from mpdispatch.store.contract import Store


def overview(store: Store) -> dict[str, Any]:
    """Jobs by state (every state), dead letters, queues and living supervisors, ready for JSON."""
    from mpdispatch.engine.supervisors import living_supervisors  # it knows the host, which no enqueuer needs

    counts = store.counts()
    queues = store.queue_stats()
    return {
        "jobs": {state.value: counts[state] for state in JobState},
        "dlq_count": store.dead_letter_count(),
        "queues": {q.name: {"paused": q.is_paused, "jobs": dict(q.jobs)} for q in queues},
        "supervisors": len(living_supervisors(store)),
        "store": store.display,
    }
