"""What a store may do, and need not: be woken for, and be cared for as a file. Each has a default that does nothing."""

from __future__ import annotations

from typing import Protocol

__all__ = ["FileCare", "NoFileCare", "Wake", "WakeListener"]


class WakeListener(Protocol):
    """A supervisor's end of the wake-ups."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when there may be work."""
        ...

    def drain(self) -> None:
        """Swallow what made it readable."""
        ...

    def is_in_place(self) -> bool:
        """Whether wake-ups still reach it; if not, listen anew."""
        ...

    def close(self) -> None: ...


class Wake(Protocol):
    """How supervisors learn at once that there may be work. Optional: without it they look at every poll interval."""

    def notify(self) -> None:
        """Wake all of them. A hint: never blocks or raises, may be lost. Any thread, before and after a fork."""
        ...

    def listen(self, owner: int) -> WakeListener | None:
        """A listener for the supervisor of this id; None: there can be none, so it polls."""
        ...

    def close(self) -> None:
        """Let go of what it holds open; it can be used again."""
        ...


class FileCare(Protocol):
    """What a store in a file needs of its supervisors, which are at work anyway. On the supervisor's thread."""

    def checkpoint_if_large(self) -> None:
        """Bring the log of commits into the file if it has grown large. Never blocks; call it between turns."""
        ...

    def sync(self) -> None:
        """Have everything committed so far survive a power cut. For a turn that was not synced; blocks on the disk."""
        ...

    def verify(self) -> None:
        """Raise StoreVanished if the file was deleted or replaced since it was opened. No I/O but a stat."""
        ...

    def has_changed(self) -> bool:
        """Whether anybody else has written to the store since this was last asked; True if that cannot be known."""
        ...

    def blocker(self) -> int | None:
        """Pid of the process on this machine that holds the store's write lock now, if that can be known."""
        ...


class NoFileCare:
    """Of a store that is in no file, or looks after itself."""

    def checkpoint_if_large(self) -> None: ...

    def sync(self) -> None: ...

    def verify(self) -> None: ...

    def has_changed(self) -> bool:
        return True

    def blocker(self) -> None:
        return None
