"""Groups of failures whose errors are alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mpdispatch.model import Failure, FailureGroup
from mpdispatch.model.json import moment_of
from mpdispatch.policy.alike import pattern_of

_MOST_PATTERNS = 10_000
"""The most messages whose pattern is kept, so that failures that say the same need it computed once."""


@dataclass(slots=True)
class _Group:
    count: int
    first_us: int
    last_us: int
    example_id: int


def grouped(failures: Iterable[Failure]) -> list[FailureGroup]:
    """The groups, the largest first; of those as large, the one with the latest failure. Reads one failure at a time."""
    found: dict[tuple[str, str, str], _Group] = {}
    patterns: dict[str, str] = {}
    for each in failures:
        if (pattern := patterns.get(each.message)) is None:
            pattern = pattern_of(each.message)
            if len(patterns) < _MOST_PATTERNS and len(each.message) < 1000:
                patterns[each.message] = pattern
        key = each.name, each.type, pattern
        group = found.get(key)
        if group is None:
            found[key] = _Group(1, each.failed_at_us, each.failed_at_us, each.id)
            continue
        group.count += 1
        group.first_us = min(group.first_us, each.failed_at_us)
        if (each.failed_at_us, each.id) > (group.last_us, group.example_id):
            group.last_us, group.example_id = each.failed_at_us, each.id
    groups = [
        FailureGroup(
            name=name,
            type=kind,
            message=message,
            count=group.count,
            first_failed_at=moment_of(group.first_us),
            last_failed_at=moment_of(group.last_us),
            example_id=group.example_id,
        )
        for (name, kind, message), group in found.items()
    ]
    return sorted(groups, key=lambda group: (group.count, group.last_failed_at, group.example_id), reverse=True)
