"""Mounts the extension in an app: routes, lifecycle, and the engine of each request. The app has imported its framework."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mpdispatch.engine import Engine
from mpdispatch.errors import UsageError
from mpdispatch.extension.requests import ASGIApp, EngineScope


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
    kinds = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(app).__mro__}
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
