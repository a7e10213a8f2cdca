"""The supervisor: one thread that hears workers, decides, writes, claims and gives out. Effects.

```
  select ─▶ hear ─▶ decide ─▶ beat ─▶ enforce ─▶ rescue ─▶ turn (finish + stage + claim, one transaction) ─▶ assign ─▶ staff
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
from mpdispatch.execution.rulebook import Rulebook
from mpdispatch.pool.ears import Heard
from mpdispatch.pool.kill import reap_strays
from mpdispatch.store.base import Ledger, LeftBehind, Store
from mpdispatch.supervisor.assign import Assigner
from mpdispatch.supervisor.berth import Berth
from mpdispatch.supervisor.books import Books
from mpdispatch.supervisor.boots import look_at_boots, look_at_rings
from mpdispatch.supervisor.crew import Crew
from mpdispatch.supervisor.enforce import Enforcer
from mpdispatch.supervisor.fencing import Fencing
from mpdispatch.supervisor.hearing import Hearing
from mpdispatch.supervisor.membership import Membership
from mpdispatch.supervisor.peers import Peers
from mpdispatch.supervisor.prune import Pruner
from mpdispatch.supervisor.rated import RatedQueues
from mpdispatch.supervisor.reconcile import Reconciler
from mpdispatch.supervisor.rescue import Rescuer
from mpdispatch.supervisor.shutdown import Ending, Shutdown
from mpdispatch.supervisor.telling import Teller
from mpdispatch.supervisor.trouble import Trouble
from mpdispatch.supervisor.turns import Turns
from mpdispatch.supervisor.upkeep import Upkeep

__all__ = ["Ending", "Supervisor"]

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
        crew: Crew,
        store: Store,
        *,
        config: Config,
        rulebook: Rulebook,
        queue_configs: tuple[QueueConfig, ...] = (),
        app: str = "",
        version: str = "",
        store_for_workers: str | None = None,
        drain: bool = False,
        teller: Teller | None = None,
        default_timeout_s: float | None = None,
        is_traced: bool = False,
    ) -> None:
        """Open the store and join it. Raises StoreError.

        `teller`: whom to tell what happens; `is_traced`: workers hold spans back, so they end by themselves.
        """
        self._crew, self._pool, self._clock, self._log = crew, crew.pool, crew.clock, crew.log
        self._is_drain, self._is_traced = drain, is_traced
        self._boot_timeout_s, self._kills_strays = config.boot_timeout, config.child_policy == "kill"
        self._teller = teller
        self.books = Books(rated=RatedQueues.of(queue_configs))
        self._ledger: Ledger = store.ledger()
        self._members = Membership(
            self._ledger, self._clock, config, app=app, version=version, log=crew.log, repeats=crew.repeats
        )
        self._berth = Berth(crew, store, self._ledger, self._members, config, store_for_workers)
        rescuer = Rescuer(self._ledger, self._clock, rulebook, self.books, crew.log, teller, crew.repeats)
        self._poll_us = round(config.poll_interval * SECOND_US)
        self._peers = Peers(rescuer, crew.ears, poll_us=self._poll_us)
        self._fencing = Fencing(crew, self._members, self._berth, self._peers, self.books, teller)
        self._assigner = Assigner(self._pool, self.books, config, rulebook, crew.repeats)
        self._enforcer = Enforcer(self._pool, config, crew.repeats)
        self._turns = Turns(
            self._ledger,
            self._clock,
            config,
            books=self.books,
            assigner=self._assigner,
            pool=self._pool,
            rulebook=rulebook,
            queue_configs=queue_configs,
            app=app,
            log=crew.log,
            repeats=crew.repeats,
            teller=teller,
            default_timeout_us=None if default_timeout_s is None else round(default_timeout_s * SECOND_US),
        )
        self._reconciler = Reconciler(
            self._ledger, self._pool, self.books, self._turns, self._enforcer, crew.repeats
        )
        self._pruner = Pruner(self._ledger, self._clock, config, crew.log)
        self._upkeep = Upkeep(self._ledger, self._clock, tuple(config.queues), crew.log)
        self._shutdown = Shutdown(config)
        self._trouble = Trouble(self._ledger, crew.log, crew.repeats)
        self._hearing = Hearing(
            crew,
            config,
            books=self.books,
            assigner=self._assigner,
            turns=self._turns,
            shutdown=self._shutdown,
            teller=teller,
        )
        self._cancels_due = True
        self._was_knocked = False
        """Whether somebody has enqueued something, or so it seems, and nobody has looked."""
        self._settled_us = 0
        self._linger_s = 0.0
        self.ending: Ending | None = None
        try:
            self._berth.take_patiently()
        except StoreError:
            self.close()
            raise

    # -- the loop ---------------------------------------------------------------------------------------

    def run(self) -> Ending:
        """Work until stopped, drained or in the way of harm."""
        while self.ending is None:
            wait_s = self.tick()
            if self.ending is None:
                self.hear(self._crew.ears.listen(wait_s, linger_s=self._linger_s))
        return self.ending

    def hear(self, events: Heard) -> None:
        """Take in what woke the loop."""
        if self._berth.is_cut():
            return  # what there is to hear would be nonsense, and all is forgotten at the next tick
        now = self._clock.now()
        for key, _ in events:
            if key.data is self._ledger:
                self._ledger.drain_wake()
                self._turns.knocked(now.boot_us)
                self._was_knocked = self._cancels_due = True
                self._peers.knocked()
            elif key.data is self._crew.bell:
                self._crew.bell.drain()
        self._peers.hear(events)
        for event in self._pool.hear(events):
            self._cancels_due |= self._hearing.take(event, now)

    def tick(self) -> float:
        """Do everything that is due; gives the seconds until something is (at most one poll interval)."""
        now_us = self._clock.now().boot_us
        if self._berth.is_cut() or not self._members.is_trusted(now_us):
            self._guarded(self._fencing.regain, now_us)
            self._turns.claim_at_us = 0
            now_us = self._clock.now().boot_us
            if not self._members.is_trusted(now_us):
                if self._members.is_lost and self._crew.bell.rung and self.ending is None:
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
        if self.ending is not None:
            return 0.0
        return self._rest_of_tick(is_well)

    def _rest_of_tick(self, is_well: bool) -> float:
        """What needs no store; gives the seconds until something is due."""
        if self._berth.is_cut():
            return 0.0
        now_us = self._clock.now().boot_us
        turns, assigner = self._turns, self._assigner
        due = self._due(now_us, is_well)
        self._linger_s = 0.0
        if not self._shutdown.is_on:
            assigner.assign(now_us)
            turns.release_late()
            if (at := assigner.staff(now_us, has_more=turns.has_more)) is not None:
                due.append(at)
            if assigner.is_backlog_stuck(now_us):
                turns.release_backlog()
        wants_turn = is_well and self._wants_turn(now_us)
        if wants_turn and not self._shutdown.is_on:
            self._linger_s = turns.linger_us(now_us) / SECOND_US
        if self._is_drain and self._settled_us > now_us:
            due.append(self._settled_us)
        if wants_turn and self._linger_s == 0.0:
            return 0.0
        wait_s = max(0.0, min(at for at in due if at > 0) - now_us) / SECOND_US
        self._linger_s = min(self._linger_s, wait_s)
        return wait_s

    def _due(self, now_us: int, is_well: bool) -> list[int]:
        """Look after jobs and workers, and when which duty wants to run next (boottime µs; 0: not by time)."""
        turns = self._turns
        due = [now_us + self._poll_us]
        if is_well:
            due += [self._members.next_us, self._peers.due_us, turns.sync_at_us]
            due += [self._pruner.next_us or 0, self.books.outputs.next_us or 0, self._upkeep.next_us]
        else:
            due.append(self._trouble.until_us)
        if turns.claim_at_us > now_us:
            due.append(turns.claim_at_us)  # what is past waits for a free worker: that wakes us by itself
        due += self._shutdown.due()
        if (at := self._enforcer.enforce(now_us)) is not None:
            due.append(at)
        if self._teller is not None and (at := self._teller.look(self._pool.workers, now_us)) is not None:
            due.append(at)
        if (at := self._assigner.recall_stuck(now_us)) is not None:
            due.append(at)
        if (at := look_at_boots(self._pool, self._log, now_us, self._boot_timeout_s)) is not None:
            due.append(at)
        if (at := self._crew.repeats.look()) is not None:
            due.append(at)
        if (at := look_at_rings(self._pool, self._log, now_us)) is not None:
            due.append(at)
        if self._pool.is_hushed:
            due.append(now_us + _LOOK_US)
        return due

    def _wants_turn(self, now_us: int) -> bool:
        """Whether another turn would have something to do right away: the last one did not write or claim all."""
        turns = self._turns
        return bool(self.books.unwritten or self.books.progress) or (
            not self._shutdown.is_on and turns.wants_claim(now_us)
        )

    def _guarded(self, step: Callable[[], None], now_us: int) -> bool:
        """Run a step that needs the store; False if the store is in trouble, which is then dealt with."""
        if now_us < self._trouble.until_us:
            return False
        try:
            step()
        except LeaseLostError as error:
            self._pool.kill_all()
            self._members.distrust()
            facts = {"owner": error.owner}
            self._crew.repeats.say("lost", logging.ERROR, "another supervisor took our jobs over", extra=facts)
        except (StoreVanished, StoreCorrupt, StoreIOError) as error:
            self._log.error("the store cannot be used any more, so this supervisor ends: %s", error)
            self._end(error.exit_code)
        except StoreError as error:
            self._trouble.met(error, now_us)
        else:
            self._trouble.over()
            return True
        return False

    def _with_store(self, now_us: int) -> None:
        """Everything of a tick that reads or writes the store."""
        if now_us >= self._members.next_us and (renewal := self._members.beat()) is not None:
            self._ledger.verify()
            self._berth.look_beside(lambda: self._assigner.recall_all(now_us))
            self._reconciler.reconcile(self._members.owner, renewal.owned, now_us)
            self._cancels_due = True
            if self._crew.is_subreaper:
                reap_strays(self._pool.family, kills=self._kills_strays)
        if self._was_knocked:
            self._was_knocked = False
            self._answer_knock(now_us)
        if self._is_unchanged(now_us):
            self._turns.put_off(self._clock.now())
            self._peers.put_off(now_us)
        if now_us >= self._peers.due_us and self._peers.look(
            self._members.owner, now_us, token=self._members.token
        ):
            self._turns.claim_at_us = 0
        if self._cancels_due:
            self._reconciler.cancel(self._ledger.cancel_requests(self._members.owner), now_us)
            self._cancels_due = False
        if self._shutdown.is_on or self._turns.linger_us(now_us) == 0:
            self._turns.take(self._members.owner, now_us, may_claim=not self._shutdown.is_on)
            if self._upkeep.step():
                self._look_again(now_us)
        self._turns.sync_if_due(now_us)
        self._pruner.prune(now_us)
        if self._shutdown.is_on or self._is_drain:
            self._maybe_end(now_us)

    def _look_again(self, now_us: int) -> None:
        """There may be something to claim, to take over or to tell of, that a drain waits for."""
        self._turns.claim_at_us = 0
        self._peers.look_soon()
        self._settled_us = max(self._settled_us, now_us + _LOOK_US)

    def _answer_knock(self, now_us: int) -> None:
        """What was enqueued is on its way to an idle worker before anything else is looked for."""
        if not self._shutdown.is_on and self._turns.linger_us(now_us) == 0:
            self._turns.take(self._members.owner, now_us, may_claim=True, is_expected=True)
            self._assigner.assign(self._clock.now().boot_us)

    def _is_unchanged(self, now_us: int) -> bool:
        """Whether all a look at the store could find is what somebody else has written since the last, and nobody has.

        One read instead of a dozen: what an idle supervisor costs.
        """
        if self._shutdown.is_on or self._is_drain or self._cancels_due or self._peers.living:
            return False
        if now_us < min(self._peers.due_us, self._turns.claim_at_us):
            return False  # nobody wants to look
        if not (self._turns.is_polling and self._turns.is_only_a_poll(self._clock.now())):
            return False
        if self._ledger.has_changed():
            # It says so once: whoever is due to look later would find nothing changed since.
            self._turns.claim_at_us = 0
            self._peers.look_soon()
            return False
        return True

    def look_around(self) -> None:
        """What needs no worker: stay registered, take over what dead supervisors left. Before the first is there."""
        if self._berth.is_cut() or self._members.is_lost:
            return  # the first tick starts over
        now_us = self._clock.now().boot_us
        self._guarded(lambda: self._with_store(now_us), now_us)

    # -- ending -----------------------------------------------------------------------------------------

    def _stop_if_asked(self, now_us: int) -> None:
        bell = self._crew.bell
        if bell.rung == 0:
            return
        if not self._shutdown.is_on:
            self._log.info(
                "stopping: running jobs may finish", extra={"in_hand": sum(1 for _ in self._pool.held())}
            )
            self._shutdown.begin(now_us, bell.patience_s)
            self._assigner.recall_all(now_us)
            self._turns.release_backlog()
        step = self._shutdown.step(now_us, is_urgent=bell.rung > 1)
        if step is not None and self._enforcer.abort_all(now_us, at_once=step == "kill"):
            self._shutdown.was_aborted = True

    def _maybe_end(self, now_us: int) -> None:
        """End if there is nothing left that we wait for."""
        if self._shutdown.is_on and self.books.backlog:
            self._turns.release_backlog()
            self._turns.take(self._members.owner, now_us, may_claim=not self._shutdown.is_on)
        if self.books.unwritten or self.books.backlog or any(True for _ in self._pool.held()):
            return
        if self._shutdown.is_on:
            self._end(75 if self._shutdown.was_aborted else 0, is_settled=True)
        elif self._is_drain and not self._turns.has_more and now_us >= self._settled_us:
            if self._upkeep.hurry():
                self._look_again(now_us)
            elif any(self._ledger.outstanding(self._turns.planner()).values()):
                self._settled_us = now_us + _DRAINED_US
            else:
                left = self._ledger.left_behind(self._turns.planner())
                self._end(1 if self.books.failed else 0, is_settled=True, left=left)

    def sign_off(self) -> None:
        """Leave the store without ever having claimed anything."""
        if self.ending is None:
            self._end(0, is_settled=True)

    def _end(self, exit_code: int, *, is_settled: bool = False, left: LeftBehind | None = None) -> None:
        """Let the workers go and leave the store. `left`: what a drain leaves there.

        Unless every job of ours is settled there, our registration stays: without it nobody would rescue them.
        """
        if self._is_traced and is_settled:
            self._pool.dismiss(wait_s=_FLUSH_S)
        self._pool.kill_all()
        if is_settled:
            self._berth.sign_off()
        books = self.books
        self.ending = Ending(
            exit_code=exit_code,
            completed=books.completed,
            failed=books.failed,
            stale_writes=books.stale_writes,
            parked=self._turns.parked if left is None else left.held,
            scheduled=0 if left is None else left.scheduled,
        )
        self._log.info(
            "stopped", extra={"exit_code": exit_code, "completed": books.completed, "failed": books.failed}
        )

    def close(self) -> None:
        """Let go of everything; what is still ours in the store is left to a rescuer."""
        self._peers.close()
        self._pool.kill_all()
        self._berth.let_go()
        self._ledger.close()
