"""The supervisor: claims, gives out, watches, recovers. One loop, one thread; effects."""

from mpdispatch.supervisor.serve import Plan, SupervisorThread, run_foreground, supervise
from mpdispatch.supervisor.shutdown import Ending

__all__ = ["Ending", "Plan", "SupervisorThread", "run_foreground", "supervise"]
