"""What a store must do for supervisors: `SupervisorStore`, whose calls never wait. Clients have `contract.Store`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mpdispatch.model import ClaimedJob, ClaimRequest, NewSupervisor, PeerSupervisor, Transition
from mpdispatch.store.crons import CronDecisions
from mpdispatch.store.optional import FileCare, StoreUpkeep
from mpdispatch.store.values import NO_REPORTS, CommitResult, OtherOwners, Outstanding, Renewal, Reports


class SupervisorStore(Protocol):
    """The store as a supervisor sees it. One thread at a time; raises StoreBusy within 50 ms instead of waiting."""

    @property
    def is_remote(self) -> bool:
        """Whether its calls wait for a network. They may last longer then, and a supervisor makes them on a thread."""
        ...

    @property
    def file_care(self) -> FileCare:
        """Maintenance of a store in a file; `NoFileCare` for any other store."""
        ...

    @property
    def upkeep(self) -> StoreUpkeep:
        """What the store does for its rows in small steps; `NoUpkeep` if it needs none."""
        ...

    @property
    def crons(self) -> CronDecisions:
        """The cron entries, and what is decided about them."""
        ...

    def register(self, who: NewSupervisor, ttl_us: int) -> int:
        """Register a supervisor with a lease of `ttl_us`. Returns the owner id for all later calls."""
        ...

    def unregister(self, owner: int) -> None:
        """Remove the registration. Only after every job was finished or released."""
        ...

    def renew(self, owner: int, ttl_us: int) -> Renewal:
        """Heartbeat: extend the lease on all its jobs to `ttl_us` from now.

        Raises LeaseLostError if the registration is gone.
        """
        ...

    def cancel_requests(self, owner: int) -> list[tuple[int, int]]:
        """(job id, starts) of this owner's running jobs with a cancel request. A read."""

    def commit(
        self,
        owner: int,
        transitions: Sequence[Transition],
        reports: Reports = NO_REPORTS,
        *,
        claim: ClaimRequest | None = None,
        skip_idle_check: bool = False,
    ) -> CommitResult:
        """One transaction: record these outcomes and reports, stage what is due, claim as `policy.admission` plans.

        Due jobs that have expired are cancelled instead (`ended`). Takes no write lock if nothing is to be recorded and
        nothing is due; `skip_idle_check` skips that check (for use right after an enqueue). A commit that records nothing
        is not synced to disk (`is_synced`): the caller decides when to sync. `claim=None` claims nothing. Raises
        LeaseLostError, with nothing written, if the registration is gone.
        """
        ...

    def peers(self, owner: int) -> OtherOwners:
        """The other supervisors, and owners of running jobs that are not registered; never `owner` itself.

        A read, cheap enough to be called once a second. Only an owner that is not a number is replaced by one first,
        so that `jobs_of` and `take_over` accept it.
        """
        ...

    def jobs_of(self, owner: int) -> list[ClaimedJob]:
        """The running jobs of a supervisor, without the unreadable ones. A read."""

    def take_over(self, dead: PeerSupervisor | int, transitions: Sequence[Transition]) -> bool:
        """Record these outcomes of a dead supervisor's jobs and delete its registration, in one transaction.

        A number as `dead` is an unregistered owner. Returns False, with nothing written, if the owner has renewed its
        lease (or registered), if another supervisor took it over, or if it owns a running job without a transition.
        """
        ...

    def outstanding(self, queues: Sequence[str]) -> Outstanding:
        """Jobs of these queues that a drain waits for; once there are none, also those it leaves. A read."""
        ...

    def close(self) -> None: ...
