"""The ASGI app: access rule, routes, errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mpdispatch.engine import Engine
from mpdispatch.errors import DispatchError
from mpdispatch.web.access import Access, AccessMiddleware
from mpdispatch.web.jobs import job_routes
from mpdispatch.web.responses import client_left, dispatch_error, http_error, internal_error


def web_app(
    engine: Engine,
    access: Access,
    *,
    health: Callable[[], Mapping[str, Any]],
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]] | None = None,
) -> Starlette:
    """The API of this engine's jobs, behind the access rule. Its paths are relative to where it is mounted.

    `health` gives what `/healthz` shows; it is called on a thread and may block. `lifespan` counts only where the
    app is served alone: a mounted app's is not run.
    """
    app = Starlette(
        routes=[*_whole_routes(engine, health), *job_routes(engine)],
        middleware=[Middleware(AccessMiddleware, access=access)],
        exception_handlers={
            HTTPException: http_error,
            DispatchError: dispatch_error,
            ClientDisconnect: client_left,
            Exception: internal_error,
        },
        lifespan=lifespan,
    )
    app.state.dispatch = engine
    return app


def _whole_routes(engine: Engine, health: Callable[[], Mapping[str, Any]]) -> list[Route]:
    """`GET /healthz` (503 if the status is not ok) and `GET /v1/stats`."""

    def healthz(request: Request) -> Response:
        found = dict(health())
        return JSONResponse(found, 200 if found["status"] == "ok" else 503)

    def stats(request: Request) -> Response:
        return JSONResponse(engine.stats())

    return [Route("/healthz", healthz, methods=["GET"]), Route("/v1/stats", stats, methods=["GET"])]
