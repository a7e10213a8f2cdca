"""The supervisor: one thread that hears workers, decides, writes, claims and gives out. Effects.

```
  select ─▶ hear ─▶ decide ─▶ renew ─▶ enforce ─▶ rescue ─▶ commit (finish + stage + claim, one txn) ─▶ assign ─▶ staff
    ▲                                                                                                          │
    └──────────────────────────── until the earliest thing that is due ◀──────────────────────────────────────┘
```

Nothing in it waits: the store answers within 50 ms or says it is busy, and is asked again a moment later, while
timeouts, cancels and signals go on. It is the only writer of the jobs it runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mpdispatch.clock import SECOND_US
from mpdispatch.config import Config, QueueConfig
from mpdispatch.errors import (
    LeaseLostError,
    StoreCorrupt,
    StoreError,
    StoreIOError,
    StoreVanished,
)
from mpdispatch.execution.catalog import Catalog
from mpdispatch.host.kill import reap_orphans
from mpdispatch.host.runtime_folder import runtime_folder
from mpdispatch.pool.selector import Selected
from mpdispatch.store.contract import LeftBehind, Store, SupervisorStore
from mpdispatch.supervisor.assign import Assigner
from mpdispatch.supervisor.claim_sync import ClaimSync
from mpdispatch.supervisor.claimer import Claimer
from mpdispatch.supervisor.committer import Committer
from mpdispatch.supervisor.contention import Contention
from mpdispatch.supervisor.deadlines import Deadlines
from mpdispatch.supervisor.decider import Decider
from mpdispatch.supervisor.event_publisher import EventPublisher
from mpdispatch.supervisor.fencing import Fencing
from mpdispatch.supervisor.heartbeat import Heartbeat
from mpdispatch.supervisor.in_flight import InFlight
from mpdispatch.supervisor.outcome_reporter import OutcomeReporter
from mpdispatch.supervisor.peers import Peers
from mpdispatch.supervisor.pool_events import PoolEvents
from mpdispatch.supervisor.prune import Pruner
from mpdispatch.supervisor.rated import RatedQueues
from mpdispatch.supervisor.reconcile import Reconciler
from mpdispatch.supervisor.registration import Registration
from mpdispatch.supervisor.rescue import Rescuer
from mpdispatch.supervisor.runtime import Runtime
from mpdispatch.supervisor.shutdown import RunReport, Shutdown
from mpdispatch.supervisor.slow_import import look_at_rings, warn_of_slow_imports
from mpdispatch.supervisor.store_backoff import StoreBackoff
from mpdispatch.supervisor.upkeep import Upkeep

__all__ = ["RunReport", "Supervisor"]

_DRAINED_US = 100_000
_LOOK_US = 8_000
"""A worker that has more to do does not say that it has answered: we look this often, for 0.25 ms each time."""
_FLUSH_S = 2.0
"""How long idle workers may take to send the spans they hold."""


class Supervisor:
    """Runs the jobs of one store until told to stop. Made, stepped and run by one thread.

    `tick()` does all that is due and gives the seconds until something is; `run()` ticks and waits.
    """

    def __init__(
        self,
        runtime: Runtime,
        store: Store,
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
    ) -> None:
        """Open the store and join it. Raises StoreError.

        `publisher`: whom to tell what happens; `is_traced`: workers hold spans back, so they end by themselves.
        """
        self._runtime, self._pool, self._clock, self._log = runtime, runtime.pool, runtime.clock, runtime.log
        self._is_drain, self._is_traced = drain, is_traced
        self._boot_timeout_s, self._kills_strays = config.boot_timeout, config.child_policy == "kill"
        self._publisher = publisher
        self.in_flight = InFlight(rated=RatedQueues.of(queue_configs))
        self._store: SupervisorStore = store.supervisor_store()
        self._heartbeat = Heartbeat(
            self._store, self._clock, config, app=app, version=version, log=runtime.log, repeats=runtime.repeats
        )
        self._registration = Registration(runtime, store, self._heartbeat, config, store_for_workers)
        rescuer = Rescuer(
            self._store,
            runtime_folder(store),
            self._clock,
            catalog,
            self.in_flight,
            runtime.log,
            publisher,
            runtime.repeats,
        )
        self._poll_us = round(config.poll_interval * SECOND_US)
        self._peers = Peers(rescuer, runtime.selector, poll_us=self._poll_us)
        self._fencing = Fencing(
            runtime, self._heartbeat, self._registration, self._peers, self.in_flight, publisher
        )
        self._assigner = Assigner(self._pool, self.in_flight, config, catalog, runtime.repeats)
        self._deadlines = Deadlines(self._pool, config, runtime.repeats)
        self._claimer = Claimer(
            self._clock,
            config,
            in_flight=self.in_flight,
            assigner=self._assigner,
            catalog=catalog,
            queue_configs=queue_configs,
            app=app,
            repeats=runtime.repeats,
            default_timeout_us=None if default_timeout_s is None else round(default_timeout_s * SECOND_US),
        )
        self._decider = Decider(self._clock, catalog, self.in_flight, self._assigner.estimates)
        self._contention = Contention()
        self._claim_sync = ClaimSync(self._store, self._clock)
        self._committer = Committer(
            self._store,
            self._clock,
            in_flight=self.in_flight,
            assigner=self._assigner,
            claimer=self._claimer,
            claim_sync=self._claim_sync,
            contention=self._contention,
            pool=self._pool,
            reporter=OutcomeReporter(self.in_flight, runtime.log, runtime.repeats, publisher),
        )
        self._reconciler = Reconciler(
            self._store,
            self._clock,
            self._pool,
            self.in_flight,
            self._claimer,
            self._decider,
            self._deadlines,
            runtime.repeats,
        )
        self._pruner = Pruner(self._store, self._clock, config, runtime.log)
        self._upkeep = Upkeep(self._store, self._clock, tuple(config.queues), runtime.log)
        self._shutdown = Shutdown(config)
        self._backoff = StoreBackoff(self._store, runtime.log, runtime.repeats)
        self._pool_events = PoolEvents(
            runtime,
            config,
            in_flight=self.in_flight,
            assigner=self._assigner,
            decider=self._decider,
            shutdown=self._shutdown,
            publisher=publisher,
        )
        self._cancels_due = True
        self._was_woken = False
        """Whether somebody has enqueued something, or so it seems, and nobody has looked."""
        self._settled_us = 0
        self._delay_s = 0.0
        self.report: RunReport | None = None
        try:
            self._registration.join_patiently()
        except StoreError:
            self.close()
            raise

    # -- the loop ---------------------------------------------------------------------------------------

    def run(self) -> RunReport:
        """Work until stopped, drained or in the way of harm."""
        while self.report is None:
            wait_s = self.tick()
            if self.report is None:
                self.hear(self._runtime.selector.select(wait_s, urgent_s=self._delay_s))
        return self.report

    def hear(self, events: Selected) -> None:
        """Take in what woke the loop."""
        if self._registration.is_cut():
            return  # what there is to hear would be nonsense, and all is forgotten at the next tick
        now = self._clock.now()
        for key, _ in events:
            if key.data is self._registration:
                self._registration.drain_wakes()
                self._claimer.try_now()
                self._contention.woken(now.boot_us)
                self._was_woken = self._cancels_due = True
                self._peers.woken()
            elif key.data is self._runtime.stop_signal:
                self._runtime.stop_signal.drain()
        self._peers.hear(events)
        for event in self._pool.hear(events):
            self._cancels_due |= self._pool_events.take(event, now)

    def tick(self) -> float:
        """Do everything that is due; gives the seconds until something is (at most one poll interval)."""
        now_us = self._clock.now().boot_us
        if self._registration.is_cut() or not self._heartbeat.is_trusted(now_us):
            self._guarded(self._fencing.regain, now_us)
            self._claimer.try_now()
            now_us = self._clock.now().boot_us
            if not self._heartbeat.is_trusted(now_us):
                if self._heartbeat.is_lost and self._runtime.stop_signal.requests and self.report is None:
                    self._end(75)  # Nothing runs any more, and what we held is a rescuer's to decide.
                return 0.05
        self._stop_if_asked(now_us)
        if self._shutdown.is_hopeless(now_us):
            self._log.error("the store stayed busy; leaving the last outcomes to a rescuer")
            self._end(75)
            return 0.0
        if not self._shutdown.is_on:
            # Before the turn: a free worker must not wait for a commit while claimed jobs lie here.
            self._assigner.assign(now_us)
        is_well = self._guarded(lambda: self._with_store(now_us), now_us)
        if self.report is not None:
            return 0.0
        return self._rest_of_tick(is_well)

    def _rest_of_tick(self, is_well: bool) -> float:
        """What needs no store; gives the seconds until something is due."""
        if self._registration.is_cut():
            return 0.0
        now_us = self._clock.now().boot_us
        assigner, claimer = self._assigner, self._claimer
        due = self._due(now_us, is_well)
        self._delay_s = 0.0
        if not self._shutdown.is_on:
            assigner.assign(now_us)
            self._decider.release_rated()
            if (at := assigner.staff(now_us, has_more=claimer.has_more)) is not None:
                due.append(at)
            if assigner.is_backlog_stuck(now_us):
                self._decider.release_backlog()
        wants_turn = is_well and self._wants_turn(now_us)
        if wants_turn and not self._shutdown.is_on:
            self._delay_s = self._committer.delay_us(now_us) / SECOND_US
        if self._is_drain and self._settled_us > now_us:
            due.append(self._settled_us)
        if wants_turn and self._delay_s == 0.0:
            return 0.0
        wait_s = max(0.0, min(at for at in due if at > 0) - now_us) / SECOND_US
        self._delay_s = min(self._delay_s, wait_s)
        return wait_s

    def _due(self, now_us: int, is_well: bool) -> list[int]:
        """Look after jobs and workers, and when which duty wants to run next (boottime µs; 0: not by time)."""
        due = [now_us + self._poll_us]
        if is_well:
            due += [self._heartbeat.next_us, self._peers.due_us, self._claim_sync.next_us]
            due += [self._pruner.next_us or 0, self.in_flight.outputs.next_us or 0, self._upkeep.next_us]
        else:
            due.append(self._backoff.until_us)
        if self._claimer.next_us > now_us:
            due.append(self._claimer.next_us)  # what is past waits for a free worker: that wakes us by itself
        due += self._shutdown.due()
        if (at := self._deadlines.enforce(now_us)) is not None:
            due.append(at)
        if (
            self._publisher is not None
            and (at := self._publisher.look_for_starts(self._pool.workers, now_us)) is not None
        ):
            due.append(at)
        if (at := self._assigner.recall_stuck(now_us)) is not None:
            due.append(at)
        if (at := warn_of_slow_imports(self._pool, self._log, now_us, self._boot_timeout_s)) is not None:
            due.append(at)
        if (at := self._runtime.repeats.look()) is not None:
            due.append(at)
        if (at := look_at_rings(self._pool, self._log, now_us)) is not None:
            due.append(at)
        if self._pool.may_answer_silently:
            due.append(now_us + _LOOK_US)
        return due

    def _wants_turn(self, now_us: int) -> bool:
        """Whether another turn would have something to do right away: the last one did not write or claim all."""
        return bool(self.in_flight.pending or self.in_flight.progress) or (
            not self._shutdown.is_on and self._claimer.wants(now_us)
        )

    def _guarded(self, step: Callable[[], None], now_us: int) -> bool:
        """Run a step that needs the store; False if the store is in backoff, which is then dealt with."""
        if now_us < self._backoff.until_us:
            return False
        try:
            step()
        except LeaseLostError as error:
            self._pool.kill_all()
            self._heartbeat.distrust()
            facts = {"owner": error.owner}
            self._runtime.repeats.say(
                "lost", logging.ERROR, "another supervisor took our jobs over", extra=facts
            )
        except (StoreVanished, StoreCorrupt, StoreIOError) as error:
            self._log.error("the store cannot be used any more, so this supervisor ends: %s", error)
            self._end(error.exit_code)
        except StoreError as error:
            self._backoff.failed(error, now_us)
        else:
            self._backoff.succeeded()
            return True
        return False

    def _with_store(self, now_us: int) -> None:
        """Everything of a tick that reads or writes the store."""
        if now_us >= self._heartbeat.next_us and (renewal := self._heartbeat.renew()) is not None:
            self._store.file_care.verify()
            self._registration.look_beside(lambda: self._assigner.recall_all(now_us))
            self._reconciler.reconcile(self._heartbeat.owner, renewal.owned, now_us)
            self._cancels_due = True
            if self._runtime.is_subreaper:
                reap_orphans(self._pool.child_pids, kills=self._kills_strays)
        if self._was_woken:
            self._was_woken = False
            self._answer_wake_up(now_us)
        if self._is_unchanged(now_us):
            self._claimer.put_off(self._clock.now())
            self._peers.put_off(now_us)
        if now_us >= self._peers.due_us and self._peers.look(
            self._heartbeat.owner, now_us, token=self._heartbeat.token
        ):
            self._claimer.try_now()
        if self._cancels_due:
            self._reconciler.cancel(self._store.cancel_requests(self._heartbeat.owner), now_us)
            self._cancels_due = False
        if self._shutdown.is_on or self._committer.delay_us(now_us) == 0:
            self._committer.commit(self._heartbeat.owner, now_us, may_claim=not self._shutdown.is_on)
            if self._upkeep.step():
                self._look_again(now_us)
        self._claim_sync.sync_if_due(now_us)
        self._pruner.prune(now_us)
        if self._shutdown.is_on or self._is_drain:
            self._maybe_end(now_us)

    def _look_again(self, now_us: int) -> None:
        """There may be something to claim, to take over or to tell of, that a drain waits for."""
        self._claimer.try_now()
        self._peers.look_soon()
        self._settled_us = max(self._settled_us, now_us + _LOOK_US)

    def _answer_wake_up(self, now_us: int) -> None:
        """What was enqueued is on its way to an idle worker before anything else is looked for."""
        if not self._shutdown.is_on and self._committer.delay_us(now_us) == 0:
            self._committer.commit(self._heartbeat.owner, now_us, may_claim=True, skip_idle_check=True)
            self._assigner.assign(self._clock.now().boot_us)

    def _is_unchanged(self, now_us: int) -> bool:
        """Whether all a look at the store could find is what somebody else has written since the last, and nobody has.

        One read instead of a dozen: what an idle supervisor costs.
        """
        if self._shutdown.is_on or self._is_drain or self._cancels_due or self._peers.living:
            return False
        if now_us < min(self._peers.due_us, self._claimer.next_us):
            return False  # nobody wants to look
        if self.in_flight.has_news or not self._claimer.is_only_a_poll(self._clock.now()):
            return False
        if self._store.file_care.has_changed():
            # It says so once: whoever is due to look later would find nothing changed since.
            self._claimer.try_now()
            self._peers.look_soon()
            return False
        return True

    def look_around(self) -> None:
        """What needs no worker: stay registered, take over what dead supervisors left. Before the first is there."""
        if self._registration.is_cut() or self._heartbeat.is_lost:
            return  # the first tick starts over
        now_us = self._clock.now().boot_us
        self._guarded(lambda: self._with_store(now_us), now_us)

    # -- ending -----------------------------------------------------------------------------------------

    def _stop_if_asked(self, now_us: int) -> None:
        stop_signal = self._runtime.stop_signal
        if stop_signal.requests == 0:
            return
        if not self._shutdown.is_on:
            self._log.info(
                "stopping: running jobs may finish", extra={"in_hand": sum(1 for _ in self._pool.assignments())}
            )
            self._shutdown.begin(now_us, stop_signal.patience_s)
            self._assigner.recall_all(now_us)
            self._decider.release_backlog()
        step = self._shutdown.step(now_us, is_urgent=stop_signal.requests > 1)
        if step is not None and self._deadlines.abort_all(now_us, at_once=step == "kill"):
            self._shutdown.was_aborted = True

    def _maybe_end(self, now_us: int) -> None:
        """End if there is nothing left that we wait for."""
        if self._shutdown.is_on and self.in_flight.backlog:
            self._decider.release_backlog()
            self._committer.commit(self._heartbeat.owner, now_us, may_claim=not self._shutdown.is_on)
        if self.in_flight.pending or self.in_flight.backlog or any(True for _ in self._pool.assignments()):
            return
        if self._shutdown.is_on:
            self._end(75 if self._shutdown.was_aborted else 0, is_settled=True)
        elif self._is_drain and not self._claimer.has_more and now_us >= self._settled_us:
            if self._upkeep.hurry():
                self._look_again(now_us)
            elif any(self._store.outstanding(self._claimer.queues).values()):
                self._settled_us = now_us + _DRAINED_US
            else:
                left = self._store.left_behind(self._claimer.queues)
                self._end(1 if self.in_flight.failed else 0, is_settled=True, left=left)

    def leave(self) -> None:
        """Leave the store without ever having claimed anything."""
        if self.report is None:
            self._end(0, is_settled=True)

    def _end(self, exit_code: int, *, is_settled: bool = False, left: LeftBehind | None = None) -> None:
        """Let the workers go and leave the store. `left`: what a drain leaves there.

        Unless every job of ours is settled there, our registration stays: without it nobody would rescue them.
        """
        if self._is_traced and is_settled:
            self._pool.dismiss(wait_s=_FLUSH_S)
        self._pool.kill_all()
        if is_settled:
            self._registration.leave()
        in_flight = self.in_flight
        self.report = RunReport(
            exit_code=exit_code,
            completed=in_flight.completed,
            failed=in_flight.failed,
            stale_writes=in_flight.stale_writes,
            parked=self._claimer.parked if left is None else left.held,
            scheduled=0 if left is None else left.scheduled,
        )
        self._log.info(
            "stopped",
            extra={"exit_code": exit_code, "completed": in_flight.completed, "failed": in_flight.failed},
        )

    def close(self) -> None:
        """Let go of everything; what is still ours in the store is left to a rescuer."""
        self._peers.close()
        self._pool.kill_all()
        self._registration.detach_files()
        self._store.close()
