"""The root of the tree, and what is wrong with a call or a configuration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, NamedTuple


class DispatchError(Exception):
    """The root of every error mpdispatch raises on purpose."""

    exit_code: ClassVar[int] = 1


class Fault(NamedTuple):  # no dataclass: dataclasses is 7 ms that importing the package would wait for
    """One thing wrong with a configuration or a payload: where (a dotted key) and what."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class ConfigError(DispatchError):
    """A configuration is wrong. `faults` holds everything wrong with it, not just the first thing."""

    exit_code = 78

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        super().__init__("; ".join(map(str, self.faults)))


class NoStoreError(ConfigError):
    """A Dispatcher was made without a store; it has nowhere to keep its jobs."""

    def __init__(self) -> None:
        super().__init__([Fault("store", "is required, for example Dispatcher(store=SQLiteStore('jobs.db'))")])


class PlatformError(DispatchError):
    """mpdispatch does not run on this operating system."""

    exit_code = 69


class UsageError(DispatchError):
    """An argument of a call is out of its range or of the wrong kind."""

    exit_code = 2
