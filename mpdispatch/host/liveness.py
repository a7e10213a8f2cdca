"""Which registered supervisors live: the kernel says, else the lease. Runs in supervisors and whoever looks at them."""

from __future__ import annotations

from pathlib import Path

from mpdispatch.clock import Instant
from mpdispatch.host.journal_reader import JournalReader
from mpdispatch.host.processes import pid_namespace, process_start
from mpdispatch.host.start_journal import journal_path
from mpdispatch.ids import boot_id, host_name, machine_id
from mpdispatch.model import PeerSupervisor
from mpdispatch.policy.lease import PeerVerdict, judge_peer

__all__ = ["verdict_on"]


def verdict_on(peer: PeerSupervisor, folder: Path, now: Instant) -> PeerVerdict:
    """What may be concluded about a registered supervisor. `folder` is its runtime folder."""
    return judge_peer(
        peer,
        now=now,
        boot_id=boot_id(),
        machine_id=machine_id(),
        host=host_name(),
        process_is_alive=_is_alive(peer, folder),
    )


def _is_alive(peer: PeerSupervisor, folder: Path) -> bool | None:
    """Alive, gone, or None where the kernel cannot be asked (another boot, another machine; no descriptor left)."""
    if peer.boot_id != boot_id():
        return None
    if peer.pid_namespace == pid_namespace():
        try:
            return process_start(peer.pid) == peer.pid_start
        except OSError:
            return None  # not seen, for want of a descriptor, and not dead
    try:
        reader = JournalReader(journal_path(folder, peer.id))
    except OSError:
        return None
    try:
        return not reader.owner_is_gone()
    finally:
        reader.close()
