"""The supervisor: claims, gives out, watches, recovers. One loop, one thread; effects."""

from mpdispatch.supervisor.serve import Plan, run_foreground, supervise
from mpdispatch.supervisor.shutdown import Ending
from mpdispatch.supervisor.thread import SupervisorThread

__all__ = ["Ending", "Plan", "SupervisorThread", "run_foreground", "supervise"]
