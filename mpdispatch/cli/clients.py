"""Opens the client that a command uses: a plain client of the store, or the app's engine, which tells its hooks of new
jobs. Not in `locate`, because `supervise` keeps the engine out of its process.
"""

from __future__ import annotations

import os

from mpdispatch.cli.locate import (
    DEFAULT_STORE,
    blaming,
    find_app,
    find_store,
    is_default_store,
    load_app,
    only_store_here,
    refuse_unshared,
)
from mpdispatch.cli.program import Options
from mpdispatch.engine.client import JobClient
from mpdispatch.errors import StoreMissing, UsageError


def open_client(options: Options) -> JobClient:
    """A client for a command that makes no jobs.

    Raises StoreError: the store is missing, too old, damaged …; nothing is created or migrated.
    """
    return _checked(options, JobClient.of(find_store(options)))


def open_client_with_hooks(options: Options) -> JobClient:
    """A client for a command that makes jobs of older ones: as `open_client`, but the engine if an app is known."""
    return _checked(options, _client_with_hooks(options))


def open_client_to_fill(options: Options, *, may_create: bool) -> JobClient:
    """A client for a command that makes new jobs; the engine if an app is known.

    A named store is created and brought up to date; the default one is created only if allowed.

    Raises:
        UsageError: no store is named and the default one does not exist. No supervisor would poll a new one.
        StoreError: it cannot be opened or created.
    """
    client = _client_with_hooks(options)
    if not may_create and is_default_store(options) and not os.path.lexists(DEFAULT_STORE):
        remedy = "name the store (--store, MPDISPATCH_STORE) or your app (-A); --create makes this one"
        hint = f"did you mean --store {other}? " if (other := only_store_here()) is not None else ""
        raise UsageError(f"{client.store.display}: no store here, and nobody named one; {hint}{remedy}")
    client.store.check(create=True)
    return client


def _checked(options: Options, client: JobClient) -> JobClient:
    """The client, if its store can be used. If it is missing, the error may name another store that is here."""
    try:
        client.store.check()
    except StoreMissing as error:
        if is_default_store(options) and (other := only_store_here()) is not None:
            raise StoreMissing(error.location, f"no store here; did you mean --store {other}?") from None
        raise
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
