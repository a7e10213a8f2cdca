"""Calls of one supervisor: each is sent once, and if its reply is lost, it is settled before the next one.

A supervisor does not wait for its server: a call that fails raises at once, and the supervisor goes on and tries again
later, maybe with more to record. By then the server may have carried the lost call out. So that very call is sent again
first: the server answers it as it did, or carries it out now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mpdispatch.errors import DispatchError, StoreUnreachable
from mpdispatch.store.redis.library import SPARES
from mpdispatch.store.redis.link import Call, Link, Reply


class Lost(NamedTuple):
    """A call whose reply was lost."""

    call: Call
    values: dict[str, Any]
    """Its arguments."""


class SupervisorCalls:
    """One thread at a time. A full server carries them out: they end jobs, and add none but callbacks."""

    def __init__(self, link: Link, settled: Callable[[Lost, Reply], None]) -> None:
        """`settled` is told the reply of a lost call, unless the caller has repeated that call."""
        self._link, self._settled = link, settled
        self._lost: Lost | None = None

    def read(self, name: str, /, **values: Any) -> Reply:
        self._link.open(create=False, patience_s=0)
        return self._link.run(self._link.call(name, values), patience_s=0)

    def write(self, name: str, /, *, create: bool = False, **values: Any) -> Reply:
        self._link.open(create=create, patience_s=0)
        lost = self._lost
        if lost is not None and (lost.call.name, lost.values) == (name, values):
            return self._sent(lost)
        self.settle(values)
        return self._sent(Lost(self._link.numbered(name, values, SPARES), values))

    def settle(self, values: dict[str, Any]) -> None:
        """Send a lost call again, unless it has these arguments: then its caller is about to repeat it."""
        lost = self._lost
        if lost is None or lost.values == values:
            return
        try:
            reply = self._sent(lost)
        except StoreUnreachable:
            raise
        except DispatchError:
            return  # it is refused now: nothing of it was or will be carried out
        self._settled(lost, reply)

    def _sent(self, lost: Lost) -> Reply:
        self._lost = None
        try:
            return self._link.run(lost.call, patience_s=0)
        except StoreUnreachable:
            self._lost = lost
            raise
