"""Keeps the supervisor registered: its row, its heartbeats, and how long to trust the last one. Effects."""

from __future__ import annotations

import logging
import os
import time

import msgspec

from mpdispatch.clock import SECOND_US, Instant, sleep
from mpdispatch.config import Config
from mpdispatch.errors import StoreBusy, StoreError
from mpdispatch.host.processes import pid_namespace, process_id
from mpdispatch.ids import boot_id, host_name, machine_id
from mpdispatch.model import NewSupervisor
from mpdispatch.policy.lease import margin_us, renew_every_us, trusted_until_boot_us
from mpdispatch.policy.pools import app_with_pool
from mpdispatch.store.supervisor_contract import SupervisorStore
from mpdispatch.store.values import Renewal
from mpdispatch.supervisor.runtime import Runtime
from mpdispatch.version import __version__

_RETRY_US = 50_000
_ASK_US = 250_000
_LEAVE_S = 2.0
_LEAVE_PAUSE_S = 0.02


def this_process(queues: tuple[str, ...], concurrency: int, app: str) -> NewSupervisor:
    """What a supervisor in this process registers itself with, without a token."""
    me = process_id()
    return NewSupervisor(
        host=host_name(),
        machine_id=machine_id(),
        boot_id=boot_id(),
        pid=os.getpid(),
        pid_start=me.start,
        pid_namespace=pid_namespace(),
        queues=queues,
        concurrency=concurrency,
        app=app,
        version=__version__,
    )


class Heartbeat:
    """Our registration in the store. `owner` is its id; a new registration gets a new id."""

    def __init__(self, runtime: Runtime, store: SupervisorStore, config: Config, app: str) -> None:
        self._store, self._clock, self._repeats = store, runtime.clock, runtime.repeats
        self._threshold_us = round(config.stale_job_threshold * SECOND_US)
        self._every_us = renew_every_us(round(config.heartbeat_interval * SECOND_US), self._threshold_us)
        slots = max(1, min(config.slots, runtime.pool.capacity))  # a cluster may have no worker yet
        self._who = this_process(tuple(config.queues), slots, app_with_pool(app, config.pool))
        self.owner = 0
        self.token = ""
        """The token of the registration; the tag of every process started for it begins with it."""
        self.is_lost = False
        """Whether the registration is known to be useless, so that asking the store is pointless."""
        self._trusted_until_us = 0
        self.next_us = 0
        """Boottime of the next heartbeat. Written only here."""

    def register(self, token: str) -> int:
        """Register, also anew. `token`: the tags of our workers begin with it. Raises StoreError."""
        now = self._clock.now()
        who = msgspec.structs.replace(self._who, token=token)
        self.owner = self._store.register(who, self._threshold_us)
        self.token, self.is_lost = token, False
        self._granted(now.boot_us)
        # Rate-limited: if the files beside the store cannot be made, registering is repeated.
        facts = {"owner": self.owner, "queues": ",".join(self._who.queues)}
        self._repeats.log("registered", logging.INFO, "registered", extra=facts, in_full=2)
        return self.owner

    def leave(self) -> bool:
        """Sign off. False: the store refused; then the next supervisor removes our row, or our lease expires.

        Waits up to 2 s for a busy store, because no job runs that this could delay. In a process that lives
        on (a web server's) the row would look alive until the lease ends, and no one else would supervise.
        """
        until_s = time.monotonic() + _LEAVE_S
        while True:
            try:
                self._store.unregister(self.owner)
            except StoreError as error:
                if isinstance(error, StoreBusy) and time.monotonic() < until_s:
                    sleep(_LEAVE_PAUSE_S)
                    continue
                self._repeats.log(
                    "not signed off",
                    logging.WARNING,
                    "could not sign off; the next supervisor will",
                    extra={"error": str(error)},
                )
                return False
            return True

    def is_trusted(self, now_us: int) -> bool:
        """Whether our jobs are certainly still ours; if not, nothing may be written or claimed."""
        return now_us < self._trusted_until_us

    @property
    def trusted_until_us(self) -> int:
        """Boottime until which our jobs are certainly ours."""
        return self._trusted_until_us

    def distrust(self) -> None:
        """Our registration is gone or useless."""
        self._trusted_until_us, self.is_lost = 0, True

    def may_ask_until_us(self, since_us: int) -> int:
        """Boottime until which a busy store, first asked at `since_us`, may be asked again whether we are
        registered.

        Half of the margin; the other half is for killing what runs. After the lease's end, 250 ms.
        """
        margin = margin_us(self._threshold_us)
        is_over = since_us >= self._trusted_until_us + margin
        return since_us + _ASK_US if is_over else self._trusted_until_us + margin // 2

    def renew_soon(self) -> None:
        """Make the next heartbeat due at once, for the other work done with it."""
        self.next_us = 0

    def renew(self) -> Renewal | None:
        """Renew if due. None: not due, or the store is busy and there is time to try again.

        Raises LeaseLostError, StoreError.
        """
        now = self._clock.now()
        if now.boot_us < self.next_us:
            return None
        try:
            return self._renewed(now)
        except StoreBusy:
            self.next_us = now.boot_us + _RETRY_US
            return None

    def ask(self) -> None:
        """Renew whether due or not, to learn whether we are registered. The next heartbeat is due at once.

        Raises LeaseLostError, StoreError.
        """
        now = self._clock.now()
        self._renewed(now)
        self.next_us = now.boot_us  # for its other work: to reconcile our jobs with the store

    def _renewed(self, now: Instant) -> Renewal:
        renewal = self._store.renew(self.owner, self._threshold_us)
        self._granted(now.boot_us)
        return renewal

    def _granted(self, requested_us: int) -> None:
        # Count from the start of the request, because its answer may be late by any amount.
        self._trusted_until_us = trusted_until_boot_us(requested_us, self._threshold_us)
        self.next_us = requested_us + self._every_us
