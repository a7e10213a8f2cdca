"""When a drain's patience ends: running jobs may finish, then are asked to end, then are killed. Pure but for its state."""

from __future__ import annotations

from typing import Literal

from mpdispatch.clock import SECOND_US
from mpdispatch.config import Config

__all__ = ["Shutdown"]


class Shutdown:
    """The stages of a stop, in boottime µs."""

    def __init__(self, config: Config) -> None:
        self._patience_us = round(config.shutdown_timeout * SECOND_US)
        self._grace_us = round(config.cancel_grace * SECOND_US)
        self._until_us = 0
        self._stage: Literal["off", "draining", "asking", "killing"] = "off"

    @property
    def is_on(self) -> bool:
        return self._stage != "off"

    @property
    def was_aborted(self) -> bool:
        """Whether a job was, or was to be, ended before it was done."""
        return self._stage in ("asking", "killing")

    def begin(self, now_us: int, patience_s: float | None) -> None:
        """Start draining; `patience_s` overrides the configured timeout."""
        patience_us = self._patience_us if patience_s is None else round(patience_s * SECOND_US)
        self._until_us = now_us + patience_us
        self._stage = "draining"

    def step(self, now_us: int, *, is_urgent: bool) -> Literal["ask", "kill"] | None:
        """What to do to the jobs still running, if it is time; each is said once."""
        if is_urgent and self._stage != "killing":
            self._stage = "killing"
            return "kill"
        if self._stage == "draining" and now_us >= self._until_us:
            self._stage = "asking"
            return "ask"
        return None

    def is_hopeless(self, now_us: int) -> bool:
        """Whether everything was killed long ago, and only the store keeps us from ending."""
        return self.is_on and now_us >= self._until_us + self._grace_us + 30 * SECOND_US

    def due(self) -> list[int]:
        """When the next stage begins, if it begins by time."""
        return [self._until_us] if self._stage == "draining" else []
