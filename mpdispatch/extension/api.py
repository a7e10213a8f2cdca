"""The extension's HTTP API. Importing this needs the `http` extra."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from mpdispatch.engine import Engine
from mpdispatch.extension.requests import ASGIApp
from mpdispatch.host.http_token import HttpToken
from mpdispatch.web import Access, web_app


def api_of(
    engine: Engine,
    *,
    own_token: HttpToken,
    token: str | None,
    auth: Any,
    allow_anonymous: bool,
    health: Callable[[], Mapping[str, Any]],
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]],
) -> ASGIApp:
    """The app to mount, or to serve by itself: then it starts and stops the extension."""
    access = Access(own_token=own_token, token=token, auth=auth, allow_anonymous=allow_anonymous)
    return web_app(engine, access, health=health, lifespan=lifespan)
