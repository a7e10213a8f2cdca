"""What a supervisor may claim, decided before a row is touched. Pure: no I/O, no clock.

slots, running counts, token buckets, paused queues ──▶ plan ──▶ at most n jobs of each queue
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mpdispatch.model import COMMAND_JOB, ClaimFacts, ClaimPlan
from mpdispatch.policy.names import shown
from mpdispatch.policy.rate import Rate

__all__ = ["Admission", "QueueLimits"]

_NAMES_SHOWN = 20


class QueueLimits(Protocol):
    """What admission reads of a queue's configuration (a `QueueConfig` is one)."""

    @property
    def name(self) -> str: ...
    @property
    def max_concurrency(self) -> int | None: ...
    @property
    def rate_limit(self) -> float | None: ...
    @property
    def rate_burst(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The limits of one supervisor: a `model.Planner`.

    `known` names the jobs it has handlers for (None: it runs any), `app` says in a refusal where it looked.
    `has_come` says of a name whether its handler was registered since; it is asked before a refusal only.
    Configurations of queues it does not poll are passed over.
    """

    queues: tuple[str, ...]
    configs: tuple[QueueLimits, ...] = ()
    known: frozenset[str] | None = None
    app: str = ""
    has_come: Callable[[str], bool] = field(default=lambda name: False, compare=False)
    limited: frozenset[str] = field(init=False)
    rated: frozenset[str] = field(init=False)
    _most: Mapping[str, int] = field(init=False, repr=False, compare=False)
    _rates: Mapping[str, Rate] = field(init=False, repr=False, compare=False)
    _registered: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        polled = [config for config in self.configs if config.name in self.queues]
        most = {c.name: c.max_concurrency for c in polled if c.max_concurrency is not None}
        rates = {c.name: Rate(c.rate_limit, c.rate_burst) for c in polled if c.rate_limit is not None}
        object.__setattr__(self, "limited", frozenset(most))
        object.__setattr__(self, "rated", frozenset(rates))
        object.__setattr__(self, "_most", most)
        object.__setattr__(self, "_rates", rates)
        object.__setattr__(self, "_registered", _listed((self.known or frozenset()) - {COMMAND_JOB}))

    def plan(self, slots: int, facts: ClaimFacts) -> ClaimPlan:
        """At most `slots` jobs, and of each queue what its limits leave; full and paused queues are absent.

        A job of a rate-limited queue costs its token at the claim, so no more of them are claimed than workers are
        ready: a rate holds over starts. `per_queue` says for how many there are tokens all the same: those that want
        for nothing but a worker are told by the store (`CommitResult.held_back`).
        """
        per_queue: dict[str, int] = {}
        next_token_us: int | None = None
        for queue in self.queues:
            if queue in facts.paused:
                continue
            free = slots
            if queue in self._most:
                free = min(free, self._most[queue] - facts.running.get(queue, 0))
            if (rate := self._rates.get(queue)) is not None:
                bucket, now_us = facts.buckets.get(queue), facts.now.boot_us
                tokens = rate.available(bucket, now_us=now_us)
                if tokens == 0:
                    due_us = rate.next_due_us(bucket, now_us=now_us)
                    next_token_us = due_us if next_token_us is None else min(next_token_us, due_us)
                free = min(free, tokens)
            if free > 0:
                per_queue[queue] = free
        total = min(max(slots, 0), sum(per_queue.values()))
        ready = None if facts.ready is None or not self._rates else max(0, min(facts.ready, slots))
        return ClaimPlan(total=total, per_queue=per_queue, next_token_us=next_token_us, ready=ready)

    def charge(self, facts: ClaimFacts, taken: Mapping[str, int]) -> Mapping[str, int]:
        """The new bucket value of each rated queue that jobs were taken from; the others are not named.

        Raises:
            UsageError: more was taken than `plan` allowed on the same facts.
        """
        return {
            queue: rate.take(facts.buckets.get(queue), taken[queue], now_us=facts.now.boot_us)
            for queue, rate in self._rates.items()
            if taken.get(queue)
        }

    def refusal(self, name: str) -> str | None:
        """Why a job of this name cannot run here, or None.

        >>> Admission(queues=("default",), known=frozenset({"resize"}), app="shop:engine").refusal("send_mail")
        "no handler 'send_mail' in app 'shop:engine'; registered: resize"
        """
        if self.known is None or name in self.known or self.has_come(name):
            return None
        if name == COMMAND_JOB:
            return "command jobs run only under a supervisor started with --allow-commands"
        where = f"app {self.app!r}" if self.app else "this engine"
        return f"no handler {shown(name)} in {where}; registered: {self._registered}"

    def known_names(self) -> frozenset[str] | None:
        """Names whose parked jobs may be claimed; None: every name."""
        return self.known


def _listed(names: frozenset[str]) -> str:
    """The names in order, cut short: the text stands in every row parked for it."""
    first = sorted(names)[:_NAMES_SHOWN]
    rest = len(names) - len(first)
    return ", ".join(first) + (f" and {rest} more" if rest else "") if first else "none"
