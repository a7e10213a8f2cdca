"""Options for opening a file as a store, and their URL, so that other processes open it in the same way. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from mpdispatch import sqlite3
from mpdispatch.errors import UsageError
from mpdispatch.fstext import is_utf8, percent_encoded
from mpdispatch.store.values import Durability

_DEFAULT_COPY = next(iter(sqlite3.COPIES))
_SWITCHES = {"0": False, "1": True, "false": False, "true": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """See `SQLiteStore`. Raises UsageError."""

    durability: Durability | None = None
    """None: not given, so full."""
    shared: bool = False
    switch_to_wal: bool = True
    copy: str = _DEFAULT_COPY
    """The copy of SQLite that opens the file in this process: a key of `sqlite3.COPIES`."""

    def __post_init__(self) -> None:
        if self.durability not in (None, "full", "process"):
            raise UsageError(f"durability must be 'full' or 'process', not {self.durability!r}")
        if self.copy not in sqlite3.COPIES:
            there = ", ".join(sqlite3.COPIES)
            raise UsageError(f"copy must be an installed copy of SQLite ({there}), not {self.copy!r}")

    def location(self, absolute: str) -> str:
        """The path; a `sqlite:///` URL if an option differs from its default or the path is not UTF-8.

        The text is passed to workers, logs and people.

        >>> FileOptions(shared=True).location("/srv/app.db"), FileOptions().location("/srv/\\udcff.db")
        ('sqlite:////srv/app.db?shared=1', 'sqlite:////srv/%FF.db')
        """
        options: dict[str, str] = {}
        if self.durability not in (None, "full"):
            options["durability"] = str(self.durability)
        if self.shared:
            options["shared"] = "1"
        if not self.switch_to_wal:
            options["switch_to_wal"] = "0"
        if self.copy != _DEFAULT_COPY:
            options["copy"] = self.copy
        if not options and is_utf8(absolute):
            return absolute
        url = f"sqlite:///{percent_encoded(absolute)}"
        return f"{url}?{urlencode(options)}" if options else url

    @classmethod
    def read(cls, url: str, *, defaults: FileOptions | None = None) -> tuple[str, FileOptions]:
        """The path (or `:memory:`) and the options of a `sqlite:///` URL; `defaults` supplies options not in it.

        Raises:
            UsageError: the URL is malformed or has an unknown option.
        """
        parts = urlsplit(url)
        if parts.netloc or parts.fragment:
            raise UsageError(f"{url}: write sqlite:///relative.db or sqlite:////absolute.db")
        path = unquote(parts.path.removeprefix("/"), errors="surrogateescape") or ":memory:"
        defaults = defaults or cls()
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        options = cls(
            durability=cast("Durability | None", given.pop("durability", defaults.durability)),
            shared=_switch(url, given, "shared", defaults.shared),
            switch_to_wal=_switch(url, given, "switch_to_wal", defaults.switch_to_wal),
            copy=given.pop("copy", defaults.copy),
        )
        if given:
            raise UsageError(
                f"{url}: unknown option {min(given)!r}; there are durability, shared, switch_to_wal and copy"
            )
        return path, options


def _switch(url: str, given: dict[str, str], name: str, default: bool) -> bool:
    text = given.pop(name, None)
    if text is None:
        return default
    if text.lower() not in _SWITCHES:
        raise UsageError(f"{url}: {name} must be 0 or 1, not {text!r}")
    return _SWITCHES[text.lower()]
