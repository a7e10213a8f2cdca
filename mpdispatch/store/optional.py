"""What a store may offer but need not: wake-ups and the maintenance of its file. Without them it works as well."""

from __future__ import annotations

from typing import Protocol


class WakeListener(Protocol):
    """A supervisor's end of the wake-ups."""

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
    """Tells supervisors at once that there may be work. Optional: without it they poll at every poll interval."""

    def notify(self) -> None:
        """Wake all supervisors. A hint: never blocks or raises, may be lost. Any thread, before and after a fork."""
        ...

    def listen(self, owner: int) -> WakeListener | None:
        """A listener for the supervisor with this id; None: not possible here, so the supervisor polls."""
        ...

    def close(self) -> None:
        """Close its descriptors; the next use opens them again."""
        ...


class FileCare(Protocol):
    """Maintenance of a store's file by its supervisors. Runs on the supervisor's thread."""

    def checkpoint_if_large(self) -> None:
        """Move the log of commits into the file if the log has grown large. Never blocks; call it between commits."""
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

    def sync(self) -> None: ...

    def verify(self) -> None: ...

    def has_changed(self) -> bool:
        return True

    def blocker(self) -> None:
        return None
