"""The supervisor: one thread that hears workers, runs due duties, commits, claims and assigns. Effects.

```
  select ─▶ hear ─▶ stop, if asked ─▶ assign ─▶ duties with the store ─▶ assign, staff ─▶ duties without ─┐
    ▲                                  (renew, rescue, commit: finish + stage + claim in one txn, …)      │
    └──────────────────────────── until the first duty is due ◀───────────────────────────────────────────┘
```

Nothing in the loop waits. The store answers within 50 ms or reports that it is busy, and is asked again a
moment later; meanwhile timeouts, cancels and signals go on. Calls that a slow disk delays, and all calls of a
store on a server, run on a thread (see `store_thread`). The supervisor is the only writer of the jobs it runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.errors import LeaseLostError, StoreCorrupt, StoreError, StoreIOError, StoreMoved, StoreVanished
from mpdispatch.pool.selector import Selected
from mpdispatch.supervisor.duty import Duty
from mpdispatch.supervisor.fencing import LeaseGivenUpError
from mpdispatch.supervisor.shutdown import RunReport
from mpdispatch.supervisor.wiring import Wiring

_LISTEN_US = 8_000
"""A worker with queued jobs sends no wake-up with a reply. Its replies are polled this often for 0.25 ms."""
_UNTRUSTED_S = 0.05
"""How soon to ask the store again whether our lease is still ours."""


class Supervisor:
    """Runs the jobs of one store until a stop is requested. Used by one thread only.

    `tick()` does all that is due and returns the seconds until the next work; `run()` ticks and waits.
    """

    def __init__(self, wiring: Wiring) -> None:
        """Join the store. Raises StoreError."""
        self._wiring = wiring
        self._clock, self._pool, self._runtime = wiring.runtime.clock, wiring.runtime.pool, wiring.runtime
        self._shutdown, self._ending = wiring.shutdown, wiring.ending
        self._urgent_s = 0.0
        """For how long of the next wait only urgent events wake the loop, while outcomes gather."""
        self._staff_us: int | None = None
        try:
            wiring.registration.join_patiently()
        except StoreError:
            self.close()
            raise

    @property
    def report(self) -> RunReport | None:
        """How the run ended; None while it goes on."""
        return self._ending.report

    # -- the loop ---------------------------------------------------------------------------------------

    def run(self) -> RunReport:
        """Work until stopped, drained, or unable to use the store."""
        self._wiring.crons.begin()
        while self.report is None:
            wait_s = self.tick()
            if self.report is None:
                self.hear(self._runtime.selector.select(wait_s, urgent_s=self._urgent_s))
        return self.report

    def hear(self, events: Selected) -> None:
        """Process the events that woke the loop."""
        if self._wiring.registration.is_cut():
            return  # replies would be garbage, and the next tick starts over
        now = self._clock.now()
        self._wiring.wake_ups.hear(events, now)
        self._wiring.stopping.hear(events)
        self._wiring.peers.hear(events)
        for event in self._pool.receive(events):
            self._wiring.pool_events.take(event, now)

    def tick(self) -> float:
        """Do everything that is due; returns the seconds until the next work (at most one poll interval)."""
        now = self._clock.now()
        if self._wiring.registration.is_cut() or not self._wiring.heartbeat.is_trusted(now.boot_us):
            return self._regain(now)
        self._wiring.store_thread.meanwhile = self._go_on  # only now: before, `startup` reads the events
        self._wiring.stopping.run(now)
        if not self._shutdown.is_on:
            # Before the commit: a free worker must not wait for it while the backlog has jobs.
            self._wiring.assigner.assign(now.boot_us)
        self._guarded(lambda: self._run_due(self._wiring.store_duties, now), now)
        if self.report is not None or self._wiring.heartbeat.is_lost or self._wiring.registration.is_cut():
            return 0.0
        now = self._clock.now()
        if not self._shutdown.is_on:
            self._wiring.assigner.assign(now.boot_us)
            self._wiring.decider.release_rated()
            self._staff_us = self._wiring.staffing.staff(now.boot_us, has_more=self._wiring.claimer.has_more)
        self._run_due(self._wiring.other_duties, now)
        wait_s = self._wait_s(with_store=True)
        self._urgent_s = wait_s if self._wiring.committer.is_gathering else 0.0
        return wait_s

    def look_around(self) -> None:
        """Before the first worker is ready: stay registered, and take over from dead supervisors."""
        if self._wiring.registration.is_cut() or self._wiring.heartbeat.is_lost:
            return  # the first tick starts over
        now = self._clock.now()
        self._guarded(lambda: self._run_due(self._wiring.store_duties, now), now)

    def _run_due(self, duties: Iterable[Duty], now: Instant) -> None:
        for duty in duties:
            due_us = duty.next_due()
            if due_us is not None and due_us <= now.boot_us:
                duty.run(now)
            if self.report is not None:
                return

    def _go_on(self, is_done: Callable[[], bool]) -> None:
        """Run the duties without the store while a store call runs on its thread, until `is_done`.

        Raises LeaseGivenUpError, once it is: a server's answer took so long that our lease may be another's.
        """
        fencing, has_given_up = self._wiring.fencing, False
        # A disk that is slow answers at last, and peers on this machine see that we live.
        may_be_cut_off = self._wiring.store.is_remote
        while not is_done():
            # Wake for urgent events only: replies cannot be written yet, and waking for each halved the drain rate.
            wait_s = self._wait_s(with_store=False)
            if may_be_cut_off and not has_given_up:
                wait_s = min(wait_s, fencing.wait_s(self._clock.now().boot_us))
            self.hear(self._runtime.selector.select(wait_s, urgent_s=wait_s))
            now = self._clock.now()
            self._wiring.stopping.run(now)
            self._run_due(self._wiring.other_duties, now)
            if may_be_cut_off and not has_given_up and fencing.is_unanswered(now.boot_us):
                fencing.give_up()
                has_given_up = True
        if has_given_up:
            raise LeaseGivenUpError(self._wiring.heartbeat.owner)

    def _wait_s(self, *, with_store: bool) -> float:
        """Seconds until something is due, if no event comes."""
        if self._wiring.registration.is_cut():
            return 0.0  # the next tick starts over; duties would read what is gone
        now_us, wiring = self._clock.now().boot_us, self._wiring
        until_us = now_us + wiring.poll_us
        if with_store and self._pool.may_answer_silently:
            until_us = min(until_us, now_us + _LISTEN_US)
        if self._staff_us is not None and not self._shutdown.is_on:
            until_us = min(until_us, self._staff_us)
        for duty in wiring.other_duties:
            if (due_us := duty.next_due()) is not None:
                until_us = min(until_us, due_us)
        for duty in wiring.store_duties if with_store else ():
            if (due_us := duty.next_due()) is not None:
                until_us = min(until_us, max(due_us, wiring.store_backoff.until_us))
        return max(0, until_us - now_us) / SECOND_US

    # -- the store --------------------------------------------------------------------------------------

    def _regain(self, now: Instant) -> float:
        """Try to get a lease that is certainly ours; until then nothing else may run. As `tick`, gives the wait."""
        self._guarded(self._wiring.fencing.regain, now)
        self._wiring.claimer.try_now()
        heartbeat = self._wiring.heartbeat
        if heartbeat.is_trusted(self._clock.now().boot_us):
            return 0.0  # The next tick goes on: killing and joining anew took long enough.
        if heartbeat.is_lost and self._runtime.stop_signal.requests and self.report is None:
            self._ending.end(75)  # Nothing runs any more, and a rescuer decides about our jobs.
        return _UNTRUSTED_S

    def _guarded(self, step: Callable[[], None], now: Instant) -> None:
        """Run a step that needs the store, unless the store is in backoff; handles the errors it raises."""
        backoff = self._wiring.store_backoff
        if now.boot_us < backoff.until_us:
            return
        try:
            step()
        except LeaseGivenUpError:
            return  # whatever the store answered at last, nothing of it counts: the next tick starts over
        except LeaseLostError as error:
            self._pool.give_up_all()
            self._wiring.heartbeat.distrust()
            facts = {"owner": error.owner}
            self._runtime.repeats.log(
                "lost", logging.ERROR, "another supervisor took our jobs over", extra=facts
            )
        except (StoreVanished, StoreCorrupt, StoreIOError, StoreMoved) as error:
            self._runtime.log.error("the store cannot be used any more, so this supervisor ends: %s", error)
            self._ending.end(error.exit_code)
        except StoreError as error:
            backoff.failed(error, now.boot_us)
        else:
            backoff.succeeded()

    # -- ending -----------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Leave the store before any job was claimed."""
        if self.report is None:
            self._ending.end(0, is_settled=True)

    def close(self) -> None:
        """Release all resources; jobs still ours in the store are left to a rescuer."""
        self._wiring.peers.close()
        self._pool.kill_all()
        self._wiring.registration.detach_files()
        self._wiring.store.close()
