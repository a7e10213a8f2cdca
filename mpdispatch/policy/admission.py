"""What a supervisor may claim, decided before a row is touched. Pure: no I/O, no clock.

slots, running counts, token buckets, paused queues ──▶ plan ──▶ at most n jobs of each queue

A store asks these functions inside the transaction of a claim, between reading facts and taking rows.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from functools import lru_cache

from mpdispatch.model import COMMAND_JOB, ClaimFacts, ClaimPlan, ClaimRequest, QueueLimit
from mpdispatch.policy.names import shown
from mpdispatch.policy.rate import Rate

_NAMES_SHOWN = 20

_rate = lru_cache(maxsize=1024)(Rate)


def plan(request: ClaimRequest, facts: ClaimFacts) -> ClaimPlan:
    """At most `slots` jobs, and of each queue what its limits leave; full and paused queues are absent.

    A job of a rate-limited queue costs its token at the claim, so no more of them are claimed than workers are
    ready: a rate holds over starts. `per_queue` says for how many there are tokens all the same: those that want
    for nothing but a worker are told by the store (`CommitResult.held_back`).
    """
    per_queue: dict[str, int] = {}
    next_token_us: int | None = None
    for queue in request.queues:
        if queue in facts.paused:
            continue
        free, limit = request.slots, request.limits.get(queue)
        if limit is not None:
            left, token_us = _left_by(limit, queue, facts)
            free = free if left is None else min(free, left)
            if token_us is not None:
                next_token_us = token_us if next_token_us is None else min(next_token_us, token_us)
        if free > 0:
            per_queue[queue] = free
    total = min(max(request.slots, 0), sum(per_queue.values()))
    ready = None
    if request.ready is not None and request.rated:
        ready = max(0, min(request.ready, request.slots))
    return ClaimPlan(total=total, per_queue=per_queue, next_token_us=next_token_us, ready=ready)


def _left_by(limit: QueueLimit, queue: str, facts: ClaimFacts) -> tuple[int | None, int | None]:
    """How many jobs may start under these limits (None: any number), and when the next token is due if there is none."""
    left = token_us = None
    if limit.max_concurrency is not None:
        left = limit.max_concurrency - facts.running.get(queue, 0)
    if limit.rate is not None:
        rate, bucket, now_us = _rate(limit.rate, limit.burst), facts.buckets.get(queue), facts.now.boot_us
        tokens = rate.available(bucket, now_us=now_us)
        if tokens == 0:
            token_us = rate.next_due_us(bucket, now_us=now_us)
        left = tokens if left is None else min(left, tokens)
    return left, token_us


def charge(request: ClaimRequest, facts: ClaimFacts, taken: Mapping[str, int]) -> Mapping[str, int]:
    """The new bucket value of each rate-limited queue that jobs were taken from; the others are not named.

    Raises UsageError: more was taken than `plan` allowed on the same facts.
    """
    charged = {}
    for queue, count in taken.items():
        limit = request.limits.get(queue)
        if count and limit is not None and limit.rate is not None:
            rate = _rate(limit.rate, limit.burst)
            charged[queue] = rate.take(facts.buckets.get(queue), count, now_us=facts.now.boot_us)
    return charged


def refusal(request: ClaimRequest, name: str) -> str | None:
    """Why a job of this name cannot run here, or None.

    >>> request = ClaimRequest(queues=("default",), names=frozenset({"resize"}), app="shop:engine")
    >>> refusal(request, "send_mail")
    "no handler 'send_mail' in app 'shop:engine'; registered: resize"
    """
    return None if request.knows(name) else refusal_text(name, refusing_app(request))


def refusing_app(request: ClaimRequest) -> str:
    """What of the reason is the same for all jobs that this request refuses."""
    where = f"app {request.app!r}" if request.app else "this engine"
    return f"{where}; registered: {_listed(request.names or frozenset())}"


def refusal_text(name: str, app: str) -> str:
    """The whole reason; `app` is what `refusing_app` gives.

    >>> refusal_text("send_mail", "app 'shop:engine'; registered: resize")
    "no handler 'send_mail' in app 'shop:engine'; registered: resize"
    """
    if name == COMMAND_JOB:
        return "command jobs run only under a supervisor started with --allow-commands"
    return f"no handler {shown(name)} in {app}"


@lru_cache(maxsize=8)
def _listed(names: frozenset[str]) -> str:
    """The names in order, cut short: the text stands in every row parked for it."""
    registered = names - {COMMAND_JOB}
    first = heapq.nsmallest(_NAMES_SHOWN, registered)
    rest = len(registered) - len(first)
    return ", ".join(first) + (f" and {rest} more" if rest else "") if first else "none"
