"""Who is served. Without a token or a rule of the application only this very machine, and no web page on it.

A proxy on this machine is a loopback peer too, so a forwarding header refuses; a page of another site in a local
browser sends its request to a loopback address under a Host of its own (DNS rebinding) or says where it is from.
"""

from __future__ import annotations

import hmac
import inspect
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mpdispatch.web.answers import refusal

__all__ = ["Access", "AccessMiddleware", "AuthRule", "stranger"]

AuthRule: TypeAlias = Callable[[Request], bool | Awaitable[bool]]
"""Gets the request; whether it is served. May be async; else it is called on a thread."""

_REMEDY = (
    "give the extension token=..., auth=a function of the request, or allow_anonymous=True to serve everybody"
)
_FORWARDED = frozenset(
    {
        "forwarded",
        "via",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "true-client-ip",
        "cf-connecting-ip",
    }
)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The rule: a bearer token, the application's own judgement, everybody, or (none of these) this machine."""

    token: str | None = None
    auth: AuthRule | None = None
    allow_anonymous: bool = False

    async def refuse(self, request: Request) -> Response | None:
        """The answer to one who is not served; None if he is."""
        if self.token is not None and _has_token(request, self.token):
            return None
        if request.method not in _SAFE_METHODS and _is_cross_site(request, strict=self._is_local_only):
            return refusal(403, "a web page of another site sent this; such requests are not served")
        if self.auth is not None:
            if await _judged(self.auth, request):
                return None
            if self.token is None:
                return refusal(403, "the application's auth= does not allow this request")
        if self.token is not None:
            answer = refusal(401, "a token is needed: `Authorization: Bearer TOKEN`")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        if self.allow_anonymous or self.auth is not None or (why := stranger(request.scope)) is None:
            return None
        return refusal(403, f"only this machine is served, and {why}; {_REMEDY}")

    @property
    def _is_local_only(self) -> bool:
        return self.auth is None and not self.allow_anonymous


class AccessMiddleware:
    """Asks the rule before each request."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            answer = await self._access.refuse(Request(scope, receive))
            if answer is not None:
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _judged(auth: AuthRule, request: Request) -> bool:
    if inspect.iscoroutinefunction(auth) or inspect.iscoroutinefunction(getattr(auth, "__call__", None)):  # noqa: B004
        verdict = auth(request)
    else:
        verdict = await run_in_threadpool(auth, request)
    return bool(await verdict if inspect.isawaitable(verdict) else verdict)


def _has_token(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    is_same = hmac.compare_digest(given.strip().encode("utf-8", "surrogatepass"), token.encode())
    return scheme.lower() == "bearer" and is_same


def _is_cross_site(request: Request, *, strict: bool) -> bool:
    """Whether a browser says that a page of another site sent it.

    `strict` also compares Origin with Host, for browsers that do not say so outright: behind a proxy that rewrites
    the Host these differ on the same site.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    return (
        strict
        and origin is not None
        and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()
    )


def stranger(scope: Scope) -> str | None:
    """Why a request does not surely come from this machine and mean it; None if it does.

    >>> stranger({"client": ("127.0.0.1", 1), "headers": [(b"host", b"localhost:8000")]})
    >>> stranger({"client": ("127.0.0.1", 1), "headers": [(b"host", b"evil.example")]})
    "its Host 'evil.example' is no loopback name"
    """
    peer = scope.get("client")
    if peer is None or not _is_loopback(str(peer[0])):
        return f"the peer {peer[0] if peer else '(unknown)'} is another"
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    hosts = []
    for raw, value in headers:
        name = raw.decode("latin-1").lower()
        if name in _FORWARDED or name.startswith("x-forwarded-"):
            return f"a proxy has forwarded this ({name})"
        if name == "host":
            hosts.append(value.decode("latin-1"))
    if len(hosts) != 1 or not _is_loopback(_name_of(hosts[0])):
        return f"its Host {', '.join(map(repr, hosts)) or '(missing)'} is no loopback name"
    return None


def _name_of(host: str) -> str:
    """The host without its port and an IPv6 address without its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _is_loopback(name: str) -> bool:
    name = name.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
