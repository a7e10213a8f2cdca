"""Reads requests: bodies of bounded size, and query parameters, each checked by name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from mpdispatch.errors import UsageError
from mpdispatch.model.json import json_from_text

ENVELOPE_BYTES = 16 * 1024
"""The size of a body beyond its payload: names, options, white space."""


async def read_object(request: Request, most_bytes: int) -> dict[str, Any]:
    """The JSON object in the body.

    Raises HTTPException: 413, it has more than `most_bytes` (the rest is not read); 400, it is no JSON object.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > most_bytes:
        raise _too_large(most_bytes)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            raise _too_large(most_bytes)
    try:
        found = json_from_text(bytes(body))
    except UsageError as error:
        raise HTTPException(400, f"the body: {error}") from None
    if not isinstance(found, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return found


def _too_large(most_bytes: int) -> HTTPException:
    return HTTPException(
        413, f"the body has more than {most_bytes:,} bytes (max_payload_bytes and an envelope)"
    )


def query_of(request: Request, known: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """The query parameters that are not empty, and a fault for each one that is unknown or given twice."""
    found: dict[str, str] = {}
    faults: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            faults[name] = f"{name}: no such parameter; there are {', '.join(known)}"
        elif name in found:
            faults[name] = f"{name}: is there twice"
        found[name] = value
    return {name: value for name, value in found.items() if value and name not in faults}, [*faults.values()]
