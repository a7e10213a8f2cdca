"""Duty: maintain the store between commits, in small steps. Effects: the store.

```
  clock set back ─┐
  our start ──────┴▶ waits that it made longer begin anew ─┐
  our start ──▶ rows no query would find are set aside ────┤
  cancel requests that came too late are deleted ──────────┼▶ again in a moment, while there is more
  checkpoint ──────────────────────────────────────────────┘
```
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import ClassVar

from mpdispatch.clock import SECOND_US, Clock, Instant
from mpdispatch.config import Config
from mpdispatch.policy.waits import STEP_US, rebased_us, was_set_back
from mpdispatch.store.contract import SupervisorStore
from mpdispatch.store.waits import Rebase, Wait, WaitsSeen
from mpdispatch.supervisor.claimer import Claimer
from mpdispatch.supervisor.peers import Peers

_LOWEST_ID = -(1 << 63)
_LOOKS_IN_A_HURRY = 50
"""Looks per call of `hurry`: some 50 ms."""
_PAUSE_US = 10_000
"""Pause between two steps, which leaves the loop and the write lock to other work."""


def rebased(waits: Iterable[Wait], now_us: int) -> Iterator[Rebase]:
    """The changes that these waits need if the wall clock is now at `now_us`."""
    for job_id, run_at_us, put_off_us in waits:
        due_us = rebased_us(run_at_us, put_off_us, now_us=now_us)
        if due_us != run_at_us:
            yield Rebase(job_id, run_at_us, due_us)


class Upkeep:
    """Due while there is more to do, with each poll, and after cancel requests. Times are boottime µs."""

    needs_store: ClassVar[bool] = True

    def __init__(
        self,
        store: SupervisorStore,
        clock: Clock,
        config: Config,
        log: logging.Logger,
        *,
        claimer: Claimer,
        peers: Peers,
    ) -> None:
        self._store, self._clock, self._log = store, clock, log
        self._claimer, self._peers = claimer, peers
        self._queues, self._poll_us = tuple(config.queues), round(config.poll_interval * SECOND_US)
        self._latest = Instant(0, 0)
        """When the wall clock was furthest ahead of boottime since it was last set back."""
        self._is_looking = True
        self._seen: WaitsSeen | None = None
        self._changed = 0
        self._rows_seen: int | None = _LOWEST_ID
        """Rows up to this id were checked; None: all rows."""
        self._at_us = 0
        self.has_more = True
        """Whether there is more to do before the next poll."""
        self.found_us = 0
        """When upkeep last found jobs that may be due sooner than was known."""

    def look_soon(self) -> None:
        self._at_us = min(self._at_us, self._clock.now().boot_us + _PAUSE_US)

    def next_due(self) -> int | None:
        return self._at_us

    def run(self, now: Instant) -> None:
        """Do one bounded step. Raises StoreError."""
        if self._watch(now):
            self._is_looking, self._seen = True, None
        is_sooner = self._is_looking and self._look_at_waits(now)
        is_sooner |= self._look_at_rows()
        self.has_more = self._store.forget_late_cancels() or self._is_looking or self._rows_seen is not None
        self._at_us = now.boot_us + (_PAUSE_US if self.has_more else self._poll_us)
        self._store.file_care.checkpoint_if_large()
        if is_sooner:
            self._found(now)

    def _found(self, now: Instant) -> None:
        """There may be jobs to claim, to take over or to report, and a drain waits for them."""
        self.found_us = now.boot_us
        self._claimer.try_now()
        self._peers.look_soon()

    def _look_at_rows(self) -> bool:
        """Set aside some rows that no query would find; True: there were any. Raises StoreError."""
        if self._rows_seen is None:
            return False
        count, self._rows_seen = self._store.set_aside_astray(self._queues, self._rows_seen)
        return count > 0

    def hurry(self) -> bool:
        """Check many remaining rows, because a drain waits. False: none were left. Raises StoreError."""
        if self._rows_seen is None:
            return False
        for _ in range(_LOOKS_IN_A_HURRY):
            if self._look_at_rows() or self._rows_seen is None:
                break
        self._found(self._clock.now())
        return True

    def _watch(self, now: Instant) -> bool:
        """Whether the clock was set back since the last look."""
        is_back = was_set_back(self._latest, now)
        if is_back or now.wall_us - now.boot_us > self._latest.wall_us - self._latest.boot_us:
            self._latest = now
        return is_back

    def _look_at_waits(self, now: Instant) -> bool:
        # Skip jobs that are due within a moment: a change would not help them.
        found, seen = self._store.waits(self._queues, after_us=now.wall_us + STEP_US, seen=self._seen)
        changes = list(rebased(found, now.wall_us))
        changed = self._store.rebase(changes) if changes else 0
        self._seen = seen
        self._changed += changed
        self._is_looking = self._seen is not None
        if not self._is_looking and self._changed:
            self._log.warning(
                "the clock was set back: %d jobs that wait to be tried again wait anew", self._changed
            )
            self._changed = 0
        return changed > 0
