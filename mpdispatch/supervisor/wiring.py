"""Makes all parts of a supervisor, and the only list of its duties. Only opens the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpdispatch.clock import SECOND_US
from mpdispatch.config import Config, QueueConfig
from mpdispatch.execution.catalog import Catalog
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.store.contract import Store, SupervisorStore
from mpdispatch.supervisor.assign import Assigner
from mpdispatch.supervisor.boot_backoff import BootBackoff
from mpdispatch.supervisor.cancels import Cancels
from mpdispatch.supervisor.change_watch import ChangeWatch
from mpdispatch.supervisor.claim_sync import ClaimSync
from mpdispatch.supervisor.claimer import Claimer
from mpdispatch.supervisor.committer import Committer
from mpdispatch.supervisor.contention import Contention
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """The parts that the loop uses."""

    runtime: Runtime
    store: SupervisorStore
    store_thread: StoreThread
    poll_us: int
    in_flight: InFlight
    heartbeat: Heartbeat
    registration: Registration
    fencing: Fencing
    store_backoff: StoreBackoff
    boot_backoff: BootBackoff
    shutdown: Shutdown
    assigner: Assigner
    staffing: Staffing
    decider: Decider
    claimer: Claimer
    committer: Committer
    contention: Contention
    peers: Peers
    wake_ups: WakeUps
    pool_events: PoolEvents
    stopping: Stopping
    ending: Ending
    duties: Sequence[Duty]


def wire(
    runtime: Runtime,
    client_store: Store,
    *,
    config: Config,
    catalog: Catalog,
    queue_configs: tuple[QueueConfig, ...] = (),
    app: str = "",
    version: str = "",
    store_for_workers: str | None = None,
    drain: bool = False,
    publisher: EventPublisher | None = None,
    default_timeout_s: float | None = None,
    is_traced: bool = False,
) -> Wiring:
    """Make all parts of a supervisor of this store. Raises StoreError.

    `store_for_workers`: the store that handlers enqueue into, if it is not the app's own. `publisher`: sends
    events to extensions. `is_traced`: workers hold spans back, so they may exit by themselves before they are
    killed.
    """
    clock, pool, log, repeats = runtime.clock, runtime.pool, runtime.log, runtime.repeats
    poll_us = round(config.poll_interval * SECOND_US)
    store_thread = StoreThread(runtime.selector)
    store = ThreadedStore(client_store.supervisor_store(), store_thread)
    in_flight = InFlight(rated=RatedQueues.of(queue_configs))
    shutdown = Shutdown(config)

    # The registration and its lease.
    heartbeat = Heartbeat(store, clock, config, app=app, version=version, log=log, repeats=repeats)
    registration = Registration(runtime, client_store, heartbeat, config, store_for_workers)

    # From a claim to a worker.
    boot_backoff = BootBackoff()
    assigner = Assigner(pool, in_flight, config, catalog, boot_backoff)
    staffing = Staffing(pool, in_flight, config, assigner, boot_backoff, repeats)
    claimer = Claimer(
        clock,
        config,
        in_flight=in_flight,
        assigner=assigner,
        catalog=catalog,
        queue_configs=queue_configs,
        app=app,
        repeats=repeats,
        default_timeout_us=None if default_timeout_s is None else round(default_timeout_s * SECOND_US),
    )
    rescuer = Rescuer(store, runtime_folder(client_store), clock, catalog, in_flight, log, publisher, repeats)
    peers = Peers(rescuer, runtime.selector, clock, heartbeat, claimer, poll_us=poll_us)
    fencing = Fencing(runtime, heartbeat, registration, peers, in_flight, publisher)

    # From an outcome to the disk.
    decider = Decider(clock, catalog, in_flight, assigner.estimates)
    contention = Contention()
    claim_sync = ClaimSync(store, clock)
    committer = Committer(
        store,
        clock,
        heartbeat,
        in_flight=in_flight,
        assigner=assigner,
        claimer=claimer,
        claim_sync=claim_sync,
        contention=contention,
        pool=pool,
        reporter=OutcomeReporter(in_flight, log, repeats, publisher),
        shutdown=shutdown,
    )

    # What ends jobs, workers and the run.
    deadlines = Deadlines(pool, config, repeats)
    recall = Recall(pool, in_flight, config, assigner, decider)
    reconciler = Reconciler(store, clock, pool, in_flight, claimer, decider, deadlines, repeats)
    upkeep = Upkeep(store, clock, config, log, claimer=claimer, peers=peers)
    cancels = Cancels(store, heartbeat, reconciler, upkeep)
    orphans = Orphans(runtime, kills=config.child_policy == "kill")
    ending = Ending(
        runtime,
        store,
        in_flight=in_flight,
        claimer=claimer,
        registration=registration,
        upkeep=upkeep,
        shutdown=shutdown,
        is_drain=drain,
        is_traced=is_traced,
    )
    stopping = Stopping(
        runtime,
        shutdown,
        in_flight=in_flight,
        recall=recall,
        decider=decider,
        deadlines=deadlines,
        ending=ending,
    )
    lease_renewal = LeaseRenewal(
        store,
        heartbeat,
        registration=registration,
        reconciler=reconciler,
        recall=recall,
        cancels=cancels,
        orphans=orphans,
    )

    # Events from outside the loop.
    wake_ups = WakeUps(
        registration,
        clock,
        claimer=claimer,
        committer=committer,
        contention=contention,
        assigner=assigner,
        cancels=cancels,
        peers=peers,
    )
    pool_events = PoolEvents(
        runtime,
        config,
        in_flight=in_flight,
        boot_backoff=boot_backoff,
        decider=decider,
        shutdown=shutdown,
        cancels=cancels,
        orphans=orphans,
        publisher=publisher,
    )
    change_watch = ChangeWatch(
        store,
        clock,
        in_flight=in_flight,
        claimer=claimer,
        peers=peers,
        cancels=cancels,
        shutdown=shutdown,
        is_drain=drain,
    )
    duties: list[Duty] = [
        # With the store, in this order.
        lease_renewal,
        wake_ups,
        change_watch,
        peers,
        cancels,
        committer,
        upkeep,
        claim_sync,
        Pruner(store, config, log),
        ending,
        # Without it.
        stopping,
        deadlines,
        recall,
        SlowImports(pool, log, timeout_s=config.boot_timeout),
        JournalRoom(pool, log),
        orphans,
        SumUps(repeats),
    ]
    if publisher is not None and publisher.wants_starts:
        duties.append(StartReports(publisher, pool))
    return Wiring(
        runtime=runtime,
        store=store,
        store_thread=store_thread,
        poll_us=poll_us,
        in_flight=in_flight,
        heartbeat=heartbeat,
        registration=registration,
        fencing=fencing,
        store_backoff=StoreBackoff(store, log, repeats),
        boot_backoff=boot_backoff,
        shutdown=shutdown,
        assigner=assigner,
        staffing=staffing,
        decider=decider,
        claimer=claimer,
        committer=committer,
        contention=contention,
        peers=peers,
        wake_ups=wake_ups,
        pool_events=pool_events,
        stopping=stopping,
        ending=ending,
        duties=duties,
    )
