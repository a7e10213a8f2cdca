"""Duty: watch the other supervisors of this store, and take over from those that have died. Effects.

a wake-up ──────▶ soon ┐
a peer ends ─────▶ now  ├─▶ look: rescue the dead, watch the living ─▶ again in at most a second
time ───────────────────┘
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from mpdispatch.clock import SECOND_US, Instant
from mpdispatch.host.processes import pid_namespace
from mpdispatch.ids import boot_id
from mpdispatch.model import PeerSupervisor
from mpdispatch.pool.selector import Selected, Selector
from mpdispatch.supervisor.claimer import Claimer
from mpdispatch.supervisor.heartbeat import Heartbeat
from mpdispatch.supervisor.rescue import Rescuer
from mpdispatch.supervisor.runtime import Runtime

_INTERVAL_US = 1_000_000
_WAKE_UP_US = 100_000


class Peers:
    """Due once a second, and when a peer has ended or may have joined. Times are boottime µs."""

    def __init__(
        self, runtime: Runtime, rescuer: Rescuer, heartbeat: Heartbeat, claimer: Claimer, poll_us: int
    ) -> None:
        self._clock, self._watch = runtime.clock, _Watch(runtime.selector)
        self._rescuer, self._heartbeat, self._claimer = rescuer, heartbeat, claimer
        self._interval_us = min(poll_us, _INTERVAL_US)
        self._seen_us = 0
        self._is_sparing = False
        self._given_up: set[int] = set()
        self._at_us = 0
        self.living: list[PeerSupervisor] = []
        """The peers alive at the last look. Written only here."""
        self.has_met = False
        """Whether there has been a peer, alive or killed, since we joined. One that has left in order is none."""

    def hear(self, events: Selected) -> None:
        """Look soon if a peer has ended."""
        if self._watch.heard(events):
            self.look_soon()

    def woken(self) -> None:
        """A new supervisor may have joined. Looks at most once per 100 ms: each enqueue wakes us too."""
        self._at_us = min(self._at_us, self._seen_us + _WAKE_UP_US)

    def look_soon(self) -> None:
        self._at_us = 0

    def put_off(self, now_us: int) -> None:
        """Nothing in the store has changed, so there is no new peer; the kernel reports peers that end."""
        self._at_us = now_us + self._interval_us

    def give_up(self, owner: int) -> None:
        """Let the next look take over the jobs of this old registration of ours, whose workers are killed."""
        self._given_up.add(owner)
        self.look_soon()

    def spare(self) -> None:
        """Skip one look. We were away for longer than a lease; peers may have been too, so let them renew."""
        self._is_sparing = True

    @property
    def is_rescuing(self) -> bool:
        """Whether the rescue of a dead peer has another step."""
        return self._rescuer.again_s is not None

    def next_due(self) -> int:
        return self._at_us

    def run(self, now: Instant) -> None:
        """Take over from dead peers, and watch the living. Raises StoreError."""
        if self._is_sparing:
            self._is_sparing = False
            self.put_off(now.boot_us)
            return
        owner, token = self._heartbeat.owner, self._heartbeat.token
        self.living, took_over = self._rescuer.look(owner, self._given_up, token=token)
        self.has_met = self.has_met or bool(self.living) or took_over
        self._watch.follow(self.living)
        self._seen_us = now.boot_us
        self.put_off(now.boot_us)
        if self._rescuer.again_s is not None:
            self._at_us = self._clock.now().boot_us + round(self._rescuer.again_s * SECOND_US)
        if took_over:
            self._claimer.try_now()

    def close(self) -> None:
        self._watch.close()


class _Watch:
    """Pidfds of living peers in the loop's selector: their end wakes us. Linux, same pid namespace."""

    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        self._watched: dict[int, int] = {}

    def follow(self, peers: Iterable[PeerSupervisor]) -> None:
        """Watch exactly these."""
        wanted = {peer.id: peer for peer in peers if peer.boot_id == boot_id()}
        for owner in set(self._watched) - set(wanted):
            self._drop(owner)
        if sys.platform != "linux":
            return
        for owner, peer in wanted.items():
            if owner in self._watched or peer.pid_namespace != pid_namespace():
                continue
            try:
                descriptor = os.pidfd_open(peer.pid)
            except OSError:
                continue  # It has ended already: the next look takes over from it.
            self._watched[owner] = descriptor
            self._selector.register(descriptor, self, urgent=True)

    def heard(self, events: Selected) -> bool:
        """Whether a peer has just ended. Drops its descriptor, which would keep waking the loop."""
        ended = {key.fd for key, _ in events if key.data is self}
        for owner in [owner for owner, descriptor in self._watched.items() if descriptor in ended]:
            self._drop(owner)
        return bool(ended)

    def _drop(self, owner: int) -> None:
        descriptor = self._watched.pop(owner)
        self._selector.unregister(descriptor)
        os.close(descriptor)

    def close(self) -> None:
        for owner in list(self._watched):
            self._drop(owner)
