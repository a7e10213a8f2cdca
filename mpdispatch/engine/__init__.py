"""The engine: an app's handlers and their jobs. What users of the library hold in their hands.

function ──definition──▶ JobHandle ──enqueue(…)──▶ engine (options, enqueueing, bulk, batch_block) ──▶ store
                                                     └── client: get, list, wait, cancel, retry … ──▶ store

`client.JobClient` is the engine without handlers: command line and HTTP speak to it too. `waits` is its waiting, by
`waiting` and `loop_watch`. `batch.Batch` are jobs that belong together; `batch_block` makes such of what is enqueued inside
`with engine.batch(…)`. `maps` is `engine.map`: `map_places` enqueues, `map_results` gives. `crons` are the cron entries of
a store, and `declared` those of an app's code.
What is named here is loaded on first use: a client of a store needs no handlers, and starts in half the time.
Not here: running jobs (`dispatcher`, `supervisor`), and how arguments become JSON (`handlers`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpdispatch.engine.batch import Batch
    from mpdispatch.engine.definition import JobHandle, job
    from mpdispatch.engine.engine import Engine
    from mpdispatch.engine.enqueueing import BoundJob, EngineOptions

__all__ = ["Batch", "BoundJob", "Engine", "EngineOptions", "JobHandle", "job"]

_HOMES = {
    "Batch": "batch",
    **dict.fromkeys(("JobHandle", "job"), "definition"),
    "Engine": "engine",
    **dict.fromkeys(("BoundJob", "EngineOptions"), "enqueueing"),
}

if not TYPE_CHECKING:  # or a type checker would believe that this module has any name

    def __getattr__(name: str) -> Any:
        """Load a public name (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
