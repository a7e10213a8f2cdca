"""Stores of other packages: the entry points of the group `mpdispatch.stores`. Effects: imports the one asked for.

The name of an entry point says what it opens: the scheme of a URL (`duckdb`), an SQLAlchemy dialect or the
top-level package of a resource's type. Its object is called with the URL or the resource and returns a Store.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from mpdispatch.errors import UsageError
from mpdispatch.store.contract import Store

GROUP = "mpdispatch.stores"


def third_party_store(names: Iterable[str], thing: Any) -> Store | None:
    """The store that the first entry point with one of these names opens for `thing`; None if there is none.

    Raises:
        UsageError: the entry point returned something that is not a store.
    """
    from importlib.metadata import entry_points  # takes 40 ms; only an unknown kind of store needs it

    found = {point.name: point for point in entry_points(group=GROUP)}
    for name in names:
        if name in found:
            store = found[name].load()(thing)
            if not callable(getattr(store, "supervisor_store", None)):
                raise UsageError(f"{found[name].value} (entry point {name!r} of {GROUP}) gave no store")
            return cast(Store, store)
    return None
