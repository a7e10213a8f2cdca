"""The client library: redis-py, or valkey-py which has the same face. Imported when a store is first used."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

from mpdispatch.errors import DispatchError, StoreError, StoreFull, StoreIOError, StorePermission, UsageError

MISSING = "a Redis store needs the client library: pip install 'mpdispatch[redis]'"
CONNECT_S, ANSWER_S = 5.0, 10.0
"""A server that does not answer for so long counts as lost. Its own calls take some milliseconds."""


@cache
def module() -> ModuleType:
    """The library. Raises UsageError: there is none."""
    try:
        import redis
    except ImportError:
        try:
            import valkey
        except ImportError:
            raise UsageError(MISSING) from None
        found: ModuleType = valkey
    else:
        found = redis
    return found


def connect(url: str, arguments: dict[str, Any] | None = None) -> Any:
    """A client of this server that never asks twice by itself and gives bytes. Does no I/O.

    `arguments`: those of the connections of an app's own client, with certificates and the like.
    """
    library = module()
    retry = library.retry.Retry(library.backoff.NoBackoff(), 0)
    ours = {
        "decode_responses": False,
        "protocol": 2,
        "socket_connect_timeout": CONNECT_S,
        "socket_timeout": ANSWER_S,
        "socket_keepalive": True,
        "retry": retry,
    }
    if url.startswith("unix:"):
        del ours["socket_keepalive"]
    pool = library.ConnectionPool.from_url(url, **ours)
    for name, value in (arguments or {}).items():
        pool.connection_kwargs.setdefault(name, value)
    for name in ("Redis", "Valkey"):
        if (kind := getattr(library, name, None)) is not None:
            return kind(connection_pool=pool)
    raise UsageError(MISSING)


def is_lost(error: Exception) -> bool:
    """Whether the server may answer another time: it cannot be reached, is starting, or changes its role."""
    errors = module().exceptions
    if isinstance(error, errors.AuthenticationError | errors.AuthorizationError):
        return False
    if isinstance(error, errors.ConnectionError | errors.TimeoutError | errors.AskError):
        return True
    return str(error).startswith(("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY "))


def is_elsewhere(error: Exception) -> bool:
    """Whether another node of a cluster has the keys: its `host` and `port` say which."""
    return isinstance(error, module().exceptions.MovedError)


def is_unknown_command(error: BaseException) -> bool:
    """Whether the server does not have the command, or does not let this user have it."""
    is_refused = isinstance(error, module().exceptions.NoPermissionError)
    return is_refused or "unknown command" in str(error).lower()


def translated(error: Exception, display: str) -> DispatchError:
    """What an answer of the server means that refuses a call."""
    errors, text = module().exceptions, str(error)
    if isinstance(error, errors.OutOfMemoryError) or text.startswith("OOM"):
        return StoreFull(display, f"the server has reached its maxmemory; nothing was stored ({text})")
    if text.startswith(("MISCONF", "NOREPLICAS")):
        return StoreIOError(display, text)
    refused = (errors.AuthenticationError, errors.AuthorizationError, errors.NoPermissionError)
    is_refused = isinstance(error, refused)
    if is_refused or text.startswith(("NOAUTH", "WRONGPASS", "NOPERM", "invalid username-password")):
        return StorePermission(display, text)
    return StoreError(display, text)
