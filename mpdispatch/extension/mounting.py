"""Mounts the extension in an app: routes, lifecycle, and the engine of each request. Imports no framework: the app has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from mpdispatch.engine import Engine
from mpdispatch.errors import UsageError
from mpdispatch.execution.process_context import current_engine, serving
from mpdispatch.store.callers import names_of

Scope: TypeAlias = MutableMapping[str, Any]
ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts to be mounted."""

    engine: Engine
    base_path: str
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]]
    api: ASGIApp | None
    """None: no routes."""


def mount(app: Any, parts: Parts) -> None:
    """Give the app these parts. Raises UsageError: it is an app of no framework known here."""
    kinds = names_of(type(app))
    if "starlette.Starlette" in kinds:  # FastAPI is one
        _in_starlette(app, parts)
    elif "litestar.Litestar" in kinds:
        _in_litestar(app, parts)
    else:
        raise UsageError(
            f"install() knows apps of Starlette, FastAPI and Litestar, not {type(app).__name__}; mount"
            " ext.asgi_app yourself and run ext.lifespan, or ext.start() and ext.stop(), with the app"
        )
    app.state.dispatch = parts.engine


def _in_starlette(app: Any, parts: Parts) -> None:
    from starlette.routing import Mount

    if app.middleware_stack is not None:
        raise UsageError("install() comes before the app has started")
    app.add_middleware(EngineScope, engine=parts.engine)
    if parts.api is not None:
        # First, because a catch-all route of the app, such as its static files, would hide routes after it.
        app.router.routes.insert(0, Mount(parts.base_path, app=parts.api, name="mpdispatch"))
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(served: Any) -> AsyncIterator[Any]:
        # Around the app's own lifespan, which may use the engine at its start and its end.
        async with parts.lifespan(served), inner(served) as state:
            yield state

    app.router.lifespan_context = lifespan


def _in_litestar(app: Any, parts: Parts) -> None:
    from litestar import asgi

    if parts.api is not None:
        api = parts.api

        @asgi(parts.base_path, is_mount=True, copy_scope=True)
        async def dispatch(scope: Any, receive: Any, send: Any) -> None:
            # Litestar passes the rest of the path with a slash at its end.
            root = scope.get("root_path", "") + parts.base_path
            path = root + (scope["path"].rstrip("/") or "/")
            await api({**scope, "path": path, "root_path": root}, receive, send)

        app.register(dispatch)
    app.asgi_handler = EngineScope(app.asgi_handler, parts.engine)
    running = []

    async def start(served: Any) -> None:
        context = parts.lifespan(served)
        await context.__aenter__()
        running.append(context)

    async def stop(served: Any) -> None:
        if running:
            await running.pop().__aexit__(None, None, None)

    # Started before and stopped after the app's own hooks, which may use the engine.
    app.on_startup.insert(0, start)
    app.on_shutdown.append(stop)


class EngineScope:
    """ASGI middleware: while a request is served, `current_engine()` is this engine."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self.app, self._engine = app, engine

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        with serving(self._engine):
            await self.app(scope, receive, send)


# async: FastAPI calls it on the loop; a plain function would cost a thread of its pool for a look at a variable.
async def get_engine() -> Engine:
    """The engine of the app whose request is served: `engine: Engine = Depends(get_engine)`.

    Raises DispatchError: the app has no DispatchExtension installed.
    """
    return cast(Engine, current_engine())
