"""The engine: handlers, and what people do to jobs.

function ──definition──▶ JobHandle ──enqueue(…)──▶ engine ──(options, enqueueing, batch)──▶ store
                                                     └── desk: get, list, wait, cancel, retry … ──▶ store
"""

from mpdispatch.engine.batch import Batch
from mpdispatch.engine.definition import JobHandle, job
from mpdispatch.engine.engine import Engine
from mpdispatch.engine.enqueueing import BoundJob, EngineOptions

__all__ = ["Batch", "BoundJob", "Engine", "EngineOptions", "JobHandle", "job"]
