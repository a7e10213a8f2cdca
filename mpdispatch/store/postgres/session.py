"""One connection with its transactions: every write of ours goes through `Session.write`. One thread at a time.

A writing transaction begins with one message: READ COMMITTED, limits, the advisory lock of the schema, which makes all
writers of the schema one after the other, and this session's number in `mpdispatch_writers`. It is over when the server
says so. If that answer is lost, another session asks for the number (`was_committed`): it is there, or it never will be,
since the question writes the next number, and a transaction never writes one that is not higher than what is there.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg import pq

from mpdispatch.errors import StoreError, StoreUnreachable
from mpdispatch.failpoints import failpoint
from mpdispatch.store.postgres.clock import ServerClock
from mpdispatch.store.postgres.connection import PostgresConnection
from mpdispatch.store.postgres.migration import Server, first_row
from mpdispatch.store.postgres.options import ServerOptions
from mpdispatch.store.postgres.translate import is_lost, shown, translated
from mpdispatch.store.postgres.wire import Wire
from mpdispatch.store.sql.connection import Work
from mpdispatch.store.sql.sessions import Flush

T = TypeVar("T")

IDLE_S = 5
"""A transaction of ours that its client leaves alone for so long is ended by the server: it holds the lock, and its client
is stopped or cut off. Ours take milliseconds between two statements."""
_SYNC_ON, _SYNC_OFF = ";SET LOCAL synchronous_commit = on", ";SET LOCAL synchronous_commit = off"
PLANS = ", ".join(
    f"set_config('{name}', '{value}', {{is_local}})"
    for name, value in {
        **dict.fromkeys(("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"), "off"),
        "jit": "off",
        "plan_cache_mode": "force_generic_plan",
    }.items()
)
"""How our statements are planned: by their indexes, and once."""
_FLUSH = (
    b"BEGIN READ WRITE" + _SYNC_ON.encode() + b";SELECT pg_logical_emit_message(true, 'mpdispatch', '');COMMIT"
)
"""A commit that waits for the disk, and with it for all commits before it, whoever made them."""


class ConnectionLost(StoreUnreachable):
    """The connection was lost before the commit: nothing was written."""


class CommitUnknown(StoreUnreachable):
    """The connection was lost while the server committed. `key` and `number` are the writer's; `result` is the work's."""

    def __init__(self, location: str, detail: str, key: int, number: int, result: Any) -> None:
        super().__init__(location, detail)
        self.key, self.number, self.result = key, number, result


class Session:
    """A connection to a store that is there and usable."""

    def __init__(
        self,
        wire: Wire,
        server: Server,
        options: ServerOptions,
        clock: ServerClock,
        translate: Callable[[str], str],
        *,
        location: str,
        is_synced: bool,
        follows_server: bool = False,
    ) -> None:
        """`location` is shown to people. `is_synced`: commits wait for the disk unless the caller says otherwise.

        `follows_server`: a server that is set not to wait for the disk is not asked to.
        """
        self.wire, self.server, self.location = wire, server, location
        self._clock = clock
        self.connection = PostgresConnection(wire, translate)
        self.pid = os.getpid()
        self._key, self._number = random.getrandbits(63), 0
        self.used_s = 0.0
        """Monotonic time at which it was given back."""
        self.is_kept = True
        """Whether it may be used again; if not, it is closed once it is given back."""
        self._plans = f";SELECT {PLANS.format(is_local='true')}" if server.is_proxied else ""
        schema, (first, second) = options.quoted_schema, options.lock_key
        self._lock = f"SELECT pg_advisory_xact_lock({first}, {second})"
        self._table = f"{schema}.mpdispatch_writers"
        self._clock_text = b"SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
        is_off = server.synchronous_commit == "off"
        self._is_synced = is_synced and not (is_off and follows_server)
        self._for_waiting = _SYNC_ON if is_off else ""
        self._for_going_on = "" if is_off else _SYNC_OFF
        clock.heard(server.server_us)

    @property
    def is_open(self) -> bool:
        return self.wire.is_open

    def close(self) -> None:
        """Close the connection, unless it is the parent's of this forked child."""
        if self.pid == os.getpid():
            self.wire.close()

    # -- reads ----------------------------------------------------------------------------------

    def read(self, work: Work[T]) -> T:
        """Run `work` and return its result. Several statements in it do not share a snapshot.

        Raises ConnectionLost, StoreError.
        """
        self._clock.enter(self._read_clock)
        try:
            return work(self.connection)
        except psycopg.Error as error:
            raise self._failed(error) from error
        finally:
            self._clock.leave()

    def _read_clock(self) -> None:
        row = first_row(self.wire.exchange(self._clock_text))
        self._clock.heard(int(row[0]))

    # -- transactions ---------------------------------------------------------------------------

    def write(
        self,
        work: Work[T],
        *,
        point: str,
        lock_s: float,
        flush: Flush = Flush.IN_COMMIT,
        on_commit: Callable[[], None] | None = None,
    ) -> T:
        """Run `work` inside one transaction and return its result.

        `lock_s`: how long to wait for the lock and for rows, at most. `on_commit` is called as soon as others can see
        the commit. Raises StoreBusy, StoreError: nothing was written; ConnectionLost, CommitUnknown.
        """
        self._clock.enter(self._read_clock)
        try:
            try:
                self._begin(lock_s, waits=self._is_synced and flush is Flush.IN_COMMIT)
                result = work(self.connection)
                failpoint(f"{point}.before_commit")
            except psycopg.Error as error:
                raise self._failed(error) from error
            except BaseException:
                self._roll_back()
                raise
            self._commit(result)
            if on_commit is not None:
                on_commit()
            failpoint(f"{point}.after_commit")
            if flush is Flush.ONCE_RELEASED and self._is_synced:
                self._flush(result)
            return result
        finally:
            self._clock.leave()

    def _begin(self, lock_s: float, *, waits: bool) -> None:
        self._number += 2  # the next one says that this one was given up, see `was_committed`
        row = first_row(
            self.wire.exchange(
                (
                    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
                    f";SET LOCAL lock_timeout = {max(1, round(1000 * lock_s))}"
                    f";SET LOCAL idle_in_transaction_session_timeout = {1000 * IDLE_S}"
                    f"{self._for_waiting if waits else self._for_going_on}{self._plans}"
                    f";{self._lock};{self._claim_number(self._key, self._number)}"
                ).encode()
            )
        )
        if not row:
            raise psycopg.OperationalError("this transaction was given up")  # by `was_committed`
        self._clock.heard(int(row[0]))

    def _claim_number(self, key: int, number: int) -> str:
        """Write this number, and give the server's time; no row if it, or a later one, is there already."""
        return (
            f"INSERT INTO {self._table} AS w (key, number, written_at_us)"
            f" VALUES ({key}, {number}, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)"
            " ON CONFLICT (key) DO UPDATE"
            " SET number = excluded.number, written_at_us = excluded.written_at_us WHERE w.number < excluded.number"
            " RETURNING (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
        )

    def _give_up(self, key: int, number: int) -> str:
        """Write that this number was given up, unless it is there; gives what is there now: the number, or the next one."""
        return (
            f"INSERT INTO {self._table} AS w (key, number, written_at_us)"
            f" VALUES ({key}, {number + 1}, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)"
            f" ON CONFLICT (key) DO UPDATE SET number = CASE WHEN w.number < {number} THEN {number + 1} ELSE w.number END"
            " RETURNING number"
        )

    def _commit(self, result: Any) -> None:
        if not self.wire.is_open:
            raise ConnectionLost(self.location, "the connection was lost during a transaction")
        try:
            answer = self.wire.exchange(b"COMMIT")
        except BaseException as error:
            if isinstance(error, psycopg.Error) and self.wire.is_open:
                raise self._failed(error) from error  # the server has refused, and rolled back
            if isinstance(error, psycopg.Error):
                raise CommitUnknown(self.location, _unknown(error), self._key, self._number, result) from error
            raise
        if answer[-1].command_status != b"COMMIT":
            # Some statement has failed, and the work went on as if it had not.
            raise StoreError(
                self.location, "a transaction was rolled back, since one of its statements had failed"
            )

    def _roll_back(self) -> None:
        """Leave the transaction. What goes wrong with that costs the connection, and no more."""
        if not self.wire.is_open:
            return
        try:
            if self.wire.raw.pgconn.transaction_status != pq.TransactionStatus.IDLE:
                self.wire.exchange(b"ROLLBACK")
        except psycopg.Error:
            self.wire.close()

    def _failed(self, error: psycopg.Error) -> Exception:
        """The error to raise for one that came before a commit."""
        self._roll_back()
        if is_lost(error) or not self.wire.is_open:
            self.wire.close()
            return ConnectionLost(self.location, f"the server cannot be reached ({shown(error)})")
        return translated(error, self.location)

    def alone(self, work: Work[T], *, point: str, waits: bool, on_commit: Callable[[], None]) -> T:
        """Run `work`, a single statement that is its own transaction and takes no lock. It must be safe to repeat.

        `waits`: the commit waits for the disk. Raises ConnectionLost: it is unknown whether it was written.
        """
        waits = waits and self._is_synced
        needs_setting = self._for_waiting if waits else self._for_going_on
        self._clock.enter(self._read_clock)
        try:
            try:
                failpoint(f"{point}.before_commit")
                if needs_setting:
                    self.wire.exchange(
                        f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE{needs_setting}".encode()
                    )
                result = work(self.connection)
                if needs_setting:
                    self.wire.exchange(b"COMMIT")
            except psycopg.Error as error:
                raise self._failed(error) from error
            except BaseException:
                self._roll_back()
                raise
            on_commit()
            failpoint(f"{point}.after_commit")
            return result
        finally:
            self._clock.leave()

    def was_committed(self, unknown: CommitUnknown, *, lock_s: float) -> bool:
        """Whether the server has committed this transaction of a lost session. False: it never will.

        Waits for it while it goes on in the server. Raises StoreBusy: it goes on for longer; ConnectionLost, StoreError.
        """
        try:
            row = first_row(
                self.wire.exchange(
                    (
                        f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
                        f";SET LOCAL lock_timeout = {max(1, round(1000 * lock_s))}"
                        f";{self._give_up(unknown.key, unknown.number)}"
                    ).encode()
                )
            )
            self.wire.exchange(b"COMMIT")
        except psycopg.Error as error:
            raise self._failed(error) from error
        # Asked a second time, as the first answer may be lost too, it says the same.
        return bool(row) and int(row[0]) == unknown.number

    # -- the disk -------------------------------------------------------------------------------

    def sync(self) -> None:
        """Return once all commits so far, whoever made them, are on disk. Raises ConnectionLost, StoreError."""
        if not self._is_synced:
            return
        try:
            self.wire.exchange(_FLUSH)
        except psycopg.Error as error:
            raise self._failed(error) from error

    def _flush(self, result: Any) -> None:
        try:
            self.wire.exchange(_FLUSH)
        except psycopg.Error as error:
            # A server that crashed meanwhile may have lost the commit.
            self._roll_back()
            self.wire.close()
            raise CommitUnknown(self.location, _unknown(error), self._key, self._number, result) from error

    # -- wake-ups -------------------------------------------------------------------------------

    def notify(self, channel: str) -> None:
        """Wake those who listen there. Does not wait for the server, and never raises."""
        try:
            self.wire.send(f"NOTIFY {channel}".encode())
        except psycopg.Error:
            self.wire.close()  # a hint only

    def check(self) -> None:
        """Ask the server for a sign of life. Raises ConnectionLost, StoreError."""
        try:
            self._read_clock()
        except psycopg.Error as error:
            raise self._failed(error) from error


def _unknown(error: psycopg.Error) -> str:
    return f"the connection was lost during a commit ({shown(error)})"
