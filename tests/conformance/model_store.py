"""The model as a store: with what is no rule about jobs, so that a supervisor can run its jobs from it."""

from __future__ import annotations

from mpdispatch.clock import Clock
from mpdispatch.errors import UsageError
from mpdispatch.model import Finding
from mpdispatch.store.optional import NoFileCare, Wake
from mpdispatch.store.values import Backup, Durability

from .model import Model

__all__ = ["ModelStore"]


class ModelStore(Model):
    """Both faces of the contract in one object, in the memory of one process. One thread at a time."""

    location = display = "model:"
    is_shared = is_remote = False
    file = None
    said_durability: Durability | None = None
    file_care = NoFileCare()
    transfer = None

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.wake_ups: Wake | None = None

    def sync(self) -> None: ...

    def prefer_durability(self, durability: Durability) -> Durability:
        return durability

    def migrate(self) -> tuple[int, int]:
        return 1, 1

    def check(self, *, create: bool = False) -> None: ...

    def script(self) -> str:
        raise UsageError("it is made of nothing but Python")

    def close(self) -> None:
        if self.wake_ups is not None:
            self.wake_ups.close()

    def close_all(self) -> None:
        self.close()

    def supervisor_store(self) -> ModelStore:
        return self

    def wake(self) -> None:
        if self.wake_ups is not None:
            self.wake_ups.notify()

    def compact(self) -> tuple[int, int]:
        raise UsageError("it has no file to compact")

    def backup(self, destination: object) -> Backup:
        raise UsageError("it has no file to copy")

    # No call of the contract makes a row that cannot be read.

    def examine(self) -> list[Finding]:
        return []

    def faults(self, job_id: int) -> list[str]:
        return []
