"""What runs around every handler: `Engine.build(..., middleware=[middleware.Logging(), my_function])`.

The public name of `mpdispatch.execution.middleware`.
"""

from mpdispatch.execution.context import JobContext
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
