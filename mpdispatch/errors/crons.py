"""Errors about cron entries."""

from __future__ import annotations

from mpdispatch.errors.base import DispatchError, UsageError

__all__ = ["CronExistsError", "CronNotFoundError", "CronUnreadableError"]


class CronNotFoundError(DispatchError):
    """There is no cron entry of this name."""

    def __init__(self, name: str, hint: str = "") -> None:
        self.name = name
        super().__init__(f"there is no cron entry {name!r}{hint}")


class CronExistsError(UsageError):
    """The name of a new cron entry is taken."""

    def __init__(self, name: str, origin: str) -> None:
        self.name = name
        super().__init__(
            f"name: there is a cron entry {name!r} already (declared by: {origin}); remove it or choose another name"
        )


class CronUnreadableError(DispatchError):
    """The row of a cron entry cannot be read, because something other than mpdispatch wrote to the store."""

    def __init__(self, name: str, fault: str) -> None:
        self.name = name
        super().__init__(f"cron entry {name!r} cannot be read: {fault}; remove it and add it anew")
