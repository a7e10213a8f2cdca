"""What a store may offer but need not: wake-ups, upkeep of its rows, care for its file. It works without them too."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from mpdispatch.store.values import PruneStep, Retention, UpkeepStep


class WakeListener(Protocol):
    """The end of the wake-ups at which a supervisor, or a client that waits, hears them."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when there may be work."""
        ...

    def drain(self) -> None:
        """Read and discard what made it readable."""
        ...

    def is_in_place(self) -> bool:
        """Whether wake-ups still reach it; if not, make a new listener."""
        ...

    def close(self) -> None: ...


class Wake(Protocol):
    """Tells supervisors at once that there may be work, and waiting clients that jobs have ended.

    Optional: without it a supervisor polls at every poll interval, and a client up to 100 times a second.
    """

    def notify(self) -> None:
        """Wake all supervisors. A hint: never blocks or raises, may be lost. Any thread, before and after a fork."""
        ...

    def listen(self, owner: int) -> WakeListener | None:
        """A listener for the supervisor with this id; None: not possible here, so the supervisor polls."""
        ...

    def notify_of_ends(self) -> None:
        """Wake all clients that wait for jobs to end. A hint, as `notify`. Cheap while nobody waits."""
        ...

    def listen_for_ends(self) -> WakeListener | None:
        """A listener for one client that waits; None: not possible here, so the client polls."""
        ...

    def close(self) -> None:
        """Close its descriptors; the next use opens them again."""
        ...


class StoreUpkeep(Protocol):
    """What a store does for its rows in small steps, between a supervisor's commits. Never waits; raises StoreBusy."""

    def step(self, queues: Sequence[str]) -> UpkeepStep:
        """One step of a few ms for the jobs of these queues. Call it again soon while `has_more`, else now and then.

        The first steps look at all rows; later ones only if there is a cause, so that a step costs nothing.

        - A job that was put off begins its wait anew if the wall clock was set back meanwhile (`policy.waits`).
        - A row that no query finds, because another program wrote it, is ended or repaired.
        - A cancel request of a job that completed anyway is deleted.
        - A waiting job that has expired is cancelled, whichever queue it is in (`policy.expiry`).
        """
        ...

    def prune(self, retention: Retention) -> PruneStep:
        """One step of a few ms of deleting what need not be kept. Call it again soon while `has_more`.

        Also deletes old slots and skips of cron entries, but for the last 100 of each.
        """
        ...

    def set_aside(self, owner: int, job_ids: Collection[int]) -> None:
        """End the unreadable ones among these jobs of this owner; the next commit reports them (`ended`)."""
        ...


class NoUpkeep:
    """For a store whose rows need none: only it writes them, and it deletes old ones itself."""

    def step(self, queues: Sequence[str]) -> UpkeepStep:
        return UpkeepStep(0, 0, has_more=False)

    def prune(self, retention: Retention) -> PruneStep:
        return PruneStep(0, has_more=False)

    def set_aside(self, owner: int, job_ids: Collection[int]) -> None: ...


class FileCare(Protocol):
    """Maintenance of a store's file by its supervisors. Runs on the supervisor's thread."""

    def checkpoint_if_large(self) -> None:
        """Move the log of commits into the file if the log has grown large. Never blocks; call it between commits."""
        ...

    def shrink(self) -> bool:
        """Make the file smaller where pruning has made room, in one step of a few ms. True: call it again soon."""
        ...

    def sync(self) -> None:
        """Make everything committed so far survive a power cut, after a commit that was not synced. Blocks on the disk."""
        ...

    def verify(self) -> None:
        """Raise StoreVanished if the file was deleted or replaced since it was opened. Costs one stat."""
        ...

    def has_changed(self) -> bool:
        """Whether another connection has written to the store since the last call; True if unknown."""
        ...

    def blocker(self) -> int | None:
        """Pid of the process on this machine that now holds the store's write lock; None if unknown."""
        ...


class NoFileCare:
    """For a store that has no file, or maintains it itself."""

    def checkpoint_if_large(self) -> None: ...

    def shrink(self) -> bool:
        return False

    def sync(self) -> None: ...

    def verify(self) -> None: ...

    def has_changed(self) -> bool:
        return True

    def blocker(self) -> None:
        return None
