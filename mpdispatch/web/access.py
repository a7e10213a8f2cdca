"""Decides which requests are served. By default those from this machine that carry the store's own token.

A loopback peer proves little. It may be a proxy on this machine, and not every proxy sends a forwarding header; or a local
browser that shows a page of another site. So the token is required. A request that certainly comes from elsewhere is
refused even with the token: it has a forwarding header, or a Host that is no loopback name (DNS rebinding).
"""

from __future__ import annotations

import hmac
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mpdispatch.errors import DispatchError
from mpdispatch.host.http_token import HttpToken
from mpdispatch.web.crosssite import foreign_page, refuse_doubled, refuse_type
from mpdispatch.web.hosts import is_loopback_address, is_loopback_name
from mpdispatch.web.responses import client_left, refusal

AuthRule: TypeAlias = Callable[[Request], bool | Awaitable[bool]]
"""Gets the request; whether it is served. May be async; else it is called on a thread."""

_REMEDY = (
    "give the extension token=..., auth=a function of the request, or allow_anonymous=True to serve everybody"
)
_NEEDED = "a token is needed: `Authorization: Bearer TOKEN`"
_OWN_REMEDY = f"`mpdispatch token --store STORE` prints the store's own; or {_REMEDY}"
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

_log = logging.getLogger("mpdispatch.web")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The rule: a bearer token, a function of the application, everybody, or (if none of these is set) the store's token.

    A request with the token is served from any page, because a page of another site cannot send the token.
    """

    own_token: HttpToken
    token: str | None = None
    auth: AuthRule | None = None
    allow_anonymous: bool = False

    @property
    def asks_own_token(self) -> bool:
        """Whether the store's own token is required."""
        return self.token is None and self.auth is None and not self.allow_anonymous

    async def refuse(self, request: Request) -> Response | None:
        """The answer to a request that is refused; None: it is served."""
        if self.asks_own_token:
            return await self._refuse_but_own(request)
        if self.token is not None and _is_same(_bearer(request), self.token):
            return None
        if (why := foreign_page(request)) is not None:
            return refusal(403, why)
        if self.auth is not None:
            if await _judged(self.auth, request):
                return refuse_type(request)
            if self.token is None:
                return refusal(403, "the application's auth= does not allow this request")
        return refuse_type(request) if self.token is None else _unauthorized(_NEEDED)

    async def _refuse_but_own(self, request: Request) -> Response | None:
        if (why := stranger(request.scope)) is not None:
            return refusal(403, f"only this machine is served, and {why}; {_REMEDY}")
        bearer = _bearer(request)
        if bearer is not None:
            if _is_same(bearer, self.own_token.remembered) and self.own_token.is_current():
                return None
            try:
                # Another process may have made a new token, which is then the valid one.
                if _is_same(bearer, await run_in_threadpool(self.own_token.read_again)):
                    return None
            except DispatchError as error:
                _log.error("the HTTP API serves nobody", extra={"error": str(error)})
                return refusal(503, "the store's own token cannot be read; the server's log says why")
        if (why := foreign_page(request)) is not None:
            return refusal(403, why)
        return _unauthorized(f"{_NEEDED}; {_OWN_REMEDY}")


class AccessMiddleware:
    """Applies the rule to each request."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            try:
                answer = refuse_doubled(request) or await self._access.refuse(request)
            except ClientDisconnect as error:  # auth= read the body
                answer = await client_left(request, error)
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


def _bearer(request: Request) -> str | None:
    """The token of `Authorization: Bearer …`."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else None


def _is_same(given: str | None, token: str | None) -> bool:
    """Whether they are equal. The time it takes does not depend on the token."""
    if given is None or token is None:
        return False
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode())


def _unauthorized(text: str) -> Response:
    answer = refusal(401, text)
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def stranger(scope: Scope) -> str | None:
    """Why a request does not surely come from this machine and mean it; None if it does.

    >>> stranger({"client": ("127.0.0.1", 1), "headers": [(b"host", b"localhost:8000")]})
    >>> stranger({"client": ("127.0.0.1", 1), "headers": [(b"host", b"evil.example")]})
    "its Host 'evil.example' is no loopback name"
    """
    peer = scope.get("client")
    if peer is None or not is_loopback_address(str(peer[0])):
        return f"the peer {peer[0] if peer else '(unknown)'} is another"
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    hosts = []
    for raw, value in headers:
        name = raw.decode("latin-1").lower()
        if name in _FORWARDED or name.startswith("x-forwarded-"):
            return f"a proxy has forwarded this ({name})"
        if name == "host":
            hosts.append(value.decode("latin-1"))
    if len(hosts) != 1 or not is_loopback_name(hosts[0]):
        return f"its Host {', '.join(map(repr, hosts)) or '(missing)'} is no loopback name"
    return None
