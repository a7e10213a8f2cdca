"""What a Redis server is set to, as far as it concerns a store: durability, eviction, version."""

from __future__ import annotations

from typing import Any, NamedTuple

from mpdispatch.errors import DispatchError
from mpdispatch.model import Finding, Level
from mpdispatch.store.redis.link import Link


class Settings(NamedTuple):
    """Of a server; None: it does not say (a managed one may refuse CONFIG)."""

    appendonly: str | None
    appendfsync: str | None
    policy: str | None

    @property
    def is_durable(self) -> bool | None:
        """Whether what it has acknowledged survives a power cut; None: unknown."""
        if self.appendonly is None or self.appendfsync is None:
            return None
        return self.appendonly == "yes" and self.appendfsync == "always"

    @property
    def may_evict(self) -> bool:
        return self.policy is not None and self.policy != "noeviction"

    @property
    def durability(self) -> str:
        """In words, for people."""
        if self.appendonly is None:
            return "the durability of the server is unknown: it refuses CONFIG GET"
        if self.appendonly != "yes":
            return "appendonly is off: the end of the server loses jobs since its last snapshot"
        if self.appendfsync == "always":
            return "appendonly yes, appendfsync always: acknowledged jobs survive a power cut"
        return f"appendonly yes, appendfsync {self.appendfsync}: a power cut may lose the last moments"


def settings_of(link: Link) -> Settings:
    values = [_setting(link, name) for name in ("appendonly", "appendfsync", "maxmemory-policy")]
    return Settings(*values)


def _setting(link: Link, name: str) -> str | None:
    try:
        found: Any = link.server.command("CONFIG", "GET", name, patience_s=1)
    except DispatchError:
        return None
    pairs = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=False))
    value = pairs.get(name.encode(), pairs.get(name))
    return value.decode() if isinstance(value, bytes) else value


def warnings_of(link: Link) -> list[str]:
    """What somebody should know who keeps jobs on this server, a sentence each."""
    settings, found = settings_of(link), list[str]()
    if settings.is_durable is False:
        found.append(f"{link.display}: {settings.durability}; set appendonly yes and appendfsync always")
    if settings.may_evict:
        found.append(
            f"{link.display}: maxmemory-policy is {settings.policy}: a full server may drop jobs; set noeviction"
        )
    return found


def of_server(link: Link) -> list[Finding]:
    settings = settings_of(link)
    durability = Finding(
        check="durability",
        level={True: Level.OK, False: Level.WARNING, None: Level.NOTE}[settings.is_durable],
        message=settings.durability,
        remedy="set appendonly yes and appendfsync always" if settings.is_durable is False else None,
    )
    eviction = Finding(check="eviction", level=Level.OK, message="the server drops no keys")
    if settings.policy is None:
        eviction = Finding(
            check="eviction", level=Level.NOTE, message="the server does not say whether it drops keys"
        )
    elif settings.may_evict:
        eviction = Finding(
            check="eviction",
            level=Level.WARNING,
            message=f"maxmemory-policy is {settings.policy}: a full server may drop jobs",
            remedy="set maxmemory-policy noeviction",
        )
    version = Finding(check="server", level=Level.OK, message=_version(link))
    return [version, durability, eviction]


def _version(link: Link) -> str:
    found = link.server.command("INFO", "server")
    if isinstance(found, bytes):
        found = dict(line.split(":", 1) for line in found.decode().splitlines() if ":" in line)
    for key, name in (("valkey_version", "Valkey"), ("redis_version", "Redis")):
        if key in found:
            return f"{name} {found[key]}"
    return "a server of unknown version"
