"""What a supervisor has before its store is open: selector, stop signal, booting workers. Effects."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from mpdispatch.clock import Clock, SystemClock
from mpdispatch.execution.app_reference import AppReference
from mpdispatch.policy.pools import PROCESSES, is_cluster
from mpdispatch.pool.exec import EarlyZygote
from mpdispatch.pool.frames import Boot
from mpdispatch.pool.open import open_cluster_pool
from mpdispatch.pool.pool import ProcessPool
from mpdispatch.pool.protocol import Pool
from mpdispatch.pool.selector import Selector
from mpdispatch.pool.spawner import Spawner
from mpdispatch.repeated import Repeated
from mpdispatch.supervisor.signals import StopSignal


@dataclass(slots=True)
class Runtime:
    """The parts that exist before the store is open. The loop's thread only, but for `stop_signal`."""

    selector: Selector
    stop_signal: StopSignal
    pool: Pool
    token: str
    clock: Clock
    log: logging.Logger
    is_subreaper: bool
    repeats: Repeated
    """For log lines that a lasting condition would repeat."""
    boot: Boot
    pool_name: str
    """See `Config.pool`."""

    @classmethod
    def assemble(
        cls,
        app: AppReference,
        *,
        log: logging.Logger,
        clock: Clock | None = None,
        is_subreaper: bool = False,
        zygote: EarlyZygote | None = None,
        pool: str = PROCESSES,
    ) -> Runtime:
        """`log` is the user's logger; the supervisor writes to its child `supervisor`. `zygote`: one started already.

        `pool`: see `Config.pool`. Raises PoolUnavailable.
        """
        clock = clock or SystemClock()
        selector = Selector()
        # Not `secrets`: it loads OpenSSL, a megabyte in every process.
        token = os.urandom(16).hex() if zygote is None else zygote.token
        boot = Boot(app=app, log_level=log.getEffectiveLevel())
        launched = None if zygote is None else zygote.launched
        ours = log.getChild("supervisor")
        made: Pool
        if is_cluster(pool):
            made = open_cluster_pool(pool, boot, token, selector=selector, clock=clock, log=ours)
        else:
            spawner = Spawner(token, selector, log, zygote=is_subreaper, launched=launched)
            made = ProcessPool(boot, spawner=spawner, selector=selector, clock=clock)
        return cls(
            *(selector, StopSignal(selector), made, token, clock, ours, is_subreaper),
            Repeated(ours, clock),
            boot=boot,
            pool_name=pool,
        )

    def use_pool(self, pool: str) -> None:
        """Run jobs there from now on. Only before the store is open. Raises PoolUnavailable."""
        if pool == self.pool_name:
            return
        before = self.pool
        self.pool = open_cluster_pool(
            pool, self.boot, self.token, selector=self.selector, clock=self.clock, log=self.log
        )
        self.pool_name = pool
        before.kill_all()
        before.close()

    def idle(self, wait_s: float) -> None:
        """Wait this long, or for an event. Drops events, so only for use while no worker holds a job."""
        list(self.pool.receive(self.selector.select(wait_s)))

    def renew_token(self) -> None:
        """Give the workers of a new registration other tags, so that killing the old one's leftovers spares them."""
        self.token = os.urandom(16).hex()
        self.pool.renew(self.token)

    def close(self) -> None:
        self.pool.kill_all()
        self.repeats.close()
        self.pool.close()
        self.stop_signal.close()
        self.selector.close()
