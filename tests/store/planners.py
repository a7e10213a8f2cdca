"""A planner for tests: limits and refusals are plain attributes, no policy."""

from __future__ import annotations

from collections.abc import Mapping

from mpdispatch.model import ClaimFacts, ClaimPlan


class OpenPlanner:
    """Claims whatever there are slots for, but for what its attributes forbid."""

    def __init__(
        self,
        *queues: str,
        limits: Mapping[str, int] | None = None,
        tokens: Mapping[str, int] | None = None,
        known: frozenset[str] | None = None,
    ) -> None:
        self.queues = queues or ("default",)
        self.limits, self.tokens = dict(limits or {}), dict(tokens or {})
        self.limited, self.rated = frozenset(self.limits), frozenset(self.tokens)
        self.known = known
        self.facts: list[ClaimFacts] = []

    def plan(self, slots: int, facts: ClaimFacts) -> ClaimPlan:
        self.facts.append(facts)
        per_queue = {}
        for queue in self.queues:
            if queue in facts.paused:
                continue
            free = slots
            if queue in self.limits:
                free = min(free, self.limits[queue] - facts.running[queue])
            if queue in self.tokens:
                # A bucket here is simply the number of tokens used, in this boot.
                free = min(free, self.tokens[queue] - facts.buckets.get(queue, 0))
            per_queue[queue] = max(free, 0)
        return ClaimPlan(
            total=min(slots, sum(per_queue.values())),
            per_queue=per_queue,
            next_token_us=777 if any(per_queue.get(queue) == 0 for queue in self.rated) else None,
        )

    def charge(self, facts: ClaimFacts, taken: Mapping[str, int]) -> Mapping[str, int]:
        return {q: facts.buckets.get(q, 0) + n for q, n in taken.items() if q in self.tokens}

    def refusal(self, name: str) -> str | None:
        return None if self.known is None or name in self.known else f"no handler {name!r}"

    def known_names(self) -> frozenset[str] | None:
        return self.known
