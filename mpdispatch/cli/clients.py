"""Opens the client that a command uses: a plain client of the store, or the app's engine, which tells its hooks of new
jobs. Not in `locate`, because `supervise` keeps the engine out of its process.
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


def open_client(options: Options) -> JobClient:
    """A client for a command that makes no jobs. Its store exists and is up to date. Raises StoreError."""
    return JobClient.of(open_existing(options))


def open_client_with_hooks(options: Options) -> JobClient:
    """A client for a command that makes jobs of older ones: as `open_client`, but the engine if an app is known."""
    client = _client_with_hooks(options)
    ready_to_use(options, client.store)
    return client


def open_client_to_fill(options: Options, *, may_create: bool) -> JobClient:
    """A client for a command that makes new jobs: its store may be created, and it is the engine if an app is known."""
    client = _client_with_hooks(options)
    ready_to_fill(options, client.store, may_create=may_create)
    return client


def _client_with_hooks(options: Options) -> JobClient:
    """The app's engine, moved to the store that other commands use; or a plain client, if no app is known."""
    found = find_app(options)
    if found is None:
        return JobClient.of(find_store(options))
    if options.app is not None and options.store is None:
        engine = load_app(found)
        with blaming(found):
            refuse_unshared(engine.store)
        return engine
    store = find_store(options)  # before the app is imported, which may change the folder
    engine = load_app(found)
    if store.location != engine.store.location:
        engine.use_store(store.location)
    return engine
