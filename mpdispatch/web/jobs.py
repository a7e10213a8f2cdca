"""The routes of jobs: list, show, enqueue."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mpdispatch.engine import Engine
from mpdispatch.engine.options import EnqueueKeywords, expires_from_text
from mpdispatch.errors import UsageError
from mpdispatch.model import Job, Page
from mpdispatch.model.json import job_to_json, json_from_text, shown_job_to_json, time_from_text
from mpdispatch.policy.durations import parse_duration
from mpdispatch.policy.names import shown

_FILTERS = ("state", "queue", "name", "batch", "limit", "cursor")
_ENVELOPE_BYTES = 16 * 1024
"""The size of a body beyond its payload: names, options, white space."""
_MOST_ID = (1 << 63) - 1


def job_routes(engine: Engine) -> list[Route]:
    """`GET` and `POST /v1/jobs`, `GET /v1/jobs/{id}`."""

    def list_jobs(request: Request) -> Response:
        page = _page(engine, request)
        headers = {}
        if page.next_cursor is not None:
            # The body is an array, as `mpdispatch jobs --json` prints it. Headers tell where the list goes on.
            more = urlencode({**request.query_params, "cursor": page.next_cursor})
            headers = {"Link": f'<{request.url.path}?{more}>; rel="next"', "X-Next-Cursor": page.next_cursor}
        now = datetime.now(UTC)
        return JSONResponse([job_to_json(job, now) for job in page.items], headers=headers)

    def show(request: Request) -> Response:
        job_id = _job_id(request)
        # The job is read first: if it has ended, its attempts are complete.
        job, attempts = engine.get_job(job_id), engine.attempts(job_id)
        parents, dependents = engine.parents(job_id), engine.dependents(job_id)
        return JSONResponse(shown_job_to_json(job, attempts, parents, dependents.total, datetime.now(UTC)))

    async def enqueue(request: Request) -> Response:
        most_bytes = engine.dispatcher.config.max_payload_bytes + _ENVELOPE_BYTES
        wished = _Wish(await _read_object(request, most_bytes))
        job: Job = await run_in_threadpool(wished.enqueue, engine)
        here = {"Location": f"{request.url.path.rstrip('/')}/{job.id}"}
        return JSONResponse(job_to_json(job, datetime.now(UTC)), 201 if job.created else 200, here)

    return [
        Route("/v1/jobs", list_jobs, methods=["GET"]),
        Route("/v1/jobs", enqueue, methods=["POST"]),
        Route("/v1/jobs/{id}", show, methods=["GET"]),
    ]


class _Wish:
    """The job that a client asks for. Raises UsageError, which names all faults."""

    def __init__(self, body: dict[str, Any]) -> None:
        rest = dict(body)
        faults = []
        self.name, self.payload = rest.pop("name", None), rest.pop("payload", {})
        if not isinstance(self.name, str):
            faults.append("name: must be the name of a job")
        if not isinstance(self.payload, dict):
            faults.append(f"payload: must be an object of the job's arguments, not {shown(self.payload)}")
        self.options: dict[str, Any] = {}
        for field, value in rest.items():
            if field not in _OPTIONS:
                faults.append(f"{field}: no such field; there are name, payload, {', '.join(_OPTIONS)}")
                continue
            try:
                has_reader = value is not None and field in _READERS
                self.options[field] = _READERS[field](value) if has_reader else value
            except UsageError as error:
                faults.append(f"{field}: {error}")
        if faults:
            raise UsageError("; ".join(faults))

    def enqueue(self, engine: Engine) -> Job:
        engine.registry.get(self.name)  # An unknown name is reported before faulty options.
        return engine.options(**cast(EnqueueKeywords, self.options)).enqueue(self.name, **self.payload)


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise UsageError(f"must be a time such as '2026-05-01T08:00:00Z', not {shown(value)}")
    return time_from_text(value)


_OPTIONS = tuple(name for name in EnqueueKeywords.__annotations__ if name != "connection")
_READERS: dict[str, Callable[[object], object]] = {
    "run_at": _time,
    "delay": parse_duration,
    "timeout": parse_duration,
    "expires": expires_from_text,
}
"""How the JSON of these options is read. `engine.options` checks the values."""


def _page(engine: Engine, request: Request) -> Page[Job]:
    """The requested page of jobs. Raises UsageError, which names every wrong parameter."""
    given, faults = _query_of(request, _FILTERS)
    wished: dict[str, Any] = {**given}
    for number in [each for each in ("batch", "limit") if each in given]:
        try:
            wished[number] = _whole(number, given[number])
        except UsageError as error:
            faults.append(str(error))
            del wished[number]
    if not faults:
        try:
            return engine.list_jobs(**wished)
        except UsageError as error:
            faults = [str(error)]
    # The list reports only its first fault, so each parameter is tried alone.
    for name, value in wished.items():
        try:
            engine.list_jobs(**{"limit": 1, name: value})
        except UsageError as error:
            if str(error) not in faults:
                faults.append(str(error))
    raise UsageError("; ".join(faults))


def _job_id(request: Request) -> int:
    text = request.path_params["id"]
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= _MOST_ID):
        raise HTTPException(404, f"job {text[:40]} not found")
    return int(text)


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise UsageError(f"{name}: must be a whole number, not {shown(text)}")
    return int(text)


async def _read_object(request: Request, most_bytes: int) -> dict[str, Any]:
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


def _query_of(request: Request, known: Collection[str]) -> tuple[dict[str, str], list[str]]:
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
