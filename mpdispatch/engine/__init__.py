"""The engine: an app's handlers and their jobs. What users of the library hold in their hands.

function ──definition──▶ JobHandle ──enqueue(…)──▶ engine (options, enqueueing, batch) ──▶ store
                                                     └── client: get, list, wait, cancel, retry … ──▶ store

`client.JobClient` is the engine without handlers: command line and HTTP speak to it too.
Not here: running jobs (`dispatcher`, `supervisor`), and how arguments become JSON (`handlers`).
"""

from mpdispatch.engine.batch import Batch
from mpdispatch.engine.definition import JobHandle, job
from mpdispatch.engine.engine import Engine
from mpdispatch.engine.enqueueing import BoundJob, EngineOptions

__all__ = ["Batch", "BoundJob", "Engine", "EngineOptions", "JobHandle", "job"]
