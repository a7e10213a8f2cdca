"""The routes about the whole store: health and counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mpdispatch.engine import Engine
from mpdispatch.web.responses import answer


def whole_routes(engine: Engine, health: Callable[[], Mapping[str, Any]]) -> list[Route]:
    """`GET /healthz` (503 if the status is not ok) and `GET /v1/stats`."""

    def healthz(request: Request) -> Response:
        found = dict(health())
        return answer(found, 200 if found["status"] == "ok" else 503)

    def stats(request: Request) -> Response:
        return answer(engine.stats())

    return [Route("/healthz", healthz, methods=["GET"]), Route("/v1/stats", stats, methods=["GET"])]
