"""Where a PostgreSQL store is, and how to use it, as one URL. Pure: no driver is needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from zlib import crc32

from mpdispatch.errors import UsageError
from mpdispatch.store.display import without_password
from mpdispatch.store.values import Durability

SCHEMES = ("postgresql", "postgres")
_LOCKS = 0x4D504453
"""First half of the key of all our advisory locks: "MPDS"."""
_MOST_SCHEMA_BYTES, _MOST_CONNECTIONS = 63, 1000
_SWITCHES = {"0": False, "1": True, "false": False, "true": True}
_NAMES = ("schema", "durability", "pool_size", "proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """See `PostgresStore`. Raises UsageError."""

    schema: str = "public"
    durability: Durability | None = None
    """None: not given, so full."""
    pool_size: int = 10
    """Most connections of all client threads of one process together; more threads wait for one."""
    proxy: bool | None = None
    """Whether a proxy that pools transactions stands between; None: each connection finds out by itself."""

    def __post_init__(self) -> None:
        if self.durability not in (None, "full", "process"):
            raise UsageError(f"durability must be 'full' or 'process', not {self.durability!r}")
        if type(self.pool_size) is not int or not 1 <= self.pool_size <= _MOST_CONNECTIONS:
            raise UsageError(f"pool_size must be 1 to {_MOST_CONNECTIONS}, not {self.pool_size!r}")
        if self.proxy not in (None, False, True):
            raise UsageError(f"proxy must be None, False or True, not {self.proxy!r}")
        _check_schema(self.schema)

    @property
    def quoted_schema(self) -> str:
        """The schema's name, as statements have it.

        >>> ServerOptions(schema='jobs"2').quoted_schema
        '"jobs""2"'
        """
        return '"' + self.schema.replace('"', '""') + '"'

    @property
    def lock_key(self) -> tuple[int, int]:
        """The two halves of the advisory lock that each writing transaction of this schema takes."""
        return _LOCKS, _signed(crc32(self.schema.encode()))

    def channel(self, kind: str) -> str:
        """The name of a channel of NOTIFY for this schema; it needs no quotes.

        >>> ServerOptions().channel("work")
        'mpdispatch_work_3bb42e1d'
        """
        return f"mpdispatch_{kind}_{crc32(self.schema.encode()):08x}"

    def _given(self) -> dict[str, str]:
        """The options that differ from their defaults, as in a URL."""
        found: dict[str, str] = {}
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if value != each.default:
                found[each.name] = str(int(value) if isinstance(value, bool) else value)
        if found.get("durability") == "full":
            del found["durability"]
        return found


@dataclass(frozen=True, slots=True)
class Place:
    """A schema of a database on a server."""

    dsn: str
    """For the driver: a libpq URL. It may hold a password."""
    options: ServerOptions = dataclasses.field(default_factory=ServerOptions)

    @property
    def location(self) -> str:
        """The URL that opens this store again; it may hold a password.

        >>> Place("postgresql://ann:pw@db/jobs", ServerOptions(schema="jobs")).location
        'postgresql://ann:pw@db/jobs?schema=jobs'
        """
        given = self.options._given()
        if not given:
            return self.dsn
        joint = "&" if "?" in self.dsn else "?"
        return f"{self.dsn}{joint}{urlencode(given)}"

    @property
    def display(self) -> str:
        """The location without any password."""
        return without_password(self.location)

    @classmethod
    def read(cls, url: str, *, defaults: ServerOptions | None = None) -> Place:
        """The place that a `postgresql://` URL names; `defaults` supplies options not in it.

        `postgres://` and SQLAlchemy's `postgresql+psycopg://` do as well. What is no option of ours is libpq's.

        >>> Place.read("postgresql+psycopg://ann@db/app?sslmode=require&schema=jobs").location
        'postgresql://ann@db/app?sslmode=require&schema=jobs'

        Raises:
            UsageError: the URL is malformed, or one of our options is.
        """
        shown = without_password(url)
        scheme, colon, rest = url.partition("://")
        if not colon or scheme.lower().partition("+")[0] not in SCHEMES:
            raise UsageError(f"{shown}: write postgresql://USER@HOST/DATABASE")
        try:
            parts = urlsplit(f"postgresql://{rest}")
        except ValueError:
            # Not `from error`: its text may repeat the password.
            raise UsageError(f"{shown}: is no URL; write postgresql://USER@HOST/DATABASE") from None
        if parts.fragment or "\0" in url:
            raise UsageError(f"{shown}: a URL of a store has no # and no NUL; write them as %23")
        ours, others = _split(parts.query)
        # Not by `urlunsplit`, which drops the slashes of a URL without a host.
        dsn = f"postgresql://{parts.netloc}{parts.path}" + (f"?{others}" if others else "")
        return cls(dsn, _options(shown, ours, defaults or ServerOptions()))

    @classmethod
    def of_parameters(cls, parameters: Mapping[str, Any], options: ServerOptions | None = None) -> Place:
        """The place that libpq's parameters name (`host`, `dbname`, `password` …).

        >>> Place.of_parameters({"host": "/run/pg", "user": "ann", "dbname": "jobs"}).dsn
        'postgresql://ann@/jobs?host=/run/pg'
        """
        left = {name: str(value) for name, value in parameters.items() if value is not None}
        user, password = left.pop("user", ""), left.pop("password", "")
        who = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
        database = quote(left.pop("dbname", ""), safe="")
        query = urlencode(left, quote_via=quote, safe="/,")
        dsn = f"postgresql://{who}{'@' if who else ''}/{database}" + (f"?{query}" if query else "")
        return cls(dsn, options or ServerOptions())


def _split(query: str) -> tuple[dict[str, str], str]:
    """Our options, and the other parameters as they were written, since libpq reads a + as itself."""
    ours = {name: value for name, value in parse_qsl(query, keep_blank_values=True) if name in _NAMES}
    others = [each for each in query.split("&") if each and each.partition("=")[0] not in _NAMES]
    return ours, "&".join(others)


def _options(shown: str, given: dict[str, str], defaults: ServerOptions) -> ServerOptions:
    found: dict[str, Any] = {}
    if "schema" in given:
        found["schema"] = given["schema"]
    if "durability" in given:
        found["durability"] = cast(Durability, given["durability"])
    if "pool_size" in given:
        text = given["pool_size"]
        if not text.isascii() or not text.isdecimal():
            raise UsageError(f"{shown}: pool_size must be 1 to {_MOST_CONNECTIONS}, not {text!r}")
        found["pool_size"] = int(text[:9])
    if "proxy" in given:
        text = given["proxy"].lower()
        if text not in _SWITCHES:
            raise UsageError(f"{shown}: proxy must be 0 or 1, not {text!r}")
        found["proxy"] = _SWITCHES[text]
    try:
        return dataclasses.replace(defaults, **found)
    except UsageError as error:
        raise UsageError(f"{shown}: {error}") from None


def _check_schema(name: object) -> None:
    if not isinstance(name, str) or not name or "\0" in name:
        raise UsageError(f"schema must be the name of a schema of PostgreSQL, not {name!r}")
    if len(name.encode(errors="replace")) > _MOST_SCHEMA_BYTES:
        raise UsageError(f"schema: a name has at most {_MOST_SCHEMA_BYTES} bytes; {name[:20]!r}… has more")
    if name.startswith("pg_"):
        raise UsageError(f"schema: names that begin with pg_ are PostgreSQL's own, such as {name!r}")


def _signed(value: int) -> int:
    """As PostgreSQL's integer with the same 32 bits."""
    return value - (1 << 32) if value >= 1 << 31 else value
