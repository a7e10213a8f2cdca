"""Calls of the Lua library over a client: loading it, repeating calls whose replies were lost, reading replies.

A call that changes the store has a number of its caller. The server keeps a caller's last reply for some minutes: so a call
that is repeated after its reply was lost gives that reply and does nothing a second time.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from mpdispatch.clock import Clock, Instant
from mpdispatch.errors import StoreError, StoreMissing, StoreTooNew, StoreTooOld
from mpdispatch.model import JobState
from mpdispatch.store.redis import client as clients
from mpdispatch.store.redis.library import READS, SPARES, library
from mpdispatch.store.redis.location import Location
from mpdispatch.store.redis.records import NO_EXTRA, Extra, JobRecord, record_of, state_of
from mpdispatch.store.redis.refusals import raise_refusal
from mpdispatch.store.redis.server import PATIENCE_S, Server

VERSION = 5
"""Of what is stored: the number that the SQL stores have for the same content."""
_FREEING = frozenset({"excess", "prune", "prune_batches", "purge", "cancel", "batch_cancel"})
"""Calls of clients that a full server should carry out."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Reply(NamedTuple):
    """What a call gave."""

    said: dict[str, Any]
    records: list[JobRecord]
    extras: Mapping[str, Mapping[str, Any]]

    def extra_at(self, place: int) -> Extra:
        """What of the record at this place is not in it."""
        found = self.extras.get(f"#{place + 1}")
        return NO_EXTRA if found is None else msgspec.convert(found, Extra)


class Call(NamedTuple):
    """A call as it is sent, and sent again."""

    name: str
    arguments: bytes
    caller: tuple[str, ...]
    """The caller's name and the number of the call; empty: it changes nothing."""
    function: str = ""
    """The end of the name of the function that carries it out, see `library`."""


class Caller:
    """Numbers the calls of one thread. A process made by fork is another one."""

    def __init__(self) -> None:
        self._pid, self._name, self._number = os.getpid(), secrets.token_hex(8), 0

    def next(self) -> tuple[str, str]:
        if self._pid != os.getpid():
            self.__init__()  # type: ignore[misc]
        self._number += 1
        return self._name, str(self._number)


