"""mpdispatch in a Starlette, FastAPI or Litestar app, or by itself.

settings ─▶ store (explicit ▸ grove database ▸ grove KV ▸ memory) ─▶ engine ─▶ install(app): routes and lifecycle
                                                                            └▶ start() … stop(): migrate, supervise

Importing this loads no framework; a worker, which imports the app as well, never needs one of ours.
Not here: the routes (`web`). Which of several processes supervises is decided here (`election`).
"""

from mpdispatch.execution.process_context import current_engine
from mpdispatch.extension.extension import DispatchExtension
from mpdispatch.extension.mounting import get_engine

__all__ = ["DispatchExtension", "current_engine", "get_engine"]
