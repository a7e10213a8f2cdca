"""The object that commands speak to: a client of the store, or the engine itself where its hooks have to hear of new jobs.

Apart from `locate`, because `supervise` needs no engine in its process.
"""

from __future__ import annotations

from mpdispatch.cli.locate import (
    blaming,
    find_app,
    find_store,
    load_app,
    open_existing,
    ready_to_fill,
    ready_to_use,
    refuse_unshared,
)
from mpdispatch.cli.program import Options
from mpdispatch.engine.client import JobClient

__all__ = ["open_client", "open_client_to_fill", "open_client_with_hooks"]


def open_client(options: Options) -> JobClient:
    """For a command that makes no jobs: a client of the store, which is there and up to date. Raises StoreError."""
    return JobClient.of(open_existing(options))


def open_client_with_hooks(options: Options) -> JobClient:
    """For a command that makes jobs of older ones: as `open_client`, and an app that is known hears of them."""
    client = _client_with_hooks(options)
    ready_to_use(options, client.store)
    return client


def open_client_to_fill(options: Options, *, may_create: bool) -> JobClient:
    """For a command that makes jobs: of the store as `find_store_to_fill` finds it; an app that is known hears of them."""
    client = _client_with_hooks(options)
    ready_to_fill(options, client.store, may_create=may_create)
    return client


def _client_with_hooks(options: Options) -> JobClient:
    """The engine of the app, on the store that commands without it would use; without an app, a client no hook hears."""
    found = find_app(options)
    if found is None:
        return JobClient.of(find_store(options))
    engine = load_app(found)
    if options.app is not None and options.store is None:
        with blaming(found):
            refuse_unshared(engine.store)
        return engine
    store = find_store(options)
    if store.location != engine.store.location:
        engine.use_store(store.location)
    return engine
