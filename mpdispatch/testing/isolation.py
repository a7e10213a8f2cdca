"""A store of its own for each test, with a clock that the test can advance."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeAlias

from mpdispatch.engine.engine import Engine
from mpdispatch.errors import UsageError
from mpdispatch.events.publish import DRAIN_S
from mpdispatch.store import SQLiteStore
from mpdispatch.store.contract import Store
from mpdispatch.testing.fake_clock import FakeClock
from mpdispatch.testing.firing import bring_declared


class HasEngine(Protocol):
    """An extension."""

    @property
    def engine(self) -> Engine: ...


AnyEngine: TypeAlias = Engine | HasEngine

_clocks: weakref.WeakKeyDictionary[Store, FakeClock] = weakref.WeakKeyDictionary()


@contextmanager
def isolated(
    engine: AnyEngine, path: str | os.PathLike[str] | None = None, *, shared: bool = False
) -> Iterator[FakeClock]:
    """Inside the block, the engine uses a new store in memory, or the file `path`; afterwards its own one again.

        with testing.isolated(engine) as clock:
            render.options(delay="1h").enqueue("a.pdf")
            clock.advance("1h")
            assert testing.drain(engine)[0].state == "completed"

    Gives the clock of that store, which `testing.clock(engine)` gives too. The cron entries that the app declares are in
    it. A file is needed for the option `connection` and for other processes; it stays when the block ends. `shared`: it
    is the app's own database, as in `SQLiteStore`.

    Raises UsageError: the engine's dispatcher supervises its store now, or `shared` is given without a file;
    ConfigError: the entries that the app declares do not fit it.
    """
    engine = engine_of(engine)
    if shared and path is None:
        raise UsageError("shared: give the file of the app's database, too")
    clock = FakeClock()
    store = SQLiteStore(":memory:" if path is None else path, shared=shared, clock=clock)
    with engine.dispatcher.on_store(store):
        store.check(create=True)
        bring_declared(engine, clock.now())
        _clocks[store] = clock
        try:
            yield clock
        finally:
            drain_hooks(engine)  # one may read the store
            store.close_all()


def clock(engine: AnyEngine) -> FakeClock:
    """The clock of the engine's store, to be advanced: inside `isolated`, `inline` and the fixture `isolated_engine`.

    Raises UsageError: the engine uses its own store, whose clock is the machine's.
    """
    engine = engine_of(engine)
    found = fake_clock_of(engine.store)
    if found is None:
        raise UsageError(
            f"the clock of {engine.store.display} is the machine's; `with testing.isolated(engine):` gives the engine a"
            " store with a clock that can be advanced"
        )
    return found


def fake_clock_of(store: Store) -> FakeClock | None:
    """The clock of a store that `isolated` made; None: it is another store."""
    return _clocks.get(store)


def engine_of(given: object) -> Engine:
    """The engine itself, or that of an extension. Raises UsageError."""
    found = given if isinstance(given, Engine) else getattr(given, "engine", None)
    if not isinstance(found, Engine):
        raise UsageError(f"engine: must be an Engine, not of type {type(given).__name__}")
    return found


def drain_hooks(engine: Engine) -> None:
    """Wait until the engine's hooks were told all that has happened; at most 5 s."""
    if engine.hooks.wanted():
        engine.hooks.queue().drain(DRAIN_S)
