"""The supervisor: one loop on one thread that claims jobs, gives them to workers, and commits what became of them.

It watches leases, timeouts, cancels and its peers, and is the only writer of the jobs it runs. Each kind of periodic
work has a file of its own.
Not here: worker processes (`pool`), the decisions (`policy`), SQL (`store`).
"""

from mpdispatch.supervisor.shutdown import RunReport
from mpdispatch.supervisor.startup import Plan, run_foreground, supervise
from mpdispatch.supervisor.thread import SupervisorThread

__all__ = ["Plan", "RunReport", "SupervisorThread", "run_foreground", "supervise"]
