"""The engine of a request: a context variable around each, and a dependency that reads it. Imports no framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias, cast

from mpdispatch.engine import Engine
from mpdispatch.execution.process_context import current_engine, serving

Scope: TypeAlias = MutableMapping[str, Any]
ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


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
