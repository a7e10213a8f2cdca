"""Opens sessions: the connection, its check, and the schema. One per store; any thread. Effects."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import psycopg
from psycopg.conninfo import conninfo_to_dict

from mpdispatch.errors import StoreError, StoreMissing, StoreTooOld, UsageError
from mpdispatch.store.postgres import migration
from mpdispatch.store.postgres.clock import ServerClock
from mpdispatch.store.postgres.options import Place
from mpdispatch.store.postgres.patience import Patience
from mpdispatch.store.postgres.session import PLANS, ConnectionLost, Session
from mpdispatch.store.postgres.translate import is_lost, shown, translated
from mpdispatch.store.postgres.wire import Connect, Wire, connect, prepared
from mpdispatch.store.values import Durability

_MIGRATION_S = 3600.0
_MOST_CONNECT_S = 10.0


class Database:
    """A schema on a server: what opens sessions of it."""

    def __init__(
        self, place: Place, translate: Callable[[str], str], *, connect: Connect | None = None
    ) -> None:
        """`connect`: how the application makes a connection; None: by the place's URL. Does no I/O."""
        self.place, self.clock = place, ServerClock()
        self._translate, self._connect = translate, connect
        self.is_proxied = place.options.proxy
        """Whether a proxy that pools transactions stands between; None: not known yet."""

    @property
    def location(self) -> str:
        """As it is shown to people."""
        return self.place.display

    @property
    def name(self) -> str:
        """Of the database; empty: as the user, or as the application's own connections have it."""
        if self._connect is not None:
            return ""
        return str(conninfo_to_dict(self.place.dsn).get("dbname") or "")

    @property
    def durability(self) -> Durability:
        return self.place.options.durability or "full"

    def prefer_durability(self, durability: Durability) -> None:
        """For connections opened from now on."""
        options = dataclasses.replace(self.place.options, durability=durability)
        self.place = dataclasses.replace(self.place, options=options)

    def wire(self, *, patience_s: float) -> Wire:
        """A new connection. Raises ConnectionLost, StoreError, UsageError: it cannot be made."""
        try:
            if self._connect is None:
                wire = connect(self.place.dsn, patience_s=min(patience_s, _MOST_CONNECT_S))
            else:
                wire = prepared(self._connect())
        except psycopg.Error as error:
            raise self._refused(error) from error
        except UsageError as error:
            raise UsageError(f"{self.location}: {error}") from None
        wire.until_s = time.monotonic() + patience_s
        return wire

    def _refused(self, error: psycopg.Error) -> Exception:
        problem = translated(error, self.location)
        if error.sqlstate is None:  # of the driver: its text alone says what the server said
            problem = _by_text(error, self.location)
        return problem

    def open(self, *, patience_s: float, create: bool) -> Session:
        """A session of a usable store. `create`: create the store or migrate it, if that is needed.

        Raises StoreError: ConnectionLost, StoreMissing, StoreTooOld, StoreTooNew …
        """
        wire = self.wire(patience_s=patience_s)
        try:
            server = self._look(wire)
            try:
                migration.refuse_unusable(server, self.location)
            except (StoreMissing, StoreTooOld):
                if not create:
                    raise
                self._migrate(wire)
                wire.until_s = time.monotonic() + patience_s
                server = self._look(wire)
            self._choose_plans(wire)
        except BaseException:
            wire.close()
            raise
        return Session(
            wire,
            server,
            self.place.options,
            self.clock,
            self._translate,
            location=self.location,
            is_synced=self.durability == "full",
            follows_server="synchronous_commit" in self.place.dsn,
        )

    def _choose_plans(self, wire: Wire) -> None:
        """Have this connection plan for an index in each statement, once. Raises StoreError.

        Statistics of a queue are always of another day. Where they said that many jobs were due or waited, PostgreSQL
        reads the whole table to find that there is none. Behind a proxy each transaction says so itself.
        """
        if self.is_proxied:
            return
        try:
            wire.exchange(f"SELECT {PLANS.format(is_local='false')}".encode())
        except psycopg.Error as error:
            raise self._lost_or(error) from error

    def _look(self, wire: Wire) -> migration.Server:
        try:
            server = migration.look(wire, self.place.options)
        except psycopg.Error as error:
            raise self._lost_or(error) from error
        migration.refuse_server(server, self.location)
        self.is_proxied = server.is_proxied
        if server.is_proxied:
            wire.raw.prepare_threshold = None  # the next transaction may be on another connection
        return server

    def _migrate(self, wire: Wire) -> tuple[int, int]:
        wire.until_s = time.monotonic() + _MIGRATION_S
        try:
            return migration.migrate(wire, self.place.options, self.location)
        except psycopg.Error as error:
            raise self._lost_or(error) from error

    def _lost_or(self, error: psycopg.Error) -> Exception:
        if is_lost(error):
            return ConnectionLost(self.location, f"the server cannot be reached ({shown(error)})")
        return translated(error, self.location)

    def migrate(self, *, patience_s: float) -> tuple[int, int]:
        """Create the store or bring its schema up to date. Returns (version before, version now)."""
        patience = Patience(patience_s)
        while True:
            try:
                wire = self.wire(patience_s=max(1.0, patience.left_s()))
                try:
                    return self._migrate(wire)
                finally:
                    wire.close()
            except ConnectionLost:
                if not patience.pause():
                    raise


_BY_TEXT = (
    # The driver gives no code for what the server says before a connection is made.
    ("28P01", "password authentication failed"),
    ("28000", "no pg_hba.conf entry"),
    ("28000", 'role "'),
    ("28P01", "no password supplied"),
    ("53300", "too many clients"),
    ("53300", "remaining connection slots"),
)


def _by_text(error: psycopg.Error, location: str) -> StoreError:
    text = str(error)
    for code, part in _BY_TEXT:
        if part in text:
            return _coded(code, text, location)
    if 'database "' in text and "does not exist" in text:
        return _coded("3D000", text, location)
    return ConnectionLost(location, f"the server cannot be reached ({shown(error)})")


def _coded(code: str, text: str, location: str) -> StoreError:
    error = psycopg.errors.lookup(code)(text)
    found = translated(error, location)
    assert isinstance(found, StoreError)
    return found
