"""All settings, and their values after all sources: argument ▸ environment ▸ file ▸ default."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import msgspec

from mpdispatch.config import ENV_PREFIX, Config, QueueConfig, read_settings, setting
from mpdispatch.configfile.document import KEYS, NAMES, Section, find_section
from mpdispatch.errors import ConfigError, Fault, UsageError
from mpdispatch.handlers.file_crons import FileCrons
from mpdispatch.policy import settings
from mpdispatch.policy.names import shown
from mpdispatch.policy.sources import arguments, environment, section

_SEGMENTS = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+")


def _base_path(value: object, is_text: bool) -> str:
    path = settings.text(value, is_text).rstrip("/")
    if not _SEGMENTS.fullmatch(path) or any(part in (".", "..") for part in path.split("/")):
        raise UsageError(f"must be a path such as '/api/dispatch', not {shown(value)}")
    return path


def _supervise(value: object, is_text: bool) -> object:
    if value == "auto":
        return value
    try:
        return settings.switch(value, is_text)
    except UsageError:
        raise UsageError(f"must be true, false or 'auto', not {shown(value)}") from None


def _store(value: object, is_text: bool) -> object:
    # An app may pass a store or a path. Files and the environment can only name one.
    if callable(getattr(value, "supervisor_store", None)) or isinstance(value, os.PathLike):
        return value
    if isinstance(value, str) and value:
        return value
    raise UsageError(f"must be a path, a URL or a store such as SQLiteStore('jobs.db'), not {shown(value)}")


def _crons(value: object, is_text: bool) -> object:
    from mpdispatch.configfile.crons import (
        read_crons,
    )  # reading schedules takes long to load, and few files have any

    return read_crons(value, is_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherSettings:
    """The settings other than the fields of Config, with their defaults. Most belong to an app's extension."""

    store: Any = setting(None, _store)  # noqa: RUF009 - a field
    app: str | None = setting(None, settings.text)
    queue_configs: tuple[QueueConfig, ...] = setting((), QueueConfig.read_list)
    crons: Any = setting((), _crons)  # noqa: RUF009 - a field
    base_path: str = setting("/api/dispatch", _base_path)
    grove_database: str | None = setting(None, settings.optional(settings.text))
    grove_kv: str | None = setting(None, settings.optional(settings.text))
    disable_routes: bool = setting(False, settings.switch)
    disable_migrate: bool = setting(False, settings.switch)
    supervise: bool | Literal["auto"] = setting("auto", _supervise)
    switch_to_wal: bool = setting(True, settings.switch)


_OTHERS = tuple(each.name for each in fields(OtherSettings))
# A list of mappings cannot be written in a variable. Every other setting can.
_LISTS = ("queue_configs", "crons")
_VARIABLES = [each.name for each in fields(Config)] + [name for name in _OTHERS if name not in _LISTS]


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force, and the source of each."""

    config: Config
    others: Mapping[str, Any]
    """Every field of OtherSettings."""
    origins: Mapping[str, str]
    """`argument`, the name of a variable, file and path of a key, or `default`."""
    section: Section | None
    """The section of the file that was read, if there is one."""

    @property
    def file_config(self) -> dict[str, Any]:
        """The fields of Config that the file gives, as written there."""
        given = {} if self.section is None else self.section.values
        return {name: value for name, value in given.items() if name not in _OTHERS}

    @property
    def file_crons(self) -> FileCrons | None:
        """The cron entries of the file; None: there is no file. One without entries makes those it had orphans."""
        if self.section is None:
            return None
        return FileCrons(path=str(self.section.path.resolve()), entries=self.others["crons"])


def effective(
    explicit: Mapping[str, object],
    *,
    env: Mapping[str, str],
    config_file: str | os.PathLike[str] | None = None,
    require_file: bool = False,
) -> Effective:
    """Every setting from its strongest source: `explicit` ▸ environment ▸ file ▸ default.

    The file is `config_file` ▸ `MPDISPATCH_CONFIG` ▸ the first well-known one in the current folder that has our
    key. `require_file`: none is a fault.

    Raises ConfigError: every fault of every source, each by the name it has there.
    """
    place = config_file if config_file is not None else env.get(f"{ENV_PREFIX}CONFIG") or None
    found = find_section(None if place is None else os.fspath(place))
    if found is None and require_file:
        keys = " nor ".join(".".join(key) for key in KEYS)
        text = f"is required, but none of {', '.join(NAMES)} in {Path.cwd()} is there with the key {keys}"
        raise ConfigError([Fault("config_file", text)])
    sources = [arguments(explicit), environment(env, ENV_PREFIX, _VARIABLES)]
    if found is not None:
        sources.append(section(found.values, found.name))
    kept = read_settings(sources, Config, OtherSettings)
    kept.faults[:0] = () if found is None else found.faults
    config = Config.of(kept)
    others = {name: kept.values[name] for name in _OTHERS}
    return Effective(config=config, others=others, origins=kept.origins, section=found)
