"""Middleware runs around every handler: `Engine.build(..., middleware=[middleware.Logging(), my_function])`.

Built in are `Logging` (starts and ends), `Recover` (SystemExit and the like as failures), `Timeout` (for jobs that have
none), `Scope` (a resource per job), `Tracing` and `Metrics` (OpenTelemetry). Your own is any callable that takes
`(job, call_next)` and returns `call_next(job)`.

This module is the public name of `mpdispatch.execution.middleware`.
"""

from mpdispatch.execution.job_context import JobContext
from mpdispatch.execution.middleware import (
    CallNext,
    Logging,
    Metrics,
    Middleware,
    Recover,
    Scope,
    Timeout,
    Tracing,
)

__all__ = [
    "CallNext",
    "JobContext",
    "Logging",
    "Metrics",
    "Middleware",
    "Recover",
    "Scope",
    "Timeout",
    "Tracing",
]
