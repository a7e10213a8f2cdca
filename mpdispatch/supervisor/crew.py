"""What a supervisor has before its store is open: ears, a bell, and workers importing the app. Effects."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from mpdispatch.clock import Clock, SystemClock
from mpdispatch.execution.appref import AppReference
from mpdispatch.pool.ears import Ears
from mpdispatch.pool.frames import Boot
from mpdispatch.pool.pool import Pool
from mpdispatch.pool.repeated import Repeated
from mpdispatch.pool.spawning import Spawner
from mpdispatch.supervisor.signals import Bell

__all__ = ["Crew"]


@dataclass(slots=True)
class Crew:
    """What exists before the store is open: ears, a bell, workers importing the app."""

    ears: Ears
    bell: Bell
    pool: Pool
    token: str
    clock: Clock
    log: logging.Logger
    is_subreaper: bool
    repeats: Repeated
    """For what a lasting condition has us say again and again."""

    @classmethod
    def assemble(
        cls, app: AppReference, *, log: logging.Logger, clock: Clock | None = None, is_subreaper: bool = False
    ) -> Crew:
        """`log` is the user's logger; the supervisor writes to its child `supervisor`."""
        clock = clock or SystemClock()
        ears = Ears()
        # Not by `secrets`: that loads OpenSSL, a megabyte in every process.
        token = os.urandom(16).hex()
        boot = Boot(app=app, log_level=log.getEffectiveLevel())
        spawner = Spawner(token, ears, log, zygote=is_subreaper)
        pool = Pool(boot, spawner=spawner, ears=ears, clock=clock)
        ours = log.getChild("supervisor")
        return cls(ears, Bell(ears), pool, token, clock, ours, is_subreaper, Repeated(ours, clock))

    def renew_token(self) -> None:
        """A new registration's workers carry a mark of their own: a sweep after the old one's takes none of them."""
        self.token = os.urandom(16).hex()
        self.pool.spawner.renew(self.token)

    def close(self) -> None:
        self.pool.kill_all()
        self.pool.spawner.close()
        self.bell.close()
        self.ears.close()
