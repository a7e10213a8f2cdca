"""The supervisor: one loop on one thread that claims jobs, assigns them to workers, and commits the outcomes.

It watches leases, timeouts, cancels and its peers, and is the only writer of the jobs it runs.

- Start and end: `startup`, `thread` (beside other code), `runtime`, `room`, `signals`, `shutdown`,
  `stopping`, `ending`.
- Core: `loop` runs duties (`duty`); `wiring` makes all parts by a `plan` and lists the duties; `in_flight`
  holds jobs and outcomes.
- New jobs: `crons` fires the slots of cron entries.
- Claim and assign: `claimer`, `rated`, `assign`, `recall`, `staffing`, `boot_backoff`, `slow_import`.
- Outcomes: `pool_events`, `decider`, `deadlines`, `outputs`, `committer`, `contention`, `claim_sync`.
- Reports: `outcome_reporter`, `event_publisher`, `start_reports`, `sum_ups`.
- Lease and peers: `registration`, `heartbeat`, `lease_renewal`, `fencing`, `reconcile`, `cancels`, `peers`,
  `rescue`, `dead_peer`.
- Store and host: `wake_ups`, `change_watch`, `store_thread`, `store_backoff`, `upkeep`, `prune`,
  `journal_room`, `orphans`.

Not here: worker processes (`pool`), the decisions (`policy`), SQL (`store`).
"""

from mpdispatch.supervisor.plan import Plan
from mpdispatch.supervisor.shutdown import RunReport
from mpdispatch.supervisor.startup import run_foreground, supervise
from mpdispatch.supervisor.thread import SupervisorThread

__all__ = ["Plan", "RunReport", "SupervisorThread", "run_foreground", "supervise"]
