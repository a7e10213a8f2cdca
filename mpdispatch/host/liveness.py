"""Which registered supervisors and workers live, by the kernel's answer, else by the lease. Any process."""

from __future__ import annotations

from pathlib import Path

from mpdispatch.host.journal_layout import Mark
from mpdispatch.host.journal_reader import JournalReader
from mpdispatch.host.processes import ProcessId, pid_namespace, process_start
from mpdispatch.host.start_journal import journal_path
from mpdispatch.ids import boot_id, host_name, machine_id
from mpdispatch.model import PeerSupervisor
from mpdispatch.policy.lease import PeerVerdict, judge_peer


def verdict_on(peer: PeerSupervisor, folder: Path) -> PeerVerdict:
    """Whether a registered supervisor lives, as far as known here. `folder` is its runtime folder."""
    return judge_peer(
        peer,
        boot_id=boot_id(),
        machine_id=machine_id(),
        host=host_name(),
        process_is_alive=_is_alive(peer, folder),
    )


def _is_alive(peer: PeerSupervisor, folder: Path) -> bool | None:
    """Alive, gone, or None if the kernel cannot tell (another boot or machine, no descriptor left)."""
    if peer.boot_id != boot_id():
        return None
    if peer.pid_namespace == pid_namespace():
        try:
            return process_start(peer.pid) == peer.pid_start
        except OSError:
            return None  # no descriptor left: unknown, so not dead
    try:
        reader = JournalReader(journal_path(folder, peer.id))
    except OSError:
        return None
    try:
        return not reader.owner_is_gone()
    finally:
        reader.close()


def living_workers(peer: PeerSupervisor, folder: Path) -> list[tuple[ProcessId, Mark | None]]:
    """The workers of a supervisor, by pid, with the last start of each. Empty if they are not visible from here."""
    if peer.boot_id != boot_id() or peer.pid_namespace != pid_namespace():
        return []
    try:
        reader = JournalReader(journal_path(folder, peer.id))
    except OSError:
        return []  # it has just ended, or we may not read the file
    try:
        latest = reader.latest() if reader.is_evidence else {}
    finally:
        reader.close()
    return [(worker, mark) for worker, mark in sorted(latest.items()) if _is_seen(worker)]


def _is_seen(process: ProcessId) -> bool:
    try:
        return process_start(process.pid) == process.start
    except OSError:
        return False  # not visible to us
