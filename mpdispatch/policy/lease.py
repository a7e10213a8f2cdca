"""How long a supervisor's jobs are its own, and what a peer may conclude. Pure: no I/O, no clock.

The store measures leases by a clock of its own and says how much of one is left.
"""

from __future__ import annotations

from enum import StrEnum

from mpdispatch.model import PeerSupervisor

_LEAST_MARGIN_US = 50_000


class PeerVerdict(StrEnum):
    """What an observer may conclude about another supervisor."""

    ALIVE = "alive"
    DEAD = "dead"
    """Its process is gone: nothing of it can write or run any more but left-over workers."""
    EXPIRED = "expired"
    """Its lease ran out; the process may still be there (stopped, cut off): kill its workers first."""


def margin_us(threshold_us: int) -> int:
    """How long before its end a supervisor stops trusting its lease: time to kill its workers.

    10 % of the threshold, at least 50 ms, at most half of the threshold.

    >>> margin_us(30_000_000), margin_us(200_000), margin_us(80_000)
    (3000000, 50000, 40000)
    """
    return min(threshold_us // 2, max(threshold_us // 10, _LEAST_MARGIN_US))


def trusted_until_boot_us(requested_boot_us: int, threshold_us: int) -> int:
    """Boottime until which a supervisor may go on after a renewal that it *began* at `requested_boot_us`.

    From the start of the request: its answer may have been late by any amount.

    >>> trusted_until_boot_us(1_000_000, 30_000_000)
    28000000
    """
    return requested_boot_us + threshold_us - margin_us(threshold_us)


def renew_every_us(heartbeat_us: int, threshold_us: int) -> int:
    """How often to renew: each heartbeat, but twice within the trusted time, so one failed renewal is survived.

    >>> renew_every_us(10_000_000, 30_000_000), renew_every_us(10_000_000, 11_000_000)
    (10000000, 4950000)
    """
    return min(heartbeat_us, trusted_until_boot_us(0, threshold_us) // 2)


def judge_peer(
    peer: PeerSupervisor,
    *,
    boot_id: str,
    machine_id: str,
    host: str,
    process_is_alive: bool | None,
) -> PeerVerdict:
    """Whether the jobs of `peer` may be taken over by an observer with this boot, machine and host.

    `process_is_alive` counts on the same boot only; None: it cannot be known (another pid namespace).

    - Same boot: a process that is gone is DEAD at once.
    - Same machine and host, another boot: DEAD, for that boot is over.
    - Else its lease decides.
    """
    if peer.boot_id == boot_id:
        is_gone = process_is_alive is False
    else:
        # Both must match: cloned machines share a machine id, strangers a host name.
        is_gone = peer.machine_id == machine_id and peer.host == host
    if is_gone:
        return PeerVerdict.DEAD
    return PeerVerdict.ALIVE if peer.lease_left_us > 0 else PeerVerdict.EXPIRED
