"""The stages of a stop: let jobs finish, then ask them to end, then kill them. Pure but for its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mpdispatch.clock import SECOND_US
from mpdispatch.config import Config

_STORE_US = 30 * SECOND_US
_URGENT_US = 2 * SECOND_US
"""How long the last outcomes may wait for a busy store after all jobs were ended: 30 s, or 2 s in an urgent stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """How a supervisor's run ended."""

    exit_code: int
    """0 drained, 75 aborted, 74 the store vanished …"""
    completed: int = 0
    failed: int = 0
    """Jobs that reached `failed` under this supervisor."""
    stale_writes: int = 0
    """Outcomes dropped because the job was not ours any more."""
    parked: Mapping[str, int] = field(default_factory=dict)
    """Jobs it could not run, by reason: after a drain all that stay in its queues, else those it parked itself."""
    scheduled: int = 0
    """After a drain: jobs in its queues that are due later."""


class Shutdown:
    """The stages of a stop, in boottime µs."""

    def __init__(self, config: Config) -> None:
        self._patience_us = round(config.shutdown_timeout * SECOND_US)
        self._grace_us = round(config.cancel_grace * SECOND_US)
        self._until_us = 0
        self._stage: Literal["off", "draining", "asking", "killing"] = "off"
        self.is_on = False
        self.was_aborted = False
        """Whether a job was ended, or was asked to end, before it was done."""

    def begin(self, now_us: int, patience_s: float | None) -> None:
        """Start draining; `patience_s` overrides the configured timeout."""
        patience_us = self._patience_us if patience_s is None else round(patience_s * SECOND_US)
        self._until_us = now_us + patience_us
        self._stage, self.is_on = "draining", True

    def step(self, now_us: int, *, is_urgent: bool) -> Literal["ask", "kill"] | None:
        """What to do now to the jobs still running, if anything; each step is returned once."""
        if is_urgent and self._stage != "killing":
            self._stage = "killing"
            self._until_us = now_us
            return "kill"
        if self._stage == "draining" and now_us >= self._until_us:
            self._stage = "asking"
            return "ask"
        return None

    def is_hopeless(self, now_us: int) -> bool:
        """Whether everything was killed long ago, and only the store keeps us from ending."""
        # A second stop request shortens the wait.
        more_us = _URGENT_US if self._stage == "killing" else self._grace_us + _STORE_US
        return self.is_on and now_us >= self._until_us + more_us

    def next_due(self) -> int | None:
        """When the next stage begins, if time starts it."""
        return self._until_us if self._stage == "draining" else None
