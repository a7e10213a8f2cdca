"""The supervisor: claims, gives out, watches, recovers. One loop, one thread; effects."""

from mpdispatch.supervisor.loop import Ending
from mpdispatch.supervisor.serve import Plan, SupervisorThread, run_foreground, supervise

__all__ = ["Ending", "Plan", "SupervisorThread", "run_foreground", "supervise"]
