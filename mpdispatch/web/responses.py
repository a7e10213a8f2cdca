"""Errors as JSON, `{"error": text}`, with their status. Pure."""

from __future__ import annotations

import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from mpdispatch.errors import (
    DispatchError,
    InvalidStateError,
    JobNotFoundError,
    PayloadError,
    UnknownJobError,
    UsageError,
)

_STATUS: tuple[tuple[type[DispatchError], int], ...] = (
    (JobNotFoundError, 404),
    (InvalidStateError, 409),
    (UnknownJobError, 422),
    (PayloadError, 422),
    (UsageError, 422),
)

_log = logging.getLogger("mpdispatch.web")


def refusal(status: int, text: str) -> JSONResponse:
    """The JSON answer with an error."""
    # The text may quote a client and hold half a surrogate pair, which UTF-8 cannot express.
    return JSONResponse({"error": text.encode("utf-8", "backslashreplace").decode()}, status)


async def http_error(request: Request, error: Exception) -> JSONResponse:
    """A status that the router or a route has chosen: 404, 405, 400 …"""
    assert isinstance(error, HTTPException)
    text = error.detail
    if error.status_code == 404 and text == "Not Found":
        text = f"there is nothing at {request.url.path}"
    elif error.status_code == 405:
        text = f"{request.method} is not allowed at {request.url.path}"
    response = refusal(error.status_code, text)
    response.headers.update(error.headers or {})
    return response


async def dispatch_error(request: Request, error: Exception) -> JSONResponse:
    """An error of ours: a fault of the client, or (500) of the store."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return refusal(status, str(error))
    _log.error("a request failed: %s", error, extra={"path": request.url.path})
    return refusal(500, str(error))


async def client_left(request: Request, error: Exception) -> JSONResponse:
    """The client left in the middle of its body. Nobody reads the answer, and it is no fault of ours."""
    _log.debug("a client left before its request ended", extra={"path": request.url.path})
    return refusal(400, "the request ended before its body did")


async def internal_error(request: Request, error: Exception) -> JSONResponse:
    """Any other error. The server logs its traceback; the client gets no details."""
    return refusal(500, "internal error")
