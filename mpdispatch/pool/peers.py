"""What the kernel says of another supervisor's process. Runs in supervisors and in whoever looks at them."""

from __future__ import annotations

from pathlib import Path

from mpdispatch.ids import boot_id, pid_namespace, process_start
from mpdispatch.model import PeerSupervisor
from mpdispatch.pool.marks import MarkReader, marks_path

__all__ = ["process_is_alive"]


def process_is_alive(peer: PeerSupervisor, side_dir: Path) -> bool | None:
    """Alive, gone, or None where the kernel cannot be asked (another boot, another machine)."""
    if peer.boot_id != boot_id():
        return None
    if peer.pid_namespace == pid_namespace():
        return process_start(peer.pid) == peer.pid_start
    try:
        reader = MarkReader(marks_path(side_dir, peer.id))
    except OSError:
        return None
    try:
        return not reader.owner_is_gone()
    finally:
        reader.close()