class Link:
    """The calls of a store. Thread-safe; connects on first use."""

    def __init__(
        self, location: Location, clock: Clock | None, arguments: dict[str, Any] | None = None
    ) -> None:
        """`clock`: used instead of the server's. `arguments`: of an app's own connections."""
        self.location, self._clock, self.server = location, clock, Server(location, arguments)
        self._uses_functions = True
        self._is_open = self._has_warned = False
        self._callers = threading.local()

    @property
    def display(self) -> str:
        return self.location.display

    @property
    def tag(self) -> str:
        """What all keys begin with. The braces keep them on one node of a cluster."""
        return "{" + self.location.prefix + "}"

    def now(self) -> Instant | None:
        """What the given clock says; None: the server's own is used."""
        return None if self._clock is None else self._clock.now()

    def close(self) -> None:
        self._is_open = False
        self.server.close()

    # -- opening --------------------------------------------------------------------------------

    def open(self, *, create: bool, patience_s: float = PATIENCE_S) -> None:
        """Check that the store is there and of this version, once. Raises StoreMissing, StoreTooNew, StoreTooOld."""
        if self._is_open:
            return
        found = self.version(patience_s)
        if found == 0 and create:
            found = self.migrate()[1]
        if found == 0:
            raise StoreMissing(self.display)
        if found > VERSION:
            raise StoreTooNew(self.display, found, VERSION)
        if found < VERSION:
            raise StoreTooOld(self.display, found, VERSION)
        self._is_open = True

    def version(self, patience_s: float = PATIENCE_S) -> int:
        """The version of the store; 0: there is none."""
        return int(self.server.command("HGET", f"{self.tag}:meta", "version", patience_s=patience_s) or 0)

    def migrate(self) -> tuple[int, int]:
        """Make the store, and load what programs in other languages call. Gives its version before and now."""
        try:
            self.server.command("FUNCTION", "LOAD", "REPLACE", library().foreign)
        except StoreError as error:
            # Without functions a store works all the same, but for other languages.
            if error.__cause__ is None or not clients.is_unknown_command(error.__cause__):
                raise
        is_new = self.server.command("HSETNX", f"{self.tag}:meta", "version", VERSION)
        return (0 if is_new else VERSION), self.version()

    def warn_once(self) -> None:
        """A UserWarning if this server may lose jobs: once for each store object of a process."""
        if self._has_warned:
            return
        self._has_warned = True
        from mpdispatch.store.redis.health import warnings_of

        if found := warnings_of(self):
            import warnings

            warnings.warn("; ".join(found), stacklevel=4)

    # -- calls ----------------------------------------------------------------------------------

    def read(self, name: str, /, **arguments: Any) -> Reply:
        """A call that changes nothing."""
        self.open(create=False)
        return self.run(self.call(name, arguments))

    def states_of(self, job_ids: Sequence[int]) -> dict[int, JobState | None]:
        """The states of these jobs, None of those that are not there. Ten times as cheap for the server as a call."""
        self.open(create=False)
        found = self.server.command("MGET", *(f"{self.tag}:job:{each}" for each in job_ids)) if job_ids else ()
        return {
            job_id: None if packed is None else state_of(packed)
            for job_id, packed in zip(job_ids, found, strict=True)
        }

    def write(self, name: str, /, *, create: bool = False, **arguments: Any) -> Reply:
        """A call of a client that changes the store; tried again for up to PATIENCE_S if the server is lost."""
        self.open(create=create)
        function = SPARES if name in _FREEING else ""
        try:
            return self.run(self.numbered(name, arguments, function))
        except StoreMissing:
            if not create:
                raise
        self.open(create=True)
        return self.run(self.numbered(name, arguments, function))

    def numbered(self, name: str, arguments: Mapping[str, Any], function: str) -> Call:
        """A call that changes the store, with a number of its own."""
        caller = getattr(self._callers, "own", None)
        if caller is None:
            caller = self._callers.own = Caller()
        return self.call(name, arguments, caller.next(), function)

    def call(
        self, name: str, arguments: Mapping[str, Any], caller: tuple[str, ...] = (), function: str = READS
    ) -> Call:
        if self._clock is not None:
            arguments = {**arguments, "now": self._clock.now()}
        return Call(name, _encode(arguments), caller, function)

    def run(self, call: Call, *, patience_s: float = PATIENCE_S) -> Reply:
        """Raises StoreUnreachable after that time. The same call may be run again: it is carried out once."""
        unknown = "; nobody knows whether it has carried out the call" if call.caller else ""
        return self._read_reply(self.server.patiently(lambda: self._once(call), patience_s, unknown))

    def _read_reply(self, found: Any) -> Reply:
        said = _decode(found[0]) or {}  # an empty table of Lua is a list
        if "refusal" in said:
            if said["refusal"] == "store_missing":
                self._is_open = False
                raise StoreMissing(self.display)
            raise_refusal(said["refusal"], said["about"])
        return Reply(said, [record_of(each) for each in found[1:]], said.get("extras") or {})

    def _once(self, call: Call) -> Any:
        words = (1, self.tag, call.name, call.arguments, *call.caller)
        text = library()
        errors = clients.module().exceptions
        if self._uses_functions:
            try:
                return self._with_functions(call.function, words)
            except errors.ResponseError as error:
                if not clients.is_unknown_command(error):
                    raise
                self._uses_functions = False
        try:
            return self.server.execute("EVALSHA", text.script_sum, *words)
        except errors.NoScriptError:
            return self.server.execute("EVAL", text.script, *words)

    def _with_functions(self, end: str, words: tuple[Any, ...]) -> Any:
        text, errors = library(), clients.module().exceptions
        try:
            return self.server.execute("FCALL", text.name + end, *words)
        except errors.ResponseError as error:
            if "Function not found" not in str(error):
                raise
        self.server.execute("FUNCTION", "LOAD", "REPLACE", text.text)
        return self.server.execute("FCALL", text.name + end, *words)
