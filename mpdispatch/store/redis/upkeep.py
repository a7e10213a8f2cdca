"""What the Redis store does for its jobs in small steps, between the commits of a supervisor. One thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mpdispatch.clock import Instant, SystemClock
from mpdispatch.model import ClaimedJob, Job, Transition
from mpdispatch.policy.waits import was_set_back
from mpdispatch.store.redis import pruning
from mpdispatch.store.redis.link import Reply
from mpdispatch.store.redis.replies import followed_of
from mpdispatch.store.values import PruneStep, Retention, UpkeepStep


class Ask(Protocol):
    def __call__(self, name: str, /, **arguments: Any) -> Reply: ...


@dataclass(slots=True)
class Followed:
    """What the store has ended by itself and enqueued, until a commit has reported it."""

    ended: list[tuple[ClaimedJob, Transition]] = field(default_factory=list)
    callbacks: list[Job] = field(default_factory=list)

    def add(self, reply: Reply, first: int = 0) -> bool:
        """What a reply says of it, whose records begin at this place. Returns whether there is anything."""
        ended, callbacks = followed_of(reply, first)
        self.ended += ended
        self.callbacks += callbacks
        return bool(ended or callbacks)

    def take(self) -> Followed:
        taken = Followed(self.ended, self.callbacks)
        self.ended, self.callbacks = [], []
        return taken


class RedisUpkeep:
    """A `StoreUpkeep`. Looks at all waiting jobs when a supervisor starts, and after the clock was set back."""

    def __init__(self, write: Ask, now: Callable[[], Instant | None], tell: Callable[..., None]) -> None:
        """`now`: the clock of a test; the server's, if it gives None."""
        self._write, self._now, self._tell = write, now, tell
        self.followed = Followed()
        self._latest = Instant(0, 0)
        """When the wall clock was furthest ahead of boottime since it was last set back."""
        self._place: tuple[int, int] | None = (0, 0)
        """Queue and place at which the look at the waiting jobs goes on; None: it is over."""
        self._pruning: Iterator[int] | None = None
        self._pruned = 0

    def step(self, queues: Sequence[str]) -> UpkeepStep:
        reply = self._write("expire")
        said = reply.said
        if self.followed.add(reply):
            self._tell(work=True, ends=True)
        self._watch_clock(said["now"])
        rebased = self._rebase(queues)
        has_more = bool(said["has_more"]) or self._place is not None
        return UpkeepStep(rebased, 0, has_more, said["count"])

    def _watch_clock(self, server_us: int) -> None:
        # The server's wall clock beside this machine's boottime: only how they move counts.
        now = self._now() or Instant(server_us, SystemClock().now().boot_us)
        is_back = was_set_back(self._latest, now)
        if is_back:
            self._place = (0, 0)
        if is_back or now.wall_us - now.boot_us > self._latest.wall_us - self._latest.boot_us:
            self._latest = now

    def _rebase(self, queues: Sequence[str]) -> int:
        if self._place is None:
            return 0
        queue, skip = self._place
        if queue >= len(queues):
            self._place = None
            return 0
        said = self._write("rebase", queue=queues[queue], skip=skip).said
        self._place = (queue, said["skip"]) if said["skip"] else (queue + 1, 0)
        if self._place[0] >= len(queues):
            self._place = None
        return int(said["changed"])

    def prune(self, retention: Retention) -> PruneStep:
        """One call of a round. A round begins with the first call after the last one."""
        if self._pruning is None:
            self._pruning, self._pruned = pruning.by_retention(self._ask, retention), 0
        for count in self._pruning:
            self._pruned += count
            return PruneStep(0, has_more=True)
        self._pruning = None
        return PruneStep(self._pruned, has_more=False)

    def _ask(self, name: str, **arguments: Any) -> dict[str, Any]:
        return self._write(name, **arguments).said

    def set_aside(self, owner: int, job_ids: Collection[int]) -> None:
        """Nothing: only the Lua library writes records."""
