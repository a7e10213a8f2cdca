"""Makes all parts of a supervisor, and the only lists of its duties. Only opens the store."""

from __future__ import annotations

from mpdispatch.clock import SECOND_US
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.supervisor.assign import Assigner
from mpdispatch.supervisor.boot_backoff import BootBackoff
from mpdispatch.supervisor.cancels import Cancels
from mpdispatch.supervisor.change_watch import ChangeWatch
from mpdispatch.supervisor.claim_sync import ClaimSync
from mpdispatch.supervisor.claimer import Claimer
from mpdispatch.supervisor.committer import Committer
from mpdispatch.supervisor.contention import Contention
from mpdispatch.supervisor.cron_syncer import CronSyncer
from mpdispatch.supervisor.crons import Crons
from mpdispatch.supervisor.deadlines import Deadlines
from mpdispatch.supervisor.decider import Decider
from mpdispatch.supervisor.duty import Duty
from mpdispatch.supervisor.ending import Ending
from mpdispatch.supervisor.event_publisher import EventPublisher
from mpdispatch.supervisor.fencing import Fencing
from mpdispatch.supervisor.heartbeat import Heartbeat
from mpdispatch.supervisor.in_flight import InFlight
from mpdispatch.supervisor.journal_room import JournalRoom
from mpdispatch.supervisor.lease_renewal import LeaseRenewal
from mpdispatch.supervisor.orphans import Orphans
from mpdispatch.supervisor.outcome_reporter import OutcomeReporter
from mpdispatch.supervisor.peers import Peers
from mpdispatch.supervisor.plan import Plan
from mpdispatch.supervisor.pool_events import PoolEvents
from mpdispatch.supervisor.prune import Pruner
from mpdispatch.supervisor.rated import RatedQueues
from mpdispatch.supervisor.recall import Recall
from mpdispatch.supervisor.reconcile import Reconciler
from mpdispatch.supervisor.registration import Registration
from mpdispatch.supervisor.rescue import Rescuer
from mpdispatch.supervisor.runtime import Runtime
from mpdispatch.supervisor.shutdown import Shutdown
from mpdispatch.supervisor.slow_import import SlowImports
from mpdispatch.supervisor.staffing import Staffing
from mpdispatch.supervisor.start_reports import StartReports
from mpdispatch.supervisor.stopping import Stopping
from mpdispatch.supervisor.store_backoff import StoreBackoff
from mpdispatch.supervisor.store_thread import StoreThread, ThreadedStore
from mpdispatch.supervisor.sum_ups import SumUps
from mpdispatch.supervisor.upkeep import Upkeep
from mpdispatch.supervisor.wake_ups import WakeUps


class Wiring:
    """All parts of a supervisor; as attributes, those that the loop uses."""

    def __init__(
        self,
        runtime: Runtime,
        plan: Plan,
        *,
        app: str = "",
        drain: bool = False,
        publisher: EventPublisher | None = None,
    ) -> None:
        """`publisher` sends events to extensions. Raises StoreError."""
        config, catalog = plan.config, plan.catalog
        clock, pool, log, repeats = runtime.clock, runtime.pool, runtime.log, runtime.repeats
        self.runtime, self.poll_us = runtime, round(config.poll_interval * SECOND_US)
        supervisor_store = plan.store.supervisor_store()
        self.store_thread = StoreThread(runtime.selector, always=supervisor_store.is_remote)
        self.store = store = ThreadedStore(supervisor_store, self.store_thread)
        self.store_backoff = StoreBackoff(store, log, repeats)
        self.in_flight = in_flight = InFlight(rated=RatedQueues.of(plan.queue_configs))
        self.shutdown = shutdown = Shutdown(config)

        # The registration and its lease.
        self.heartbeat = heartbeat = Heartbeat(runtime, store, config, app)
        self.registration = registration = Registration(runtime, plan, heartbeat)

        # From a claim to a worker.
        self.boot_backoff = boot_backoff = BootBackoff()
        self.assigner = assigner = Assigner(pool, in_flight, config, catalog, boot_backoff)
        self.staffing = Staffing(runtime, in_flight, config.slots, assigner, boot_backoff)
        self.claimer = claimer = Claimer(runtime, plan, in_flight, assigner, app)
        folder = runtime_folder(plan.store)
        rescuer = Rescuer(store, folder, clock, catalog, in_flight, log, publisher, repeats)
        self.peers = peers = Peers(runtime, rescuer, heartbeat, claimer, self.poll_us)
        self.fencing = Fencing(runtime, heartbeat, registration, peers, in_flight, publisher)

        # From an outcome to the disk.
        self.decider = decider = Decider(clock, catalog, in_flight, assigner.estimates)
        self.contention = contention = Contention()
        reporter = OutcomeReporter(in_flight, log, repeats, publisher)
        claim_sync = ClaimSync(store, clock)
        self.committer = committer = Committer(
            runtime, store, heartbeat, in_flight, assigner, claimer, claim_sync, contention, reporter, shutdown
        )

        # What ends jobs, workers and the run.
        deadlines = Deadlines(pool, config, repeats)
        recall = Recall(pool, in_flight, config, assigner, decider)
        reconciler = Reconciler(store, pool, in_flight, claimer, decider, deadlines, repeats)
        upkeep = Upkeep(runtime, store, config, claimer, peers)
        cancels = Cancels(store, heartbeat, reconciler, upkeep)
        orphans = Orphans(runtime, kills=config.child_policy == "kill")
        self.ending = ending = Ending(
            runtime, store, in_flight, claimer, registration, upkeep, shutdown, drain, plan.is_traced
        )
        self.stopping = Stopping(runtime, shutdown, in_flight, recall, decider, deadlines, ending)

        syncer = CronSyncer(runtime, store, plan.crons, app=app)
        self.crons = crons = Crons(
            *(runtime, store, syncer, in_flight, claimer, peers, shutdown, publisher), poll_us=self.poll_us
        )

        # Events from outside the loop.
        self.wake_ups = WakeUps(
            registration, clock, claimer, committer, contention, assigner, cancels, peers, crons
        )
        self.pool_events = PoolEvents(
            runtime, config, in_flight, boot_backoff, decider, shutdown, cancels, orphans, publisher
        )

        self.store_duties: list[Duty] = [
            LeaseRenewal(store, heartbeat, registration, reconciler, recall, cancels, orphans),
            self.wake_ups,
            ChangeWatch(store, clock, in_flight, claimer, peers, cancels, shutdown, drain),
            peers,
            cancels,
            crons,  # before the commit, which claims what they fire
            committer,
            upkeep,
            claim_sync,
            Pruner(store, config, log),
            ending,
        ]
        """Run in this order. They need the store, so they wait while it is busy or full."""
        self.other_duties: list[Duty] = [
            self.stopping,
            deadlines,
            recall,
            SlowImports(pool, log, timeout_s=config.boot_timeout),
            JournalRoom(pool, log),
            orphans,
            SumUps(repeats),
        ]
        """They run on time whatever the state of the store."""
        if publisher is not None and publisher.wants_starts:
            self.other_duties.append(StartReports(publisher, pool))
