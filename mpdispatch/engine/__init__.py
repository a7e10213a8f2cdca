"""The engine: an app's handlers and their jobs. What users of the library hold in their hands.

function ──definition──▶ JobHandle ──enqueue(…)──▶ engine (options, enqueueing, batches) ──▶ store
                                                     └── client: get, list, wait, cancel, retry … ──▶ store

- `client.JobClient` is the engine without handlers: command line and HTTP speak to it too. `operating` is what it does with
  a whole store, which `doctor` and `supervisors` look at. `settings` checks what an engine is made of, `remade` builds it
  again in a worker.
- One job: `definition` (a handler), `options` and `parents` (checked), `new_job`, `enqueueing`. Many: `batches`, `maps`.
- `waiting` for their end. `offload` makes calls to the store from async code. `in_process`: tests run the jobs where
  somebody waits for them.
- Failures: `dead_letters`, `failure_groups`; `again` retries and replays by the many.
- `explain` says why a job waits; `explain_parents` and `explain_cron` are parts of it.
- `crons`: the cron entries.

What is named here is loaded on first use: a client of a store needs no handlers, and starts in half the time.
Not here: running jobs (`dispatcher`, `supervisor`), and how arguments become JSON (`handlers`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpdispatch.engine.batches.batch import Batch
    from mpdispatch.engine.definition import JobHandle, job
    from mpdispatch.engine.engine import Engine
    from mpdispatch.engine.enqueueing import BoundJob, EngineOptions

__all__ = ["Batch", "BoundJob", "Engine", "EngineOptions", "JobHandle", "job"]

_HOMES = {
    "Batch": "batches.batch",
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
