"""Which store an extension uses: explicit ▸ grove database ▸ grove KV ▸ memory, with a warning."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

from mpdispatch.configfile import Effective
from mpdispatch.errors import ConfigError, Fault, UsageError
from mpdispatch.extension.detect import Kind
from mpdispatch.extension.resources import Resources
from mpdispatch.policy.sources import DEFAULT_ORIGIN
from mpdispatch.store import SQLiteStore, open_store
from mpdispatch.store.contract import Store
from mpdispatch.store.sqlite.options import FileOptions

_GROVES = (("grove_database", Kind.DATABASE), ("grove_kv", Kind.KV))


def resolve_store(settings: Effective, resources: Resources, warn: Callable[[str], object]) -> Store:
    """The store that these settings name.

    A `store` that a weaker source names than the one that asks for a grove (a file's, for the command line, beside
    `grove_database=` in the app) counts only if that finds nothing.

    Raises ConfigError: a named resource is missing, or there is no store for what was found.
    """
    store, origin = settings.others["store"], settings.origins["store"]
    asked = [setting for setting, _ in _GROVES if settings.others[setting] is not None]
    is_first = all(_strength(origin) <= _strength(settings.origins[setting]) for setting in asked)
    if store is not None and is_first:
        return _explicit(store, origin, settings)
    missed: list[str] = []
    for setting, kind in _GROVES:
        name = settings.others[setting]
        if name is None:
            continue
        found = _grove(setting, kind, name, settings, resources, missed)
        if found is not None:
            return found
    if store is not None:
        return _explicit(store, origin, settings)
    lost = "jobs are kept in the memory of this process and end with it: no store is configured"
    remedy = "give store=..., grove_database=..., or `store:` in the configuration file"
    warn("; ".join([lost, *missed, remedy]))
    return SQLiteStore(":memory:")


def _strength(origin: str) -> int:
    """0 for the strongest source."""
    if origin == DEFAULT_ORIGIN:
        return 3
    return 0 if origin == "argument" else 1 if origin.startswith("MPDISPATCH_") else 2


def _explicit(store: Any, origin: str, settings: Effective) -> Store:
    if not isinstance(store, str | os.PathLike):
        return cast(Store, store)
    text = os.fspath(store)
    try:
        return open_store(text)
    except UsageError as error:
        raise ConfigError([Fault("store" if origin == "argument" else origin, str(error))]) from error


def _grove(
    setting: str, kind: Kind, name: str, settings: Effective, resources: Resources, missed: list[str]
) -> Store | None:
    origin = settings.origins[setting]
    where = setting if origin == "argument" else origin
    found = resources.find(kind, name)
    if found is None:
        text = f"no {kind.value} {name!r} in resources; {resources.list(kind)}"
        if name:
            raise ConfigError([Fault(where, text)])
        missed.append(f"{where}: no default {kind.value} in resources; {resources.list(kind)}")
        return None
    options = FileOptions(shared=True, switch_to_wal=settings.others["switch_to_wal"])
    try:
        return found.open(options)
    except UsageError as error:
        raise ConfigError([Fault(where, f"{found.what}: {error}")]) from error
