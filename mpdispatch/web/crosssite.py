"""Whether a web page of another site may have made a browser send a request that changes something. Pure.

A page can make a browser send a form to any address, with the browser's cookies. The only header that it can set is the
type of the body, and that not to JSON, unless the server allows its site more (CORS), which we never do. It cannot hide
its Origin; only very old browsers sent none.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from mpdispatch.web.hosts import is_origin_of
from mpdispatch.web.responses import refusal

_ONCE = ("Host", "Origin", "Content-Type")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def foreign_page(request: Request) -> str | None:
    """Why a page of another site has sent this request, or may have; None: none has, or the request changes nothing."""
    if request.method in _SAFE_METHODS:
        return None
    site = request.headers.get("sec-fetch-site")
    if site is not None:  # The browser sets it, and no page can change it.
        is_ours = site in ("same-origin", "none")
        return None if is_ours else "a web page of another site sent this; such requests are not served"
    origins = request.headers.getlist("origin")
    if not origins:
        if "cookie" not in request.headers:
            return None
        return (
            "a web page of another site could have sent this, for there is a cookie and no Origin; send the Origin as"
            " well, or no cookie"
        )
    hosts = _asked_hosts(request)
    if len(origins) == 1 and any(is_origin_of(origins[0], host) for host in hosts):
        return None
    return (
        f"a web page of another site sent this: its Origin {', '.join(origins)[:80]!r} is not the Host"
        f" {' or '.join(hosts)[:80]!r}; a proxy must pass on the Host it was asked for (nginx: proxy_set_header Host"
        " $http_host)"
    )


def refuse_doubled(request: Request) -> Response | None:
    """400 if a deciding header is there twice, because a proxy before us may have used the other one."""
    for name in _ONCE:
        if (count := len(request.headers.getlist(name))) > 1:
            return refusal(400, f"the header {name} is there {count} times; send it once")
    return None


def refuse_type(request: Request) -> Response | None:
    """415 if the request changes something and is not sent as JSON; else None."""
    if request.method in _SAFE_METHODS:
        return None
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind.strip().lower() == "application/json":
        return None
    return refusal(415, f"{request.method} needs `Content-Type: application/json`, not {kind[:40]!r}")


def _asked_hosts(request: Request) -> list[str]:
    """The Host, and the one that the outermost proxy was asked for, if it says so.

    No page can add X-Forwarded-Host to what it has a browser send: if it is there, a proxy wrote it (or a client
    that is no browser, which has no need to forge anything), and what it took it from is the browser's own Host.
    """
    first_forwarded = request.headers.get("x-forwarded-host", "").partition(",")[0].strip()
    return [request.headers.get("host", ""), *([first_forwarded] if first_forwarded else [])]
