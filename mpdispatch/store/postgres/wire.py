"""A driver's connection on which no wait lasts longer than its deadline. Effects: sockets. One thread at a time.

A server that is stopped, or cut off, closes no socket: only a deadline tells. What was waited on is then closed.
"""

from __future__ import annotations

import os
import select
import time
import weakref
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import psycopg
from psycopg import pq
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import error_from_result
from psycopg.rows import tuple_row
from psycopg.types.numeric import FloatLoader, Int8Dumper, IntLoader
from psycopg.types.string import TextLoader
from psycopg.waiting import Ready, Wait

from mpdispatch.errors import UsageError

T = TypeVar("T")
Raw = psycopg.Connection[Any]
Connect = Callable[[], Raw]

DEFAULTS: dict[str, str | int] = {
    "client_encoding": "UTF8",
    "fallback_application_name": "mpdispatch",
    # A peer that is gone without a word is noticed within half a minute. Sockets of this machine ignore these.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_OID_JSON, _OID_JSONB, _OID_NUMERIC, _OID_BOOL = 114, 3802, 1700, 16
_EVENTS = {
    Wait.R: select.POLLIN,
    Wait.W: select.POLLOUT,
    Wait.RW: select.POLLIN | select.POLLOUT,
}


class NoAnswerError(psycopg.OperationalError):
    """The server has not answered by the deadline."""


class _NumericLoader(FloatLoader):
    """A sum of bigints is numeric in PostgreSQL, and an int here."""

    def load(self, data: Any) -> Any:
        text = bytes(data)
        return float(text) if b"." in text or b"n" in text.lower() else int(text)


class _TextOfBytesDumper(Dumper):
    """For a column of any type, as the text of an argument is."""

    def dump(self, obj: Any) -> bytes:
        try:
            bytes(obj).decode()
        except UnicodeDecodeError as error:
            raise psycopg.DataError(f"text that is not UTF-8 ({error})") from error
        if b"\0" in obj:
            raise psycopg.DataError("text with a NUL")
        return bytes(obj)


class _BoolLoader(IntLoader):
    """0 and 1, as SQLite has them."""

    def load(self, data: Any) -> int:
        return int(bytes(data) == b"t")


class Wire:
    """A connection to the server, in autocommit mode, and the time until which it may wait."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.until_s = time.monotonic()
        """Monotonic time at which each wait ends with NoAnswerError."""
        self._poll = select.poll()
        self._is_awaiting = False
        """Whether statements were sent whose answers were not waited for."""
        raw.wait = self._drive  # type: ignore[method-assign]  # all waits of its cursors
        _wires.add(self)

    @property
    def is_open(self) -> bool:
        """Whether it can be used, as far as is known without a word from the server."""
        return not self.raw.closed

    def is_quiet(self) -> bool:
        """Whether nothing has come in unasked: a server that went away says so, or closes the socket."""
        if self._is_awaiting:
            return True
        self._poll.register(self.raw.pgconn.socket, select.POLLIN)
        return not self._poll.poll(0)

    def exchange(self, statements: bytes) -> list[pq.abc.PGresult]:
        """The results of these statements, sent in one message without parameters. Raises psycopg.Error.

        They are one transaction unless they say otherwise.
        """
        self.settle()
        try:
            self.raw.pgconn.send_query(statements)
            results = self._collect()
        except BaseException:
            self.close()
            raise
        for result in results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise error_from_result(result)
        if not results:  # libpq has found the connection closed
            self.close()
            raise psycopg.OperationalError("the connection was lost")
        return results

    def send(self, statements: bytes) -> None:
        """Send these statements, and do not wait for the answer. Raises psycopg.Error."""
        self.settle()
        try:
            self.raw.pgconn.send_query(statements)
            self._is_awaiting = True
            self.raw.pgconn.flush()
        except BaseException:
            self.close()
            raise

    def settle(self) -> None:
        """Wait for the answers to what `send` has sent, and drop them. Raises psycopg.Error."""
        if not self._is_awaiting:
            return
        self._is_awaiting = False
        try:
            self._collect()
        except BaseException:
            self.close()
            raise

    def _collect(self) -> list[pq.abc.PGresult]:
        pgconn, results = self.raw.pgconn, list[pq.abc.PGresult]()
        while pgconn.flush():
            self._wait(Wait.RW)
            pgconn.consume_input()
        while True:
            while pgconn.is_busy():
                self._wait(Wait.R)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                return results
            results.append(result)
            if pgconn.status == pq.ConnStatus.BAD:
                return results

    def _wait(self, wanted: Wait) -> Ready:
        """Raises NoAnswerError."""
        poll = self._poll
        poll.register(self.raw.pgconn.socket, _EVENTS[wanted])
        found = poll.poll(max(0.0, self.until_s - time.monotonic()) * 1000)
        if not found:
            raise NoAnswerError("the server does not answer")
        # A hang-up is read, and so found out.
        can_write = found[0][1] & select.POLLOUT
        can_read = found[0][1] & ~select.POLLOUT
        if can_write:
            return Ready.RW if can_read else Ready.W
        return Ready.R

    def _drive(self, gen: Generator[Any, Any, T], interval: float = 0.0, timeout: float | None = None) -> T:
        """Run an operation of the driver's; in place of `psycopg.Connection.wait`."""
        try:
            self.settle()
            wanted = next(gen)
            while True:
                wanted = gen.send(self._wait(wanted))
        except StopIteration as stop:
            result: T = stop.value
            return result
        except psycopg.Error:
            if self.raw.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                self.close()  # the rest of the answer may come, or never
            raise
        except BaseException:
            self.close()  # half an answer has come in, if any: also after Ctrl-C
            raise

    def close(self) -> None:
        """Close it. In a forked child the parent's connection is left alone."""
        _wires.discard(self)
        if self.raw.pgconn.status != pq.ConnStatus.BAD or not self.raw.closed:
            self.raw.close()


_wires: weakref.WeakSet[Wire] = weakref.WeakSet()
_inherited = list[Wire]()


def _in_child() -> None:
    """Close a forked child's copies of the sockets, without a word to the server: they are the parent's.

    Else the server would take a parent that has died for alive as long as the child lives, and keep its locks.
    """
    for wire in list(_wires):
        try:
            os.close(wire.raw.pgconn.socket)
        except (OSError, psycopg.Error):
            continue  # it was closed already
    # Kept, since the driver would report each of them as deleted while open.
    _inherited.extend(_wires)
    _wires.clear()


os.register_at_fork(after_in_child=_in_child)


def connect(dsn: str, *, patience_s: float) -> Wire:
    """A new connection to what this libpq URL names. Raises psycopg.Error; UsageError: the URL is malformed."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.Error:
        # Not `from error`: its text may repeat a password.
        raise UsageError(
            "the URL of the store has parameters that PostgreSQL's library does not know"
        ) from None
    defaults = {name: value for name, value in DEFAULTS.items() if name not in given}
    # Whole seconds, and 2 at least: libpq's rule. With several hosts, for each.
    defaults.setdefault("connect_timeout", given.get("connect_timeout") or max(2, round(patience_s)))
    raw = psycopg.connect(dsn, autocommit=True, **defaults)  # type: ignore[arg-type]
    # As one of a pool: who drops a store without closing it is not warned of each connection, which is closed then.
    raw._pool = None
    return prepared(raw)


def prepared(raw: Raw) -> Wire:
    """A fresh connection of whoever made it, set up for our statements."""
    if not raw.autocommit:
        raw.autocommit = True
    raw.row_factory = tuple_row
    adapt(raw.adapters)
    return Wire(raw)


def adapt(adapters: AdaptersMap) -> None:
    """As SQLite: integers of one size, JSON as text, truth as a number. Bytes are the text they encode."""
    adapters.register_dumper(int, Int8Dumper)
    adapters.register_dumper(bytes, _TextOfBytesDumper)
    for oid in (_OID_JSON, _OID_JSONB):
        adapters.register_loader(oid, TextLoader)
    adapters.register_loader(_OID_NUMERIC, _NumericLoader)
    adapters.register_loader(_OID_BOOL, _BoolLoader)
