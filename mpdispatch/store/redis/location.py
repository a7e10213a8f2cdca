"""Where a Redis store is: the URL of its server and the prefix of its keys. Pure.

redis://[user:password@]host[:port][/database][?prefix=jobs]       rediss:// and valkeys:// use TLS
redis+unix:///path/of/socket[?db=0&prefix=jobs]                    valkey:// names the same server
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from mpdispatch.errors import UsageError
from mpdispatch.store.display import without_password

DEFAULT_PREFIX = "mpdispatch"
SCHEMES = {
    "redis": "redis",
    "valkey": "redis",
    "rediss": "rediss",
    "valkeys": "rediss",
    "redis+unix": "unix",
    "valkey+unix": "unix",
    "unix": "unix",
}
"""Schemes of URLs, with those by which the clients know them."""
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A store on a server. Raises UsageError on a prefix that cannot be part of a key."""

    url: str
    """Of the server, without our options; its scheme is one that clients know."""
    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        if not isinstance(self.prefix, str) or not _PREFIX.fullmatch(self.prefix):
            raise UsageError(
                f"prefix: must be 1 to 100 letters, digits, '_', '-', '.' or ':', not {repr(self.prefix)[:60]}"
            )

    @property
    def text(self) -> str:
        """The URL that opens this store again. It may hold a password.

        >>> Location.read("redis://localhost/0?prefix=jobs").text
        'redis://localhost/0?prefix=jobs'
        """
        scheme, _, rest = self.url.partition("://")
        url = f"{'redis+unix' if scheme == 'unix' else scheme}://{rest}"
        if self.prefix == DEFAULT_PREFIX:
            return url
        return f"{url}{'&' if '?' in url else '?'}{urlencode({'prefix': self.prefix}, safe=':')}"

    @property
    def display(self) -> str:
        """The same without a password."""
        return without_password(self.text)

    @classmethod
    def read(cls, url: str, prefix: str | None = None) -> Location:
        """The location that this URL names. Raises UsageError.

        >>> Location.read("valkey://cache:6380/2?prefix=shop")
        Location(url='redis://cache:6380/2', prefix='shop')
        """
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as error:
            raise UsageError(f"{without_password(url)}: {error}") from error
        scheme = SCHEMES.get(parts.scheme)
        if scheme is None or not (parts.netloc or parts.path.strip("/")):
            raise UsageError(
                f"{without_password(url)}: write redis://host:port/database or redis+unix:///path/of/socket"
            )
        if scheme != "unix" and not re.fullmatch(r"/?\d*", parts.path):
            raise UsageError(f"{without_password(url)}: the path is the number of a database, such as /0")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        named = options.pop("prefix", None)
        query = urlencode(options, safe="/:")
        return cls(
            url=f"{scheme}://{parts.netloc}{parts.path}{'?' if query else ''}{query}",
            prefix=prefix or named or DEFAULT_PREFIX,
        )

    @classmethod
    def of_client(cls, arguments: Mapping[str, Any], prefix: str | None, *, is_tls: bool) -> Location:
        """The location that a client's connections have, by their arguments.

        >>> Location.of_client({"host": "cache", "port": 6380, "db": 2, "password": "a/b"}, None, is_tls=False).url
        'redis://:a%2Fb@cache:6380/2'
        """
        login = _login(arguments)
        database, ours = arguments.get("db") or 0, prefix or DEFAULT_PREFIX
        if path := arguments.get("path"):
            return cls(url=f"unix://{login}{quote(path)}?db={database}", prefix=ours)
        host, port = arguments.get("host") or "localhost", arguments.get("port") or 6379
        host = f"[{host}]" if ":" in host else host
        return cls(url=f"{'rediss' if is_tls else 'redis'}://{login}{host}:{port}/{database}", prefix=ours)


def _login(arguments: Mapping[str, Any]) -> str:
    user, password = (quote(str(arguments.get(key) or ""), safe="") for key in ("username", "password"))
    return f"{user}:{password}@" if user or password else ""
