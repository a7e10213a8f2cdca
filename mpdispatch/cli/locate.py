"""Finds the store, the app and the configuration file.

    store  --store ▸ the app's own (with -A) ▸ MPDISPATCH_STORE ▸ file ▸ mpdispatch.db
    app    argument or -A ▸ MPDISPATCH_APP ▸ file
    file   --config ▸ MPDISPATCH_CONFIG ▸ the first well-known name here that has our key

A bad value on the command line is a usage error (2), anywhere else a configuration error (78).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from mpdispatch.cli.program import Options
from mpdispatch.config import ENV_PREFIX, Config
from mpdispatch.configfile import Effective, effective
from mpdispatch.errors import AppReferenceError, ConfigError, Fault, UsageError
from mpdispatch.host.wake import bring_wake_ups
from mpdispatch.policy.sources import DEFAULT_ORIGIN
from mpdispatch.store import open_store
from mpdispatch.store.contract import Store

if TYPE_CHECKING:  # only an app brings an engine; a client needs none
    from mpdispatch.engine import Engine
    from mpdispatch.execution.app_reference import AppReference

DEFAULT_STORE = "mpdispatch.db"
_VARIABLES = [f"{ENV_PREFIX}{name}" for name in ("CONFIG", "STORE", "APP", "DURABILITY")]
_DEFAULT_SOURCE = "the default store"


class Sourced(NamedTuple):
    """A value and its source: an option of the command line, or the name of a variable or key."""

    value: str
    source: str
    is_from_command_line: bool


@contextmanager
def blaming(found: Sourced) -> Iterator[None]:
    """Inside it, an error becomes one about the source of this value."""
    try:
        yield
    except (UsageError, ConfigError) as error:
        if found.is_from_command_line:
            raise UsageError(f"{found.source}: {error}") from error
        raise ConfigError([Fault(found.source, str(error))]) from error


def find_settings(options: Options) -> Effective:
    """The settings of environment and file, all of the file checked. Raises ConfigError.

    Of the environment only those that concern every command: no other may fail for a fault in the rest.
    """
    env = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    return effective({}, env=env, config_file=options.config or None)


def find_config(options: Options, overrides: Mapping[str, object] = {}) -> Config:
    """The configuration of `overrides`, environment and file. Raises ConfigError, which names all faults of all."""
    settings = find_settings(options)
    key = "file" if settings.section is None else settings.section.name
    return Config.resolve(overrides, env=os.environ, file=settings.file_config, file_key=key)


def find_store(options: Options) -> Store:
    """The store, not yet opened. Imports the app only for `-A` without `--store`."""
    if options.store is None and (engine := app_on_command_line(options)) is not None:
        with blaming(Sourced(str(options.app), "-A", True)):
            return refuse_unshared(engine.store)
    return open_found(_where_is_store(options), options)


def open_found(found: Sourced, options: Options) -> Store:
    """The store at this location, not yet opened, with the durability of the settings."""
    with blaming(found):
        store = refuse_unshared(open_store(found.value))
    bring_wake_ups(store)
    settings = find_settings(options)
    if settings.origins["durability"] != DEFAULT_ORIGIN:
        store.prefer_durability(settings.config.durability)
    return store


def refuse_unshared(store: Store) -> Store:
    """The store, unless only this process can see its jobs. Raises UsageError."""
    if not store.is_shared:
        raise UsageError(
            f"{store.display} is in the memory of one process, and gone when a command ends; name a file, such as"
            f" {DEFAULT_STORE}"
        )
    return store


def is_default_store(options: Options) -> bool:
    """Whether no store is named."""
    return options.app is None and _where_is_store(options).source == _DEFAULT_SOURCE


def only_store_here() -> str | None:
    """The only store in this folder, if there is exactly one. A store has a folder for its locks beside it."""
    found = [path.name for path in Path().glob("*.db") if Path(f"{path}-mpd").is_dir()]
    return found[0] if len(found) == 1 else None


def find_app(options: Options, argument: str | None = None) -> Sourced | None:
    """The app that runs the jobs, `module:attribute` of an engine; None: none is named."""
    if argument is not None and options.app not in (None, argument):
        raise UsageError(f"two apps are given: {argument} and -A {options.app}")
    if argument or options.app:
        return Sourced(argument or str(options.app), "APP" if argument else "-A", True)
    return _elsewhere(options, "app")


def reference_of(found: Sourced) -> AppReference:
    """The reference to the app. The current folder is importable in it."""
    from mpdispatch.execution.app_reference import reference_to  # only for an app

    with blaming(found):
        try:
            return reference_to(found.value)
        except AppReferenceError as error:
            # Nothing is imported yet, so the text itself is wrong.
            raise UsageError(str(error)) from error


def load_app(found: Sourced) -> Engine:
    """Import the app here, in this process, and give its engine.

    Raises AppImportError, AppReferenceError: it does not import, or is none.
    """
    from mpdispatch.execution.loading import load  # only for an app

    return cast("Engine", load(reference_of(found)))


def app_on_command_line(options: Options) -> Engine | None:
    """The engine that -A names, imported."""
    return None if options.app is None else load_app(Sourced(options.app, "-A", True))


def _where_is_store(options: Options) -> Sourced:
    if options.store is not None:
        return Sourced(options.store, "--store", True)
    return _elsewhere(options, "store") or Sourced(DEFAULT_STORE, _DEFAULT_SOURCE, False)


def _elsewhere(options: Options, name: str) -> Sourced | None:
    """The store or the app that the environment names, else the file."""
    settings = find_settings(options)
    value = settings.others[name]
    return None if value is None else Sourced(value, settings.origins[name], False)
