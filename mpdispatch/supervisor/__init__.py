"""The supervisor: claims, gives out, watches, recovers. One loop, one thread; effects."""

from mpdispatch.supervisor.shutdown import RunReport
from mpdispatch.supervisor.startup import Plan, run_foreground, supervise
from mpdispatch.supervisor.thread import SupervisorThread

__all__ = ["Plan", "RunReport", "SupervisorThread", "run_foreground", "supervise"]
